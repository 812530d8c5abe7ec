"""Frames of one video file: which there are (`probe`), and their pixels (`read_frames`).

A frame's index is its place in display order; its timestamp counts seconds from the first displayed frame,
as stored in the file (so a variable rate stays what it is). Frames come upright (rotation flags applied),
RGB, uint8.

Two decoders stand behind one interface. decord is the default. PyAV is the fallback, and is taken whenever
decord cannot open a file or gives other frames than the container promises: it keeps frames that an edit list
cuts away, and returns broken pictures for files with a rotation flag.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from uwm.errors import UserError

try:
    import decord
except ImportError:  # no wheel for this platform
    decord = None

Frames = NDArray[np.uint8]
DecoderName = Literal["auto", "decord", "pyav"]
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"}
)
TIME_TOLERANCE = 2e-3  # s; Matroska rounds timestamps to 1 ms
TRUNCATION_TOLERANCE = 0.25  # s missing at the end of a file before it counts as cut off

av.logging.set_level(None)  # corrupt files are reported by our own errors, once
if decord is not None:
    decord.logging.set_level(decord.logging.QUIET)


class BadVideo(UserError):  # noqa: N818
    """A file that cannot be read as a whole video; the message is `file: reason`."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = str(path), reason


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds. `timestamps` (frames,) in seconds from the first frame; upright size in pixels."""

    frames: int
    fps: float
    width: int
    height: int
    timestamps: NDArray[np.float64]
    rotation: int = 0


class Reader(Protocol):
    """An open video. It belongs to the process and thread that opened it."""

    def times(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Timestamps (n,) in seconds from the first frame."""

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames (n,H,W,3) RGB uint8 in the order of `indices`."""


@dataclass(frozen=True)
class _Index:
    """The displayed frames of a stream in display order, from its packets, without decoding."""

    pts: NDArray[np.int64]
    keys: list[tuple[int, int]]  # (pts, dts) of the keyframes, ascending
    time_base: float

    def times(self) -> NDArray[np.float64]:
        return (self.pts - self.pts[0]) * self.time_base


def _open(path: Path | str) -> tuple[av.container.InputContainer, av.VideoStream]:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadVideo(path, _reason(error)) from None
    if not container.streams.video:
        container.close()
        raise BadVideo(path, "no video stream")
    return container, container.streams.video[0]


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "cannot be decoded: " + " ".join(text.split())[:120]


def _scan(path: Path | str, container: av.container.InputContainer, stream: av.VideoStream) -> _Index:
    """Read every packet's header. Raises `BadVideo` when the file ends before its container says it does."""
    pts, keys, end = [], [], 0.0
    try:
        for packet in container.demux():
            if packet.size == 0:
                continue
            if packet.is_corrupt:
                raise BadVideo(path, "truncated (a packet is cut off)")
            start = packet.pts if packet.pts is not None else packet.dts
            if start is None:
                continue
            end = max(end, float((start + (packet.duration or 0)) * packet.time_base))
            if packet.stream.index != stream.index:
                continue
            if packet.is_keyframe:
                keys.append((start, start if packet.dts is None else packet.dts))
            if not packet.is_discard:
                pts.append(start)
    except av.FFmpegError as error:
        raise BadVideo(path, _reason(error)) from None
    if not pts or not keys:
        raise BadVideo(path, "no video frames")
    _check_complete(path, container, end)
    return _Index(np.unique(np.asarray(pts, np.int64)), sorted(keys), float(stream.time_base or 0))


def _check_complete(path: Path | str, container: av.container.InputContainer, end: float) -> None:
    """Compare with the length in the container's header: a truncated file otherwise only looks shorter.

    (The header's frame count does not serve: it also counts the frames that an edit list hides.)
    """
    if container.duration is None:
        return
    declared = (container.duration + (container.start_time or 0)) / av.time_base
    if declared - end > TRUNCATION_TOLERANCE:
        raise BadVideo(path, f"truncated (ends at {end:.2f} s of {declared:.2f} s)")


def _upright(frame: av.VideoFrame) -> Frames:
    picture = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4  # FFmpeg counts anticlockwise, as numpy does
    return np.ascontiguousarray(np.rot90(picture, turns), dtype=np.uint8)


def probe(path: Path | str) -> VideoInfo:
    """Read a file's frame times and decode its first frame. `BadVideo` for unreadable or truncated files."""
    with PyAVReader(path) as reader:
        first = reader.read([0])[0]
        rate = reader.stream.average_rate
        rotation = reader.rotation
    times = reader.index.times()
    fps = float(rate) if rate else (len(times) - 1) / times[-1] if len(times) > 1 else 0.0
    return VideoInfo(len(times), fps, first.shape[1], first.shape[0], times, rotation)


