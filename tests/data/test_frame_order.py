"""Frames are right in every kind of file, whatever it is called: against decoding everything in order."""

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data.video_files import read_number, write_video
from uwm.data import ffmpeg
from uwm.data.containers import counted, scan, spread
from uwm.data.decoders import BadVideo
from uwm.data.ffmpeg import PyAVReader
from uwm.data.video import probe, read_frames, read_whole

CODECS = {
    "b.avi": ("libx264", {"preset": "medium"}),
    "packed.avi": ("mpeg4", {"bf": "2"}),
    "plain.avi": ("mpeg4", {"bf": "0"}),
    "b.ts": ("libx264", {"preset": "medium"}),
    "mpeg2.ts": ("mpeg2video", {"bf": "2"}),
    "b.mpg": ("mpeg2video", {"bf": "2"}),
    "b.flv": ("libx264", {"preset": "medium"}),
    "a.wmv": ("wmv2", {}),
    "a.gif": ("gif", {}),
    "raw.h264": ("libx264", {"preset": "medium"}),
    "raw.h265": ("libx265", {"x265-params": "log-level=none"}),
    "raw.mjpeg": ("mjpeg", {}),
    "open.mp4": ("libx264", {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=10:min-keyint=10"}),
    "open.mkv": ("libx264", {"x264-params": "open-gop=1:bframes=3:b-adapt=0:keyint=10:min-keyint=10"}),
    "open-hevc.mp4": ("libx265", {"x265-params": "open-gop=1:bframes=3:keyint=10:log-level=none"}),
    "refresh.mp4": ("libx264", {"x264-params": "intra-refresh=1:keyint=12:bframes=0"}),
    "mpeg4.mp4": ("mpeg4", {"bf": "2"}),
}
PIXELS = {"a.gif": "rgb8", "raw.mjpeg": "yuvj420p"}


def make(folder: Path, name: str, frames: int = 50) -> Path:
    codec, options = CODECS[name]
    fps = 25 if codec == "mpeg2video" else 10
    pixels = PIXELS.get(name, "yuv420p")
    return write_video(folder / name, frames, fps=fps, codec=codec, gop=12, options=options, pix_fmt=pixels)


def copied(
    source: Path, target: Path, change: Callable[[av.Packet], None] = lambda packet: None, **options: str
) -> Path:
    """The same packets in another container."""
    with av.open(str(source)) as reader, av.open(str(target), "w", options=options) as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        for packet in reader.demux(stream):
            if packet.dts is not None:
                change(packet)
                packet.stream = copy
                writer.mux(packet)
    return target


def check_every_frame(path: Path, expected: list[int]) -> None:
    """One by one, from the back, so that every frame is sought; by time and by place; and as a whole."""
    info = probe(path)
    assert info.frames == len(expected)
    assert np.all(np.diff(info.timestamps) > 0)
    whole = np.concatenate(list(read_whole(path, chunk=16)))
    assert [read_number(frame) for frame in whole] == expected
    places = range(info.frames - 1, -1, -1)
    by_time = [read_number(read_frames(path, [i], times=[info.timestamps[i]])[0]) for i in places]
    assert by_time == expected[::-1]
    together = [info.frames - 1, 0, *range(5, info.frames, 7)]
    found = read_frames(path, together)
    assert [read_number(frame) for frame in found] == [expected[i] for i in together]


@pytest.mark.parametrize("name", CODECS)
def test_every_kind_of_file(tmp_path: Path, name):
    check_every_frame(make(tmp_path, name), list(range(50)))


@pytest.mark.parametrize("name", ["b.avi", "b.ts", "raw.h264", "a.wmv", "open.mp4"])
@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".avi"])
def test_the_name_of_a_file_says_nothing(tmp_path: Path, name, suffix):
    path = tmp_path / f"renamed{suffix}"
    shutil.copy(make(tmp_path, name), path)
    check_every_frame(path, list(range(50)))


def stored_order(packet: av.Packet) -> None:
    packet.pts = packet.dts = packet.dts + round(1 / packet.time_base)  # later by a second: none below 0


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize(
    "options",
    [
        {"preset": "medium"},
        {"x264-params": "bframes=5:b-pyramid=normal:b-adapt=0:keyint=20"},
        {"x264-params": "bframes=1:b-adapt=0:keyint=250"},
        {"preset": "veryfast"},
    ],
)
def test_times_of_storing_are_not_taken_for_times_of_showing(tmp_path: Path, suffix, options):
    source = write_video(tmp_path / "a.mp4", 50, fps=10, gop=20, options=options)
    check_every_frame(copied(source, tmp_path / f"copied{suffix}", stored_order), list(range(50)))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("name", ["open.mp4", "mpeg4.mp4", "open-hevc.mp4"])
