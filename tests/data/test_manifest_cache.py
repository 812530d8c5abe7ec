import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.data.video_files import write_video
from uwm.data import manifest, manifest_cache, sampling
from uwm.data.corpora import Clip, Corpus
from uwm.data.manifest import build_manifest, skipped_path
from uwm.data.manifest_cache import cached_manifest, digests_path


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


def test_of_several_at_a_time_one_makes_it(tmp_path: Path, monkeypatch):
    for i in range(3):
        write_video(tmp_path / "videos" / f"{i}.mp4", 20)
    clips = tuple(Clip(f"{i}.mp4", "train") for i in range(3))
    corpus = Corpus("numbers", tmp_path / "videos", clips)
    made = []

    def slow(*arguments: object, **named: object) -> manifest.Manifest:
        made.append(1)
        time.sleep(0.5)
        return build_manifest(*arguments, **named)

    monkeypatch.setattr(manifest_cache, "build_manifest", slow)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: cached_manifest(tmp_path / "cache", corpus, "train"), range(3)))
    assert len(made) == 1
    assert len({manifest.sha256 for manifest in found}) == 1


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "edited": lambda path: path.write_bytes(path.read_bytes().replace(b"0.mp4", b"1.mp4", 1)),
    "emptied": lambda path: path.write_bytes(b""),
    "without digests": lambda path: digests_path(path).unlink(),
    "with cut digests": lambda path: digests_path(path).write_text("{"),
    "with a list for digests": lambda path: digests_path(path).write_text("[1]"),
    "skipped clips gone": lambda path: skipped_path(path).unlink(),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_manifest_is_said_and_made_again(how: str, tmp_path: Path, capsys):
    write_video(tmp_path / "videos" / "0.mp4", 20, fps=30)
    corpus = Corpus("numbers", tmp_path / "videos", (Clip("0.mp4", "train"),))
    made = cached_manifest(tmp_path / "cache", corpus, "train", pairs_per_clip=2, seed=1)
    (path,) = (path for path in (tmp_path / "cache").glob("*.csv") if "skipped" not in path.name)
    whole = path.read_bytes()
    DAMAGES[how](path)
    again = cached_manifest(tmp_path / "cache", corpus, "train", pairs_per_clip=2, seed=1)
    assert (again.sha256, path.read_bytes()) == (made.sha256, whole)
    error = capsys.readouterr().err
    assert error.startswith(f"manifest {path}: ")
    assert error.count("\n") == 1
    cached_manifest(tmp_path / "cache", corpus, "train", pairs_per_clip=2, seed=1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("pairs", [None, 12])
def test_a_stopped_run_goes_on(tmp_path: Path, monkeypatch, pairs):
    for i in range(8):
        write_video(tmp_path / "v" / f"{i}.mp4", 20, fps=29.97)
    (tmp_path / "v" / "8.mp4").write_bytes(b"")
    corpus = Corpus("numbers", tmp_path / "v", tuple(Clip(f"{i}.mp4", "train") for i in range(9)))
    whole = build_manifest(corpus, "train", pairs=pairs)
    probe, opened = sampling.probe, []

    def dying(path: Path):
        opened.append(path.name)
        if len(opened) == 5:
            raise KeyboardInterrupt
        return probe(path)

    monkeypatch.setattr(sampling, "probe", dying)
    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        cached_manifest(cache, corpus, "train", pairs=pairs)
    [journal] = cache.glob("*.journal")
    journal.write_text(journal.read_text() + '{"clip": "5.mp4", "rea')  # a line that was cut off
    again = cached_manifest(cache, corpus, "train", pairs=pairs)
    assert again.sha256 == whole.sha256
    assert again.skipped == whole.skipped
    assert len(opened) == len(set(opened)) + 1  # only the one that died was opened twice
    assert not list(cache.glob("*.journal"))
