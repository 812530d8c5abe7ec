"""Frames of one video: which there are (`probe`), and their pixels (`read_frames`).

A frame's index is its place in display order; its timestamp counts seconds from the first displayed frame,
as stored in the file (so a variable rate stays what it is). Frames come upright (rotation flags applied),
RGB, uint8. A video is a file of any container, a folder of numbered pictures with its rate in `fps.txt`, or
the pictures of a robot's demonstration in an HDF5 file.

decord is the default decoder wherever it is right, PyAV takes the rest:
- files with B-frames: after a seek decord silently returns wrong frames where groups of pictures overlap
  (H.264 with open GOPs, MPEG-4), as a test here shows of the installed version;
- files that decord cannot open, or of which it gives other frames than the container promises: it keeps
  frames that an edit list cuts away, and returns broken pictures for a rotation flag;
- long files: decord goes through a whole file to open it (0.6 s for an hour of 540p, where a visit of 8 pairs
  takes PyAV 0.25 s), PyAV seeks.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from uwm.data.decoders import (
    BadVideo,
    DecordReader,
    FolderReader,
    Frames,
    PyAVReader,
    Times,
    decord,
    open_stream,
)
from uwm.data.robomimic.hdf5 import DemoReader, split_path

LONG_FILE = 32 << 20  # bytes; larger files are read by seeking
DecoderName = Literal["auto", "decord", "pyav"]
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv"}
)

__all__ = [
    "VIDEO_SUFFIXES",
    "BadVideo",
    "Frames",
    "VideoInfo",
    "content_hash",
    "probe",
    "read_frames",
    "read_whole",
]


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds. `timestamps` (frames,) in seconds from the first frame; upright size in pixels."""

    frames: int
    fps: float
    width: int
    height: int
    timestamps: Times


def probe(path: Path | str) -> VideoInfo:
    """Read a video's frame times and decode its first frame. `BadVideo` for unreadable or truncated files."""
    if pictures := _pictures(path):
        return _info(pictures.times(), pictures.fps, pictures.read([0]))
    with PyAVReader(path) as reader:
        rate = reader.stream.average_rate
        return _info(reader.index.times(), float(rate or 0), reader.read([0]))


def _pictures(path: Path | str) -> FolderReader | DemoReader | None:
    """The reader of what is stored picture by picture; None for a video file."""
    if Path(path).is_dir():
        return FolderReader(path)
    inside = split_path(path)
    return DemoReader(*inside) if inside else None


def _info(times: Times, fps: float, first: Frames) -> VideoInfo:
    if fps <= 0:
        fps = (len(times) - 1) / float(times[-1]) if len(times) > 1 else 0.0
    return VideoInfo(len(times), fps, first.shape[2], first.shape[1], times)


def read_frames(
    path: Path | str,
    indices: Sequence[int],
    *,
    times: Sequence[float] | None = None,
    decoder: DecoderName = "auto",
) -> Frames:
    """Decode frames by index: (n,H,W,3) RGB uint8, upright, in the order of `indices`.

    `times` (s from the first frame) are what a manifest says of these indices. With "auto", decord's result
    is kept only when its timestamps agree with them (or, without `times`, with the container's); else, and
    for long files and those with B-frames, PyAV decodes. Raises `BadVideo` when neither decoder can.
    """
    if pictures := _pictures(path):
        return pictures.read(indices)
    if decoder == "decord":
        return DecordReader(path).read(indices)
    if decoder == "auto" and decord is not None and not _needs_pyav(path):
        try:
            reader = DecordReader(path)
            if reader.agrees(indices, _expected_times(path, indices) if times is None else np.asarray(times)):
                return reader.read(indices)
        except BadVideo:
            pass  # PyAV's error, if it fails too, is the one to show
    with PyAVReader(path) as fallback:
        return fallback.read(indices) if times is None else fallback.read_at(times)


def read_whole(path: Path | str, chunk: int = 64) -> Iterator[Frames]:
    """Every frame in order, in pieces (<= chunk,H,W,3), so that a long clip needs little memory."""
    if pictures := _pictures(path):
        for start in range(0, len(pictures), chunk):
            yield pictures.read(range(start, min(start + chunk, len(pictures))))
        return
    with PyAVReader(path) as reader:
        frames = len(reader.index.pts)
        for start in range(0, frames, chunk):
            yield reader.read(range(start, min(start + chunk, frames)))


def _needs_pyav(path: Path | str) -> bool:
    """Is the file long, or stored in another order than it is shown? WebM's codecs have no such order."""
    if not Path(path).is_file():
        raise BadVideo(path, "there is no such file")
    if Path(path).stat().st_size > LONG_FILE:
        return True
    if Path(path).suffix.lower() == ".webm":
        return False
    container, stream = open_stream(path)
    with container:
        return bool(stream.codec_context.has_b_frames)


def _expected_times(path: Path | str, indices: Sequence[int]) -> Times:
    with PyAVReader(path) as reader:
        times = reader.index.times()
    if max(indices) >= len(times):
        raise BadVideo(path, f"has {len(times)} frames, frame {max(indices)} was asked for")
    return times[list(indices)]


def content_hash(path: Path) -> str:
    """sha256 of a file's bytes; of a frame folder's or a demonstration's pictures one after the other."""
    if inside := split_path(path):
        return DemoReader(*inside).content_hash()
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