def test_key_frames_that_are_shown_later_than_their_times_of_storing(tmp_path: Path, name, suffix):
    """A copy of an AVI whose groups of pictures overlap: pictures stored after a key frame come before it."""
    source = make(tmp_path, name)
    expected = [read_number(frame) for frame in np.concatenate(list(read_whole(source)))]
    check_every_frame(copied(source, tmp_path / f"copied{suffix}", stored_order), expected)


@pytest.mark.parametrize("fps", [10, 25, 30])
@pytest.mark.parametrize("options", [{"preset": "ultrafast"}, {"preset": "medium"}])
def test_a_clock_that_ticks_once_a_frame(tmp_path: Path, fps, options):
    source = write_video(tmp_path / "a.mp4", 40, fps=fps, options=options)
    path = copied(source, tmp_path / "coarse.mp4", video_track_timescale=str(fps))
    with av.open(str(path)) as container:
        assert container.streams.video[0].time_base == Fraction(1, fps)
    check_every_frame(path, list(range(40)))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_thousand_frames_a_second(tmp_path: Path, suffix):
    check_every_frame(write_video(tmp_path / f"slow-motion{suffix}", 60, fps=1000), list(range(60)))


def test_b_frames_of_which_no_time_tells_are_sought_if_they_ascend(tmp_path: Path, monkeypatch):
    """A stream that may have B-frames and has none stores its times in order, as a copy of an AVI does."""
    path = copied(write_video(tmp_path / "a.mp4", 40, options={"preset": "ultrafast"}), tmp_path / "b.mp4")
    monkeypatch.setattr(PyAVReader, "_may_have_b_frames", lambda reader: True)
    decoded = []
    whole = ffmpeg.counted
    monkeypatch.setattr(ffmpeg, "counted", lambda path: decoded.append(path) or whole(path))
    with PyAVReader(path) as reader:
        assert not reader.counts
        assert len(decoded) == 1
        assert [read_number(frame) for frame in reader.read([33, 5])] == [33, 5]


def test_a_stream_with_b_frames_is_sought(tmp_path: Path, monkeypatch):
    def refuse(*_: object) -> None:
        raise AssertionError("counted")

    monkeypatch.setattr("uwm.data.ffmpeg.counted", refuse)
    monkeypatch.setattr("uwm.data.ffmpeg.decoded_in_order", refuse)
    for name, options in (("a", {"preset": "medium"}), ("b", {"preset": "veryfast"}), ("c", {"bf": "16"})):
        check_every_frame(write_video(tmp_path / f"{name}.mp4", 50, options=options), list(range(50)))


@pytest.mark.parametrize("name", ["b.avi", "packed.avi"])
def test_avi_copied_into_matroska(tmp_path: Path, name):
    path = copied(make(tmp_path, name), tmp_path / "copied.mkv")
    check_every_frame(path, list(range(50)))


def all_key(packet: av.Packet) -> None:
    packet.is_keyframe = True


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_key_frames_that_are_none(tmp_path: Path, codec):
    source = write_video(tmp_path / "a.mp4", 40, codec=codec, gop=20, options={"bf": "0"})
    check_every_frame(copied(source, tmp_path / "all-key.mp4", all_key), list(range(40)))


