"""The decoders behind `uwm.data.video`: decord, PyAV, and folders of numbered pictures.

Times count seconds from the first displayed frame. Pictures are upright, RGB, uint8, (H,W,3).
A reader belongs to the process and thread that opened it; all of them decode with one thread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image

from uwm.errors import UserError

try:
    import decord
except ImportError:  # no wheel for this platform
    decord = None

Frames = NDArray[np.uint8]
Times = NDArray[np.float64]
TIME_TOLERANCE = 2e-3  # s; Matroska rounds timestamps to 1 ms
TRUNCATION_TOLERANCE = 0.25  # s missing at the end of a file before it counts as cut off
SEEK_BACK = (0.0, 1.0, 10.0, float("inf"))  # s before the wanted time, tried in turn

av.logging.set_level(None)  # corrupt files are reported by our own errors, once
if decord is not None:
    decord.logging.set_level(decord.logging.QUIET)


class BadVideo(UserError):  # noqa: N818
    """A file that cannot be read as a whole video; the message is `file: reason`."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(str(path), reason)  # both as args, so that it passes between processes
        self.path, self.reason = str(path), reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def reason_of(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "cannot be decoded: " + " ".join(text.split())[:120]


class PyAVReader:
    """FFmpeg through PyAV: right for every file that FFmpeg plays, and seeks without a pass over the file."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._index: Index | None = None
        self._reformatter = VideoReformatter()  # one for all frames: each new one costs more than the frame
        self._open()

    def _open(self) -> None:
        self.container, self.stream = open_stream(self.path)
        self.stream.thread_type = "NONE"
        self._decoding: Iterator[av.VideoFrame] | None = None
        self._position = 0

    def __enter__(self) -> "PyAVReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def index(self) -> "Index":
        """The file's frames; a pass over its packets at the first use."""
        if self._index is None:
            with open_stream(self.path)[0] as container:
                self._index = scan(self.path, container)
        return self._index

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames (n,H,W,3) by place in display order."""
        pts = self.index.pts
        if max(indices) >= len(pts):
            raise BadVideo(self.path, f"has {len(pts)} frames, frame {max(indices)} was asked for")
        return self._read([int(pts[i]) for i in indices])

    def read_at(self, times: Sequence[float]) -> Frames:
        """Frames (n,H,W,3) by their exact timestamps (s from the first frame)."""
        base = float(self.stream.time_base or 1)
        if self._index is None and self.stream.start_time is not None:
            start = self.stream.start_time
        else:
            start = int(self.index.pts[0])
        return self._read([start + round(time / base) for time in times])

    def _read(self, pts: list[int]) -> Frames:
        """Decode in ascending order, whatever the order of `pts`."""
        order = np.argsort(pts, kind="stable")
        out: Frames | None = None
        previous = -1
        try:
            for i in order:
                if previous >= 0 and pts[i] == pts[previous]:
                    picture = out[previous]  # type: ignore[index]
                else:
                    picture = self._picture(pts[i])
                if out is None:
                    out = np.empty((len(pts), *picture.shape), np.uint8)
                elif out.shape[1:] != picture.shape:
                    raise BadVideo(self.path, "changes its picture size")
                out[i], previous = picture, i
        except av.FFmpegError as error:
            raise BadVideo(self.path, reason_of(error)) from None
        assert out is not None
        return out

    def _picture(self, pts: int) -> Frames:
        base = float(self.stream.time_base or 1)
        tolerance = max(1, round(TIME_TOLERANCE / base))
        if self._decoding is not None and self._position < pts and not self._keyframe_before(pts):
            frame = self._advance(pts, tolerance)
            if frame is not None:
                return upright(frame, self._reformatter)
        for back in SEEK_BACK:  # a keyframe may be stored before but shown after the frame that we want
            self._seek(pts, back)
            frame = self._advance(pts, tolerance)
            if frame is not None:
                return upright(frame, self._reformatter)
        raise BadVideo(self.path, f"has no frame at {pts * base:.3f} s; was the file changed?")

    def _keyframe_before(self, pts: int) -> bool:
        """Is there a keyframe between the current position and `pts`, so that seeking saves decoding?"""
        entries = self.stream.index_entries
        place = entries.search_timestamp(pts, backward=True)
        return place >= 0 and entries[place].timestamp > self._position

    def _seek(self, pts: int, back: float) -> None:
        base = float(self.stream.time_base or 1)
        try:
            if np.isinf(back):
                raise av.FFmpegError(0, "from the start")
            self.container.seek(pts - round(back / base), stream=self.stream)
        except av.FFmpegError:  # no index in the file, or nothing to seek to
            self.container.close()
            self._open()
        self._decoding = self.container.decode(self.stream)

    def _advance(self, pts: int, tolerance: int) -> av.VideoFrame | None:
        """Decode up to the frame at `pts`; None when there is none at or after the current position."""
        assert self._decoding is not None
        for frame in self._decoding:
            if frame.pts is None:
                continue
            self._position = frame.pts
            if frame.pts >= pts - tolerance:
                return frame if frame.pts <= pts + tolerance else None
        self._decoding = None
        return None


def open_stream(path: Path | str) -> tuple[av.container.InputContainer, av.VideoStream]:
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadVideo(path, reason_of(error)) from None
    if not container.streams.video:
        container.close()
        raise BadVideo(path, "no video stream")
    return container, container.streams.video[0]


def upright(frame: av.VideoFrame, reformatter: VideoReformatter) -> Frames:
    picture = reformatter.reformat(frame, format="rgb24").to_ndarray()
    turns = round(frame.rotation / 90) % 4  # FFmpeg counts anticlockwise, as numpy does
    return np.ascontiguousarray(np.rot90(picture, turns), dtype=np.uint8)


@dataclass(frozen=True)
class Index:
    """The displayed frames of a video stream in display order."""

    pts: NDArray[np.int64]
    time_base: float

    def times(self) -> Times:
        return (self.pts - self.pts[0]) * self.time_base


def scan(path: Path | str, container: av.container.InputContainer) -> Index:
    """Read every packet, without decoding. `BadVideo` when the file ends before its header says it does."""
    stream = container.streams.video[0]
    pts, end = [], 0.0
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
            if packet.stream.index == stream.index and not packet.is_discard:
                pts.append(start)
    except av.FFmpegError as error:
        raise BadVideo(path, reason_of(error)) from None
    if not pts:
        raise BadVideo(path, "no video frames")
    _check_complete(path, container, end)
    return Index(np.unique(np.asarray(pts, np.int64)), float(stream.time_base or 1))


def _check_complete(path: Path | str, container: av.container.InputContainer, end: float) -> None:
    """Compare with the length in the container's header: a truncated file otherwise only looks shorter.

    (The header's frame count does not serve: it also counts the frames that an edit list hides.)
    """
    if container.duration is None:
        return
    declared = (container.duration + (container.start_time or 0)) / av.time_base
    if declared - end > TRUNCATION_TOLERANCE:
        raise BadVideo(path, f"truncated (ends at {end:.2f} s of {declared:.2f} s)")


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
            raise BadVideo(path, reason_of(error)) from None

    def agrees(self, indices: Sequence[int], times: Times) -> bool:
        """Does decord give these frames these times (s from the first frame)?"""
        if max(indices) >= len(self.video):
            return False
        found = self.video.get_frame_timestamp(list(indices))[:, 0].astype(np.float64) - self.start
        return bool(np.abs(found - times).max() < TIME_TOLERANCE)

    def read(self, indices: Sequence[int]) -> Frames:
        try:
            frames: Frames = self.video.get_batch([int(i) for i in indices]).asnumpy()
        except (RuntimeError, decord.DECORDError, IndexError) as error:
            raise BadVideo(self.path, reason_of(error)) from None
        if frames.shape[-1] != 3:  # what decord makes of a rotation flag
            raise BadVideo(self.path, "decord gives a broken picture")
        return frames


class FolderReader:
    """A folder of numbered JPEG or PNG pictures; its rate stands in a file `fps.txt` in it or above it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.files = picture_files(self.path)
        if not self.files:
            raise BadVideo(path, "no pictures in the folder")
        self.fps = stated_fps(self.path)

    def __len__(self) -> int:
        return len(self.files)

    def times(self) -> Times:
        return np.arange(len(self.files)) / self.fps

    def read(self, indices: Sequence[int]) -> Frames:
        if max(indices) >= len(self.files):
            raise BadVideo(self.path, f"has {len(self.files)} frames, frame {max(indices)} was asked for")
        try:
            pictures = [np.asarray(Image.open(self.files[i]).convert("RGB")) for i in indices]
            return np.stack(pictures)
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all of these for broken files
            raise BadVideo(self.path, reason_of(error)) from None


def picture_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in {".jpg", ".jpeg", ".png"})


def stated_fps(folder: Path) -> float:
    """The number in the nearest `fps.txt` up to two folders above; `UserError` when there is none."""
    for place in (folder, *list(folder.parents)[:2]):
        file = place / "fps.txt"
        if file.is_file():
            try:
                return float(file.read_text())
            except ValueError:
                raise UserError(f"{file}: must hold one number, the frames per second") from None
    raise UserError(f"{folder}: state the rate of these pictures in {folder.parent / 'fps.txt'}, e.g. 12")
