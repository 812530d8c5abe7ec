"""A corpus of 1,000 clips with 50 bad ones: every good clip is used, every bad one named once."""

import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data.video_files import truncate, write_video
from uwm.data.corpora import Clip, Corpus
from uwm.data.manifest import build_manifest
from uwm.data.stream import video_stream
from uwm.data.video import BadVideo, probe
from uwm.errors import UserError


def write_sound(path: Path) -> None:
    """A file with a sound track and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("thousand")
    good = [write_video(folder / f"source{i}.mp4", 5, fps=10, size=(32, 32)) for i in range(3)]
    cut = truncate(write_video(folder / "cut.webm", 60, size=(64, 48)), 0.5)
    write_sound(folder / "sound.mp4")
    for i in range(1000):
        path = folder / f"{i:04d}.mp4"
        kind = i // 20 % 5 if i % 20 == 7 else 5
        if kind == 0:
            shutil.copy(cut, path.with_suffix(".webm"))
        elif kind == 1:
            path.write_bytes(b"")
        elif kind == 2:
            path.write_text("a text file\n" * 20)
        elif kind == 3:
            shutil.copy(folder / "sound.mp4", path)
        elif kind == 4:
            shutil.copy(good[0], path)
            truncate(path, 0.7)
        else:
            shutil.copy(good[i % 3], path)
    files = sorted(file.name for file in folder.iterdir() if file.stem.isdigit())
    assert len(files) == 1000
    return Corpus("thousand", folder, tuple(Clip(name, "train") for name in files))


def test_every_good_clip_is_used_and_every_bad_one_named_once(corpus):
    manifest = build_manifest(corpus, "train", pairs_per_clip=1)
    bad = [clip.path for i, clip in enumerate(corpus.clips) if i % 20 == 7]
    assert [name for name, _ in manifest.skipped] == bad
    assert manifest.table.video.nunique() == 950
    stream = video_stream(corpus, manifest, 32, 50, short_side=32)
    batches = stream.batches()
    for _ in range(stream.steps_per_epoch()):
        assert next(batches).shape == (50, 2, 3, 32, 32)
    assert stream.bad.skipped == []
    reasons = " ".join(reason for _, reason in manifest.skipped)
    for part in ("truncated", "no video stream", "cannot be decoded"):
        assert part in reasons


def test_more_than_the_stated_share_stops(corpus):
    with pytest.raises(UserError, match="more than the allowed share"):
        build_manifest(corpus, "train", pairs_per_clip=1, max_bad_share=0.02)


@pytest.mark.parametrize(
    "name", ["a:b.mp4", "-x.mp4", "%03d.mp4", "pipe:0.mp4", "q?x#y.mp4", "http:/w/v.mp4", "data:,.mp4"]
)
def test_no_name_of_a_file_is_an_address(tmp_path: Path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "plain.mp4", 3)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy("plain.mp4", Path(name))
    assert probe(name).frames == 3


PLAYLISTS = {
    "by name": "ffconcat version 1.0\nfile plain.mp4\n",
    "by path": "ffconcat version 1.0\nfile '{folder}/plain.mp4'\n",
    "segments": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nplain.mp4\n#EXT-X-ENDLIST\n",
    "elsewhere": "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
}


@pytest.mark.parametrize("text", PLAYLISTS.values(), ids=PLAYLISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8"])
def test_a_list_of_other_files_is_no_video(tmp_path: Path, text, suffix):
    write_video(tmp_path / "plain.mp4", 3)
    path = tmp_path / f"list{suffix}"
    path.write_text(text.format(folder=tmp_path))
    with pytest.raises(BadVideo, match=r"playlist|cannot be decoded"):
        probe(path)


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    for name in ("pipe.mp4", "zero.mp4"):
        with pytest.raises(BadVideo, match="no regular file"):
            probe(tmp_path / name)