def test_a_recording_that_starts_in_the_middle(tmp_path: Path):
    path = make(tmp_path, "b.ts")
    data = path.read_bytes()
    path.write_bytes(data[188 * (len(data) // 188 // 3) :])
    first = 50 - probe(path).frames
    assert 0 < first < 50
    check_every_frame(path, list(range(first, 50)))


def test_a_clock_that_restarts_is_refused(tmp_path: Path):
    path = make(tmp_path, "mpeg2.ts", 20)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(BadVideo, match=r"joined|clock"):
        probe(path)


def test_frames_with_the_same_time_share_the_time_until_the_next(tmp_path: Path):
    ticks = [0, 1, 1, 2, 4, 4, 4, 5, 6]
    np.testing.assert_allclose(spread(np.array(ticks, float)), [0, 1, 1.5, 2, 4, 4 + 1 / 3, 4 + 2 / 3, 5, 6])
    source = write_video(tmp_path / "a.mkv", 9, fps=10)

    def coarse(packet: av.Packet) -> None:
        packet.pts = packet.dts = [0, 100, 100, 200, 400, 400, 400, 500, 600][round(packet.pts / 100)]

    path = copied(source, tmp_path / "coarse.mkv", coarse)
    assert probe(path).frames == 9
    times = probe(path).timestamps
    found = [read_number(read_frames(path, [i], times=[times[i]])[0]) for i in range(9)]
    assert found == list(range(9))


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
@pytest.mark.parametrize("late", [6, 120])
def test_matroska_that_starts_late_is_whole(tmp_path: Path, suffix, late):
    path = write_video(tmp_path / f"late{suffix}", 30, ticks=range(late, late + 30))
    check_every_frame(path, list(range(30)))
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(BadVideo, match="truncated"):
        probe(cut)


def test_a_raw_stream_has_the_rate_of_its_encoder(tmp_path: Path):
    info = probe(make(tmp_path, "raw.h264"))
    assert info.fps == pytest.approx(10)
    assert info.timestamps[-1] == pytest.approx(4.9)


def with_cover(video: Path, path: Path, *, flagged: bool) -> Path:
    """The video behind a larger cover picture."""
    with av.open(str(video)) as reader, av.open(str(path), "w") as writer:
        cover = writer.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 320, 240, "yuvj420p"
        if flagged:
            cover.disposition = av.stream.Disposition.attached_pic
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        frame = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 200, np.uint8), "rgb24")
        frame.pts = 0
        for packet in [*cover.encode(frame), *cover.encode()]:
            writer.mux(packet)
        for packet in reader.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                writer.mux(packet)
    return path


@pytest.mark.parametrize("flagged", [True, False])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_cover_picture_is_no_video(tmp_path: Path, suffix, flagged):
    source = write_video(tmp_path / "a.mp4", 20)
    path = with_cover(source, tmp_path / f"covered{suffix}", flagged=flagged)
    check_every_frame(path, list(range(20)))


@pytest.mark.parametrize("marked", [0, 1, None])
def test_of_several_videos_the_one_that_ffmpeg_takes(tmp_path: Path, marked):
    """The default one, else the largest; the second is larger and counts from 500."""
    sources = [
        write_video(tmp_path / "a.mp4", 12),
        write_video(tmp_path / "b.mp4", 12, size=(160, 96), first=500),
    ]
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as writer:
        readers = [av.open(str(source)) for source in sources]
        copies = [writer.add_stream_from_template(reader.streams.video[0]) for reader in readers]
        for place, copy in enumerate(copies):
            copy.disposition = av.stream.Disposition.default if place == marked else av.stream.Disposition(0)
        for reader, copy in zip(readers, copies, strict=True):
            for packet in reader.demux(video=0):
                if packet.dts is not None:
                    packet.stream = copy
                    writer.mux(packet)
    first = 0 if marked == 0 else 500
    check_every_frame(path, list(range(first, first + 12)))


@pytest.mark.parametrize(
    ("size", "reason"), [((4096, 16), "as long as wide"), ((6, 6), "at least 8"), ((9000, 6000), "million")]
)
def test_sizes_that_nothing_can_be_done_with(tmp_path: Path, size, reason, monkeypatch):
    if size[0] > 8000:
        monkeypatch.setattr("uwm.data.decoders.MAX_PIXELS", 1_000_000)
        size = (1600, 1200)
    path = write_video(tmp_path / "a.mkv", 3, size=size, codec="ffv1")
    with pytest.raises(BadVideo, match=reason):
        probe(path)


@pytest.mark.parametrize("name", ["a.wmv", "b.avi", "b.ts", "open.mp4"])
def test_decord_by_name_refuses_what_it_gets_wrong(tmp_path: Path, name):
    path = make(tmp_path, name)
    with pytest.raises(BadVideo, match="PyAV"):
        read_frames(path, [30], decoder="decord")


def test_both_indices_are_the_same(tmp_path: Path):
    for name in ("open.mp4", "open.mkv", "open-hevc.mp4"):
        path = make(tmp_path, name)
        np.testing.assert_array_equal(scan(path).pts, counted(path).pts)


def test_places_below_zero(tmp_path: Path):
    with pytest.raises(BadVideo, match="-1"):
        read_frames(write_video(tmp_path / "a.mp4", 5), [-1])
