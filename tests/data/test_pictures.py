"""Folders of numbered pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.video_files import picture, read_number
from uwm.data.corpora import open_corpus
from uwm.data.decoders import BadVideo
from uwm.data.video import probe, read_frames
from uwm.errors import UserError


def write_pictures(folder: Path, names: list[str], size: tuple[int, int] = (80, 48)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(picture(i, *size)).save(folder / name)
    (folder / "fps.txt").write_text("10")
    return folder


@pytest.mark.parametrize(
    "names",
    [
        [f"im_{i}.png" for i in range(36)],
        [f"{i}.png" for i in range(12)],
        [f"frame_{i:04d}.png" for i in range(9_995, 10_005)],
        [f"P01_02-{i}.PNG" for i in range(8, 13)],
        [f"frame{i * 5}.png" for i in range(12)],
    ],
)
def test_pictures_in_the_order_of_their_numbers(tmp_path: Path, names):
    folder = write_pictures(tmp_path / "clip", names)
    found = read_frames(folder, range(len(names)))
    assert [read_number(frame) for frame in found] == list(range(len(names)))
    np.testing.assert_allclose(probe(folder).timestamps, np.arange(len(names)) / 10)


def test_hidden_files_are_no_pictures(tmp_path: Path):
    folder = write_pictures(tmp_path / "clip", ["1.png", "2.png"])
    (folder / "._1.png").write_bytes(b"\0\5\x16\7" + bytes(100))
    assert probe(folder).frames == 2


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["rgb_1.png", "depth_1.png", "rgb_2.png", "depth_2.png"], "2 series"),
        (["1.png", "2.png", "4.png", "5.png"], r"hole after 2\.png"),
        (["frame_01.png", "frame_02.png", "cover.png"], "2 series"),
    ],
)
def test_an_order_that_would_be_a_guess(tmp_path: Path, names, reason):
    folder = write_pictures(tmp_path / "clip", names)
    with pytest.raises(BadVideo, match=reason):
        probe(folder)


def test_broken_and_unequal_pictures(tmp_path: Path):
    folder = write_pictures(tmp_path / "clip", ["1.png", "2.png", "3.png"])
    (folder / "2.png").write_bytes(b"no picture")
    with pytest.raises(BadVideo, match=r"2\.png cannot be decoded"):
        read_frames(folder, [0, 1])
    Image.fromarray(picture(1, 40, 48)).save(folder / "2.png")
    with pytest.raises(BadVideo, match="changes its picture size"):
        read_frames(folder, [0, 1])


def test_a_picture_that_claims_to_be_huge(tmp_path: Path, monkeypatch):
    folder = write_pictures(tmp_path / "clip", ["1.png", "2.png"])
    monkeypatch.setattr("uwm.data.decoders.MAX_PIXELS", 1000)
    with pytest.raises(BadVideo, match="write it smaller"):
        probe(folder)


@pytest.mark.parametrize("text", ["fast", "0", "-3", "nan", "inf", ""])
def test_a_rate_that_is_none(tmp_path: Path, text):
    folder = write_pictures(tmp_path / "clip", ["1.png", "2.png"])
    (folder / "fps.txt").write_text(text)
    with pytest.raises(UserError, match=r"fps\.txt: must hold one number"):
        probe(folder)


def test_folders_of_folders_below_one_rate(tmp_path: Path):
    for split in ("a", "b"):
        for i in range(3):
            write_pictures(tmp_path / split / f"clip{i}", [f"{k}.bmp" for k in range(4)])
            (tmp_path / split / f"clip{i}" / "fps.txt").unlink()
    (tmp_path / "fps.txt").write_text("12")
    clips = open_corpus("frames", tmp_path).clips
    assert [clip.path for clip in clips] == [f"{split}/clip{i}" for split in "ab" for i in range(3)]
    assert probe(tmp_path / clips[0].path).fps == 12
