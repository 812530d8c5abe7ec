"""The lists of pairs are the same bytes as ever: training and records are named by them."""

import hashlib
import pickle
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from uwm.data import manifest
from uwm.data.corpora import Clip, Corpus
from uwm.data.sampling import nearest_pairs
from uwm.data.video import BadVideo, VideoInfo

CLIPS = 60
CORPUS = Corpus("made", Path("/nowhere"), tuple(Clip(f"a{i % 7}/{i:02d}.mp4", "train") for i in range(CLIPS)))
# (pairs, or if negative of each clip; seed; pairs of a visit): the list's sha256
LISTS = {
    (None, 0, 1): "b5f7785b6855508c",
    (7, 0, 1): "4081f6e768921cc5",
    (7, 1, 8): "67310a03081a894e",
    (7, 7, 1): "a24e4494a30c3592",
    (60, 0, 1): "07687b6ecd371674",
    (60, 1, 8): "1c7589a6ffa062e7",
    (60, 7, 1): "9bf3f07833feb713",
    (500, 0, 1): "38d48f2f0f50239c",
    (500, 1, 8): "d646b4dce744e5d1",
    (500, 7, 1): "54986bd805bee9b6",
    (4000, 0, 1): "77e5dc90faa6ecbd",
    (4000, 1, 8): "2d918a10117ce775",
    (4000, 7, 1): "adabbdba9f2a0093",
    (100000, 0, 1): "b5f7785b6855508c",
    (-3, 0, 1): "57c971c945169b11",
    (-3, 1, 8): "2fc0f6f8586adc16",
    (-3, 7, 1): "a9c47c18470b9198",
}


def made_pairs(file: Path, gap: float, _: object) -> tuple[VideoInfo, np.ndarray]:
    """Of clips of 2 to 260 frames at several rates; some give none."""
    number = int(file.stem)
    if number % 9 == 4:
        raise BadVideo(file, "is bad")
    frames, rate = 2 + (number * 37) % 259, (10.0, 29.97, 25.0, 12.0)[number % 4]
    times = np.arange(frames) / rate
    found = nearest_pairs(times, gap)
    if len(found) == 0:
        raise BadVideo(file, "too short")
    return VideoInfo(frames, rate, 320 + number, 240, times), found


@pytest.mark.parametrize(("pairs", "seed", "visit"), LISTS)
def test_lists_are_the_same_bytes_as_ever(tmp_path, monkeypatch, pairs, seed, visit):
    monkeypatch.setenv("UWM_MAX_BAD_SHARE", "0.3")
    monkeypatch.setattr(manifest, "clip_pairs", made_pairs)
    monkeypatch.setattr(manifest, "content_hash", lambda file: hashlib.sha256(str(file).encode()).hexdigest())
    asked = {"pairs_per_clip": -pairs} if pairs and pairs < 0 else {"pairs": pairs}
    asked |= {"seed": seed, "pairs_per_visit": visit}
    fresh = manifest.build_manifest(CORPUS, "train", **asked)
    assert fresh.sha256[:16] == LISTS[pairs, seed, visit]
    kinds = [str(kind) for kind in fresh.table.dtypes[1:9]]
    assert kinds == ["float64"] * 3 + ["int64"] * 4 + ["float64"]
    describe = manifest._describe

    def stopping(*arguments):
        if arguments[-1].path.endswith("35.mp4"):
            raise KeyboardInterrupt
        return describe(*arguments)

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):  # or it is full before
        patch.setattr(manifest, "_describe", stopping)
        manifest.build_manifest(CORPUS, "train", journal=tmp_path / "x.journal", **asked)
    again = manifest.build_manifest(CORPUS, "train", journal=tmp_path / "x.journal", **asked)
    assert again.sha256 == fresh.sha256
    assert again.table.equals(fresh.table)


def test_a_clip_takes_little_memory():
    """Of 100,000 clips, which may each offer 120 pairs: half a gigabyte, not two."""
    offer = manifest.offer_of("a.mp4", *made_pairs(Path("6.mp4"), 0.2, None), "0" * 64).part(0, 120)
    assert len(offer) == 120
    assert offer.part(1).frames.base is not None  # what is spare is no copy
    assert len(pickle.dumps(offer)) < 6000
