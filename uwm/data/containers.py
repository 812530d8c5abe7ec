"""What a video file holds, by its packets or by decoding everything in order; and how it is opened.

The reference for everything here is that decoding: the i-th picture that comes out is frame i. The container
is recognised by its content, whatever the file is called.
"""

import functools
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from uwm.data.decoders import BadVideo, Times, check_size, reason_of

TRUNCATION_TOLERANCE = 0.25  # s missing at the end of a file before it counts as cut off
SEEKABLE = ("mov,mp4", "matroska")  # beginnings of FFmpeg's names of the containers that are read by seeking
PLAYLISTS = ("concat", "hls", "dash", "imf", "sdp", "image2")  # what is read from files beside them
STILL_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "webp", "tiff"})  # of cover pictures

av.logging.set_level(None)  # corrupt files are reported by our own errors, once


class NotSeekable(Exception):  # noqa: N818
    """The file breaks a promise that seeking relies on."""


@dataclass(frozen=True)
class Index:
    """The displayed frames of a video stream in display order; their times ascend."""

    pts: NDArray[Any]
    time_base: float
    ascends: bool = True  # decoded in order, each picture's own time is later than the last one's

    def times(self) -> Times:
        return (self.pts - self.pts[0]) * self.time_base


def open_stream(path: Path | str) -> tuple[av.container.InputContainer, av.VideoStream]:
    """The container and its video, decoded by one thread. `BadVideo` where there is none to read.

    Of a regular file alone, and from nothing else: FFmpeg takes `a:b.mp4` for an address, waits for ever at a
    named pipe, and follows playlists to other files, whatever they are called.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise BadVideo(path, "is no regular file")
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadVideo(path, reason_of(error)) from None
    try:
        if container.format.name.startswith(PLAYLISTS):
            raise BadVideo(path, f"is a playlist ({container.format.name}) of other files; name these")
        if not container.streams.video:
            raise BadVideo(path, "no video stream")
        # a stream of a codec that FFmpeg does not know has no context
        known = [stream for stream in container.streams.video if stream.codec_context is not None]
        if not known:
            raise BadVideo(path, "no video stream that FFmpeg can decode")
        stream = max(known, key=_how_likely)  # the first of equals
        check_size(path, stream.codec_context.width, stream.codec_context.height)
        stream.thread_type = "NONE"
    except BadVideo:
        container.close()
        raise
    return container, stream


def _how_likely(stream: av.VideoStream) -> tuple[bool, bool, bool, int]:
    """The video itself is no cover picture; of several the one marked as default, then the largest, as
    ffmpeg takes it."""
    flags, context = stream.disposition, stream.codec_context
    cover = bool(flags & av.stream.Disposition.attached_pic)
    default = bool(flags & av.stream.Disposition.default)
    return not cover, context.name not in STILL_CODECS, default, context.width * context.height


def scan(path: Path | str) -> Index:
    """The index from every packet, without decoding. `BadVideo` when the file ends before it should."""
    container, stream = open_stream(path)
    with container:
        times, untimed = _packet_times(path, container, stream.index)
        picture_times = np.unique(times)
        if untimed or len(picture_times) < len(times):
            raise NotSeekable
        return Index(picture_times, float(stream.time_base or 1))


def _packet_times(
    path: Path | str, container: av.container.InputContainer, video: int
) -> tuple[NDArray[np.int64], int]:
    """The display times (n,) that a file's packets store, and the number of packets that store none."""
    pts, untimed, end, key_seen = [], 0, 0.0, False
    try:
        for packet in container.demux():
            if packet.size == 0:
                continue
            is_video = packet.stream.index == video
            key_seen |= is_video and packet.is_keyframe
            if packet.is_corrupt and key_seen:  # before: a recording that starts in the middle
                raise BadVideo(path, "truncated, damaged or joined from parts (a packet is cut off)")
            untimed += is_video and packet.pts is None
            start = packet.pts if packet.pts is not None else packet.dts
            if start is None:
                continue
            end = max(end, float((start + (packet.duration or 0)) * packet.time_base))
            if is_video and not packet.is_discard:
                pts.append(start)
    except av.FFmpegError as error:
        raise BadVideo(path, reason_of(error)) from None
    if not pts and not untimed:
        raise BadVideo(path, "no video frames")
    if pts:
        _check_complete(path, container, end)
    return np.asarray(pts, np.int64), untimed


def _check_complete(path: Path | str, container: av.container.InputContainer, end: float) -> None:
    """Compare with the length in the container's header: a truncated file otherwise only looks shorter.

    (The header's frame count does not serve: it also counts the frames that an edit list hides.)
    Matroska's length counts from 0 or from the first frame, by who wrote it.
    """
    if container.duration is None:
        return
    from_zero = container.format.name.startswith("matroska")
    declared = (container.duration + (0 if from_zero else container.start_time or 0)) / av.time_base
    if declared - end > TRUNCATION_TOLERANCE:
        raise BadVideo(path, f"truncated (ends at {end:.2f} s of {declared:.2f} s)")


def decoded_in_order(path: Path | str) -> Iterator[av.VideoFrame]:
    """Every frame that FFmpeg shows of a file, in that order."""
    container, stream = open_stream(path)
    started = False
    with container:
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    if started:
                        raise
                    continue  # a recording that starts in the middle, before its first key frame
                for frame in frames:
                    started = True
                    yield frame
        except av.FFmpegError as error:
            raise BadVideo(path, reason_of(error)) from None


def counted(path: Path | str) -> Index:
    """The index by decoding everything once; kept for as long as the file stays the same."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise BadVideo(path, reason_of(error)) from None
    return _counted_index(str(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _counted_index(path: str, size: int, changed: int) -> Index:
    container, stream = open_stream(path)
    with container:
        times, untimed = _packet_times(path, container, stream.index)
        picture_times = np.unique(times)
        context = stream.codec_context
        rate = context.framerate or stream.guessed_rate or stream.average_rate
        base = float(stream.time_base or 1)
    frames = [frame.pts for frame in decoded_in_order(path)]
    if not frames:
        raise BadVideo(path, "no video frames")
    known = [pts for pts in frames if pts is not None]
    if (
        len(known) == len(frames)
        and all(a <= b for a, b in itertools.pairwise(known))
        and known[0] < known[-1]
    ):
        return Index(spread(np.asarray(known, np.float64)), base, ascends=len(set(known)) == len(known))
    if len(picture_times) == len(frames):  # AVI: the i-th frame is shown at the i-th time
        return Index(picture_times, base, ascends=False)
    if untimed and rate:  # a raw stream: an even rate is all that it knows
        return Index(np.arange(len(frames)), float(1 / rate), ascends=False)
    raise BadVideo(path, f"its clock is broken ({len(frames)} pictures at {len(picture_times)} times); "
                         "write it anew: ffmpeg -i FILE -c:v libx264 NEW.mp4")  # fmt: skip


def spread(pts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times (n,) of which equal ones, as a coarse clock gives them, are spread evenly up to the next time."""
    times, first, count = np.unique(pts, return_index=True, return_counts=True)
    length = np.diff(times, append=times[-1] + np.median(np.diff(times)))
    rank = np.arange(len(pts)) - np.repeat(first, count)
    return np.repeat(times, count) + rank * np.repeat(length / count, count)
