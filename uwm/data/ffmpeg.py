"""Videos through PyAV (FFmpeg): right for every file that FFmpeg plays.

The reference is a decoding of everything in order: the i-th picture that comes out is frame i. Two ways give
the same frames:

- *seeking*, in the containers that store the time at which each picture is shown (MP4, Matroska). What it
  takes for granted is checked: that the stored times are those of showing, once; and at every read that
  decoding starts at a true key frame, each picture has a time of its own, times ascend, and nothing shown
  before that key frame is used, since an open group of pictures refers to what was skipped;
- *counting*, everywhere else, and where one of these checks fails. AVI and raw streams store no such times,
  MPEG-TS, ASF and others have no table of key frames. It costs a decoding of the file from its start.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter

from uwm.data.containers import (
    SEEKABLE,
    Index,
    NotSeekable,
    counted,
    decoded_in_order,
    open_stream,
    scan,
)
from uwm.data.decoders import TIME_TOLERANCE, BadVideo, Frames, reason_of
from uwm.data.orientation import orientation, turned_upright

SEEK_BACK = (0.0, 1.0, 10.0, float("inf"))  # s before the wanted time, tried in turn
STEP = 1e-6  # s between two times that a manifest can tell apart


class PyAVReader:
    """Frames of one file, by place or by time."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._scanned: Index | None = None
        self._reformatter = VideoReformatter()  # one for all frames: each new one costs more than the frame
        self._open()
        seekable = self.container.format.name.startswith(SEEKABLE)
        self.counts = not (seekable and self._stores_times_of_showing())

    def _open(self) -> None:
        self.container, self.stream = open_stream(self.path)
        self._decoding: Iterator[tuple[int, av.VideoFrame]] | None = None
        self._position = 0

    def __enter__(self) -> "PyAVReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def index(self) -> Index:
        """The file's frames. A pass over its packets at the first use, or where it counts over its frames."""
        if not self.counts and self._scanned is None:
            try:
                self._scanned = scan(self.path)
            except NotSeekable:
                self.counts = True
        return counted(self.path) if self.counts else self._scanned  # type: ignore[return-value]

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames (n,H,W,3) by place in display order."""
        index = self.index
        if max(indices) >= len(index.pts):
            raise BadVideo(self.path, f"has {len(index.pts)} frames, frame {max(indices)} was asked for")
        if not self.counts:
            try:
                return self._sought([int(index.pts[i]) for i in indices])
            except NotSeekable:
                self.counts = True
                return self.read(indices)
        return self._counted(indices)

    def read_at(self, times: Sequence[float]) -> Frames:
        """Frames (n,H,W,3) by their exact timestamps (s from the first frame)."""
        if not self.counts:
            try:
                return self._sought(self._pts_at(times))
            except NotSeekable:
                self.counts = True
        known = self.index.times()
        indices = np.abs(known[None] - np.asarray(times)[:, None]).argmin(axis=1)  # (n,)
        wrong = np.abs(known[indices] - times) > max(TIME_TOLERANCE, self.index.time_base)
        if wrong.any():
            raise _no_frame_at(self.path, times[int(np.argmax(wrong))])
        return self._counted(indices.tolist())

    def whole(self, chunk: int) -> Iterator[Frames]:
        """Every frame in order, in pieces (<= chunk,H,W,3)."""
        frames, done = len(self.index.pts), 0
        while done < frames and not self.counts:
            yield self.read(range(done, min(done + chunk, frames)))
            done += chunk
        if done < frames:  # one decoding for all further pieces
            decoded = itertools.islice(decoded_in_order(self.path), done, None)
            while frames_of_piece := list(itertools.islice(decoded, chunk)):
                yield _stacked(self.path, [self._upright(frame) for frame in frames_of_piece])

    def _stores_times_of_showing(self) -> bool:
        """Is a picture shown at the time of its packet?

        A stream with B-frames is stored in another order than it is shown. Where no packet's time says so, it
        may be the time of storing (an AVI copied into MP4), and only decoding the whole tells.
        """
        if not self._may_have_b_frames():
            return True
        last: int | None = None
        try:
            for packet in self.container.demux(self.stream):
                if packet.pts is not None and last is not None and packet.pts < last:
                    return True
                last = packet.pts
        except av.FFmpegError:
            return False  # the decoding says what is wrong
        return counted(self.path).ascends

    def _may_have_b_frames(self) -> bool:
        return bool(self.stream.codec_context.has_b_frames)

    def _pts_at(self, times: Sequence[float]) -> list[int]:
        base = float(self.stream.time_base or 1)
        if self._scanned is None and self.stream.start_time is not None:
            start = self.stream.start_time
        else:
            start = int(self.index.pts[0])
        return [start + round(time / base) for time in times]

    def _counted(self, indices: Sequence[int]) -> Frames:
        """Decode from the start up to the last of these frames."""
        pictures: dict[int, Frames | None] = dict.fromkeys(int(i) for i in indices)
        for index, frame in enumerate(decoded_in_order(self.path)):
            if index in pictures:
                pictures[index] = self._upright(frame)
            if index >= max(pictures):
                break
        if missing := [index for index, picture in pictures.items() if picture is None]:
            raise BadVideo(self.path, f"frame {missing[0]} cannot be decoded")
        return _stacked(self.path, [pictures[int(i)] for i in indices])  # type: ignore[misc]

    def _sought(self, pts: list[int]) -> Frames:
        """Decode in ascending order, whatever the order of `pts`."""
        pictures: dict[int, Frames] = {}
        try:
            for stamp in sorted(set(pts)):
                pictures[stamp] = self._picture(stamp)
        except av.FFmpegError as error:
            raise BadVideo(self.path, reason_of(error)) from None
        return _stacked(self.path, [pictures[stamp] for stamp in pts])

    def _picture(self, pts: int) -> Frames:
        base = float(self.stream.time_base or 1)
        tolerance = int(STEP / base)  # in ticks; none where a tick is longer
        if self._decoding is not None and self._position < pts and not self._keyframe_before(pts):
            frame = self._advance(pts, tolerance)
            if frame is not None:
                return self._upright(frame)
        for back in SEEK_BACK:  # a keyframe may be stored before but shown after the frame that we want
            self._seek(pts, back)
            frame = self._advance(pts, tolerance)
            if frame is not None:
                return self._upright(frame)
        raise NotSeekable

    def _keyframe_before(self, pts: int) -> bool:
        """Is there a keyframe between the current position and `pts`, so that seeking saves decoding?"""
        entries = self.stream.index_entries
        index = entries.search_timestamp(pts, backward=True)
        return index >= 0 and entries[index].timestamp > self._position

    def _seek(self, pts: int, back: float) -> None:
        base = float(self.stream.time_base or 1)
        sought = not np.isinf(back)
        try:
            if sought:
                self.container.seek(pts - round(back / base), stream=self.stream)
        except av.FFmpegError:  # no index in the file, or nothing to seek to
            sought = False
        if not sought:
            self.container.close()
            self._open()
        self._decoding = self._shown(sought)

    def _shown(self, sought: bool) -> Iterator[tuple[int, av.VideoFrame]]:
        """(time, frame) from here on, in display order; after a seek those that need nothing before it."""
        first_shown, last_stored = None, None
        unproven = sought
        out_of_order = not self._may_have_b_frames()  # only then must it be seen
        for packet in self.container.demux(self.stream):
            if sought and packet.size and first_shown is None:
                if packet.pts is None or not packet.is_keyframe:
                    raise NotSeekable
                first_shown, unproven = packet.pts, not packet.is_discard
            if packet.pts is not None:
                out_of_order |= last_stored is not None and packet.pts < last_stored
                last_stored = packet.pts
            for frame in packet.decode():
                # A B-frame is shown before one stored earlier. If no packet said so, the times are those of
                # storing: a copy of an AVI in another container.
                if frame.pts is None or (frame.pict_type == PictureType.B and not out_of_order):
                    raise NotSeekable
                if first_shown is not None and frame.pts < first_shown:
                    continue
                if unproven and not frame.key_frame:  # the container calls a key frame what is none
                    raise NotSeekable
                unproven = False
                yield frame.pts, frame

    def _advance(self, pts: int, tolerance: int) -> av.VideoFrame | None:
        """Decode up to the frame at `pts`; None when there is none at or after the current position."""
        assert self._decoding is not None
        before: int | None = None
        for shown_at, frame in self._decoding:
            if before is not None and shown_at <= before:
                raise NotSeekable
            self._position = before = shown_at
            if shown_at >= pts - tolerance:
                return frame if shown_at <= pts + tolerance else None
        self._decoding = None
        return None

    def _upright(self, frame: av.VideoFrame) -> Frames:
        picture = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        return turned_upright(np.asarray(picture, np.uint8), orientation(frame, self.path))


def _stacked(path: Path | str, pictures: Sequence[Frames]) -> Frames:
    if len({picture.shape for picture in pictures}) > 1:
        raise BadVideo(path, "changes its picture size")
    return np.stack(pictures)


def _no_frame_at(path: Path | str, time: float) -> BadVideo:
    return BadVideo(path, f"has no frame at {time:.3f} s; was the file changed?")
