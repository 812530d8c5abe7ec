from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.data.video_files import (
    read_number,
    set_display_matrix,
    trim_with_edit_list,
    truncate,
    write_video,
)
from uwm.data.video import BadVideo, probe, read_frames, read_whole

RATES = [("a.webm", 12), ("a.mp4", 25), ("b.mp4", Fraction(30000, 1001)), ("c.mp4", 60), ("b.webm", 30)]
VARIABLE = [0, 1, 2, 4, 5, 9, 10, 11, 14, 15, 16, 18, 20, 23, 24, 25, 26, 30, 31, 32]


def numbers(frames: np.ndarray) -> list[int]:
    return [read_number(frame) for frame in frames]


@pytest.mark.parametrize("decoder", ["auto", "decord", "pyav"])
@pytest.mark.parametrize(("name", "fps"), RATES)
def test_frames_and_times_of_constant_rate(tmp_path: Path, decoder, name, fps):
    path = write_video(tmp_path / name, 40, fps=fps)
    info = probe(path)
    assert (info.frames, info.width, info.height) == (40, 80, 48)
    assert info.fps == pytest.approx(float(fps), rel=1e-3)
    np.testing.assert_allclose(info.timestamps, np.arange(40) / float(fps), atol=1e-3)
    indices = [37, 0, 13, 12, 11, 39, 13]
    assert numbers(read_frames(path, indices, decoder=decoder)) == indices


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
def test_variable_rate(tmp_path: Path, suffix):
    path = write_video(tmp_path / f"v{suffix}", 20, fps=10, ticks=VARIABLE)
    info = probe(path)
    np.testing.assert_allclose(info.timestamps, np.array(VARIABLE) / 10, atol=1e-3)
    for decoder in ("auto", "decord", "pyav"):
        assert numbers(read_frames(path, range(20), decoder=decoder)) == list(range(20))


def test_decoders_agree_on_every_pixel(tmp_path: Path):
    for name in ("a.mp4", "a.webm", "a.mkv"):
        path = write_video(tmp_path / name, 25, fps=25, size=(96, 64))
        ours = read_frames(path, range(25), decoder="decord")
        other = read_frames(path, range(25), decoder="pyav")
        np.testing.assert_array_equal(ours, other)


QUARTER = {"upright": (1, 0, 0, 1), "a turn": (0, 1, -1, 0), "half": (-1, 0, 0, -1), "back": (0, -1, 1, 0),
           "mirror": (-1, 0, 0, 1), "upside down": (1, 0, 0, -1), "diagonal": (0, 1, 1, 0),
           "other diagonal": (0, -1, -1, 0)}  # fmt: skip


