from pathlib import Path

import pytest

from tests.data.video_files import write_video
from uwm.data import manifest_cache
from uwm.data.corpora import Clip, Corpus
from uwm.data.manifest import build_manifest
from uwm.data.manifest_cache import cached_manifest


def test_made_once_and_again_when_a_file_changes(tmp_path: Path, monkeypatch):
    for i in range(3):
        write_video(tmp_path / "videos" / f"{i}.mp4", 20, fps=29.97)
    (tmp_path / "videos" / "bad.mp4").write_bytes(b"")
    clips = tuple(Clip(f"{name}.mp4", "train") for name in ("0", "1", "2", "bad"))
    corpus = Corpus("numbers", tmp_path / "videos", clips)
    fresh = build_manifest(corpus, "train", pairs_per_clip=2, seed=1)
    made = cached_manifest(tmp_path / "cache", corpus, "train", pairs_per_clip=2, seed=1)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    with monkeypatch.context() as patch:
        patch.setattr(manifest_cache, "build_manifest", refuse)
        kept = cached_manifest(tmp_path / "cache", corpus, "train", pairs_per_clip=2, seed=1)
        with pytest.raises(AssertionError, match="made again"):
            cached_manifest(tmp_path / "cache", corpus, "train", pairs_per_clip=2, seed=2)
    assert fresh.sha256 == made.sha256 == kept.sha256
    assert fresh.skipped == made.skipped == kept.skipped
    write_video(tmp_path / "videos" / "0.mp4", 30, fps=29.97)
    changed = cached_manifest(tmp_path / "cache", corpus, "train", pairs_per_clip=2, seed=1)
    assert changed.sha256 != made.sha256