class PyAVReader:
    """FFmpeg through PyAV: exact for every file that FFmpeg plays; one seek per group of pictures."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self.container, self.stream = _open(path)
        self.stream.thread_type = "NONE"
        self.rotation = 0
        try:
            self.index = _scan(path, self.container, self.stream)
        except BadVideo:
            self.container.close()
            raise

    def __enter__(self) -> "PyAVReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def times(self, indices: Sequence[int]) -> NDArray[np.float64]:
        return self.index.times()[list(indices)]

    def read(self, indices: Sequence[int]) -> Frames:
        wanted = sorted({int(self.index.pts[i]) for i in indices})
        try:
            found = self._decode(wanted)
        except av.FFmpegError as error:
            raise BadVideo(self.path, _reason(error)) from None
        missing = [pts for pts in wanted if pts not in found]
        if missing:
            raise BadVideo(self.path, f"{len(missing)} of {len(wanted)} frames cannot be decoded")
        return np.stack([found[int(self.index.pts[i])] for i in indices])

    def _decode(self, wanted: list[int]) -> dict[int, Frames]:
        """Group the wanted times by the keyframe before them; one seek per group."""
        groups: dict[int, list[int]] = {}
        for pts in wanted:
            before = [dts for key, dts in self.index.keys if key <= pts] or [self.index.keys[0][1]]
            groups.setdefault(before[-1], []).append(pts)
        found: dict[int, Frames] = {}
        for key, group in groups.items():
            self.container.seek(key, stream=self.stream)
            for frame in self.container.decode(self.stream):
                if frame.pts in group:
                    found[frame.pts] = _upright(frame)
                    self.rotation = frame.rotation
                if frame.pts is not None and frame.pts >= group[-1]:
                    break
        return found


class DecordReader:
    """decord with one thread. Raises `BadVideo` where it cannot open or decode a file."""

    def __init__(self, path: Path | str) -> None:
        if decord is None:
            raise BadVideo(path, "decord is not installed")
        self.path = path
        try:
            self.video = decord.VideoReader(str(path), num_threads=1)
            self.start = float(self.video.get_frame_timestamp([0])[0, 0])
        except (RuntimeError, decord.DECORDError, IndexError) as error:
            raise BadVideo(path, _reason(error)) from None

    def __len__(self) -> int:
        return len(self.video)

    def times(self, indices: Sequence[int]) -> NDArray[np.float64]:
        return self.video.get_frame_timestamp(list(indices))[:, 0].astype(np.float64) - self.start

    def read(self, indices: Sequence[int]) -> Frames:
        try:
            frames: Frames = self.video.get_batch([int(i) for i in indices]).asnumpy()
        except (RuntimeError, decord.DECORDError, IndexError) as error:
            raise BadVideo(self.path, _reason(error)) from None
        if frames.shape[-1] != 3:  # what decord makes of a rotation flag
            raise BadVideo(self.path, "decord gives a broken picture")
        return frames


def read_frames(
    path: Path | str,
    indices: Sequence[int],
    *,
    times: Sequence[float] | None = None,
    decoder: DecoderName = "auto",
) -> Frames:
    """Decode frames by index: (n,H,W,3) RGB uint8, upright, in the order of `indices`.

    `times` (s from the first frame) are what a manifest says of these indices. With "auto", decord's result
    is kept only when its timestamps agree with them (or, without `times`, with the container's); else PyAV
    decodes.
    Raises `BadVideo` when neither decoder can.
    """
    if decoder == "pyav" or (decoder == "auto" and decord is None):
        return _read_pyav(path, indices, times)
    if decoder == "decord":
        return DecordReader(path).read(indices)
    expected = _expected_times(path, indices) if times is None else np.asarray(times)
    try:
        reader = DecordReader(path)
        if max(indices) < len(reader) and np.abs(reader.times(indices) - expected).max() < TIME_TOLERANCE:
            return reader.read(indices)
    except BadVideo:
        pass  # PyAV's error, if it fails too, is the one to show
    return _read_pyav(path, indices, times)


def _expected_times(path: Path | str, indices: Sequence[int]) -> NDArray[np.float64]:
    container, stream = _open(path)
    with container:
        return _scan(path, container, stream).times()[list(indices)]


def _read_pyav(path: Path | str, indices: Sequence[int], times: Sequence[float] | None) -> Frames:
    with PyAVReader(path) as reader:
        if max(indices) >= len(reader.index.pts):
            raise BadVideo(path, f"has {len(reader.index.pts)} frames, frame {max(indices)} was asked for")
        if times is not None and np.abs(reader.times(indices) - np.asarray(times)).max() > TIME_TOLERANCE:
            raise BadVideo(path, "its frame times are not those of the manifest: make the manifest again")
        return reader.read(indices)