@pytest.mark.parametrize(("a", "b", "c", "d"), QUARTER.values(), ids=QUARTER)
def test_every_display_matrix_is_applied(tmp_path: Path, a, b, c, d):
    """It says where a place of the stored picture is shown: (x', y') = (a x + c y, b x + d y)."""
    path = write_video(tmp_path / "plain.mp4", 3, size=(80, 48))
    stored = read_frames(path, [2])[0]
    set_display_matrix(path, (a, b, c, d))
    shown = read_frames(path, [2])[0]
    height, width = stored.shape[:2]
    size = (height, width) if a else (width, height)
    assert shown.shape[:2] == size
    y, x = np.mgrid[:height, :width]
    across, down = 2 * x - (width - 1), 2 * y - (height - 1)
    new_x, new_y = a * across + c * down, b * across + d * down
    np.testing.assert_array_equal(shown[(new_y + size[0] - 1) // 2, (new_x + size[1] - 1) // 2], stored)


@pytest.mark.parametrize("name", QUARTER)
def test_decord_reads_what_is_upright_or_upside_down(tmp_path: Path, name):
    path = write_video(tmp_path / "plain.mp4", 3, size=(64, 64))
    set_display_matrix(path, QUARTER[name])
    if name in ("upright", "half"):
        by_decord = read_frames(path, [2], decoder="decord")
        np.testing.assert_array_equal(by_decord, read_frames(path, [2]))
    else:
        with pytest.raises(BadVideo, match="turned and mirrored pictures wrong; read it with PyAV"):
            read_frames(path, [2], decoder="decord")


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_flag_is_applied(tmp_path: Path, rotation):
    path = write_video(tmp_path / "phone.mp4", 20, rotation=rotation)
    info = probe(path)
    assert (info.width, info.height) == (80, 48)
    frames = read_frames(path, [3, 17])
    assert frames.shape == (2, 48, 80, 3)
    assert numbers(frames) == [3, 17]


@pytest.mark.parametrize(
    ("name", "size", "pix_fmt"),
    [
        ("odd.webm", (107, 61), "yuv420p"),
        ("odd.mp4", (107, 61), "yuv444p"),
        ("grey.mp4", (80, 48), "gray"),
        ("deep.mp4", (80, 48), "yuv420p10le"),
    ],
)
def test_odd_sizes_grey_and_ten_bits(tmp_path: Path, name, size, pix_fmt):
    path = write_video(tmp_path / name, 12, size=size, pix_fmt=pix_fmt)
    frames = read_frames(path, [2, 11])
    assert frames.shape == (2, size[1], size[0], 3)
    assert numbers(frames) == [2, 11]
    other = read_frames(path, [2, 11], decoder="pyav")
    assert np.abs(frames.astype(int) - other).mean() < 2  # chroma is upsampled differently at edges


def test_edit_list_hides_frames_and_falls_back(tmp_path: Path):
    whole = write_video(tmp_path / "whole.mp4", 36, gop=12)
    path = trim_with_edit_list(whole, tmp_path / "edit.mp4", 1.0)
    info = probe(path)
    assert info.frames == 24
    assert numbers(read_frames(path, [0, 5, 23])) == [12, 17, 35]
    assert numbers(read_frames(path, [0, 5], times=info.timestamps[[0, 5]].tolist())) == [12, 17]


def test_late_start_counts_from_the_first_frame(tmp_path: Path):
    path = write_video(tmp_path / "late.mp4", 20, ticks=range(7, 27))
    assert probe(path).timestamps[0] == 0
    assert numbers(read_frames(path, [0, 19])) == [0, 19]


def test_frames_between_open_gop_keyframes(tmp_path: Path):
    params = {"preset": "medium", "x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=10:min-keyint=10"}
    path = write_video(tmp_path / "b.mp4", 60, options=params)
    for decoder in ("auto", "pyav"):
        for start in range(60):
            assert numbers(read_frames(path, [start, 59 - start], decoder=decoder)) == [start, 59 - start]
    with pytest.raises(BadVideo, match="B-frames"):  # decord would give wrong ones
        read_frames(path, [5], decoder="decord")
    times = probe(path).timestamps
    assert all(numbers(read_frames(path, [i], times=[times[i]], decoder="pyav")) == [i] for i in range(60))


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv"])
@pytest.mark.parametrize("share", [0.9, 0.5, 0.02])
def test_truncated_files_are_bad(tmp_path: Path, name, share):
    path = truncate(write_video(tmp_path / name, 60, size=(160, 96)), share)
    with pytest.raises(BadVideo, match=name):
        probe(path)
    with pytest.raises(BadVideo):
        read_frames(path, [0, 59])


@pytest.mark.parametrize("content", [b"", b"this is text, not a video\n" * 50, bytes(4096)])
def test_files_that_are_no_videos(tmp_path: Path, content):
    path = tmp_path / "fake.mp4"
    path.write_bytes(content)
    with pytest.raises(BadVideo, match=r"fake\.mp4"):
        probe(path)
    with pytest.raises(BadVideo):
        read_frames(path, [0], times=[0.0])


def test_index_beyond_the_end_and_wrong_times(tmp_path: Path):
    path = write_video(tmp_path / "a.mp4", 12)
    with pytest.raises(BadVideo, match="no frame"):
        read_frames(path, [12], times=[1.0])
    with pytest.raises(BadVideo, match="file changed"):
        read_frames(path, [3], times=[0.9])


def test_long_files_are_read_by_seeking(tmp_path: Path, monkeypatch):
    path = write_video(tmp_path / "long.mp4", 90, fps=30, gop=10)
    times = probe(path).timestamps

    def refuse(*_: object) -> None:
        raise AssertionError("a long file must not be read as a whole")

    monkeypatch.setattr("uwm.data.ffmpeg.scan", refuse)
    monkeypatch.setattr("uwm.data.ffmpeg.counted", refuse)
    indices = [71, 5, 77, 11, 11]
    assert numbers(read_frames(path, indices, times=times[indices].tolist())) == indices


def test_missing_file(tmp_path: Path):
    with pytest.raises(BadVideo, match=r"gone\.mp4"):
        read_frames(tmp_path / "gone.mp4", [0])


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"preset": "medium"}),
        ("a.mp4", "mpeg4", {"bf": "2"}),
        (
            "a.webm",
            "libvpx-vp9",
            {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"},
        ),
    ],
)
def test_frames_stored_out_of_order(tmp_path: Path, name, codec, options):
    path = write_video(tmp_path / name, 50, codec=codec, gop=12, options=options)
    for i in range(50):
        assert numbers(read_frames(path, [i, max(0, i - 3)])) == [i, max(0, i - 3)]


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_a_whole_video_in_pieces(tmp_path: Path, name):
    path = write_video(tmp_path / name, 40, gop=15)
    parts = list(read_whole(path, chunk=16))
    assert [len(part) for part in parts] == [16, 16, 8]
    assert numbers(np.concatenate(parts)) == list(range(40))
