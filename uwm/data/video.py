"""Frames of one video: which there are (`probe`), and their pixels (`read_frames`).

A frame's index is its place in display order; its timestamp counts seconds from the first displayed frame,
as stored in the file (so a variable rate stays what it is). Frames come upright (rotation flags applied),
RGB, uint8. A video is a file of any container, a folder of numbered pictures with its rate in `fps.txt`, or
the pictures of a robot's demonstration in an HDF5 file.

PyAV decodes by default (`uwm.data.ffmpeg`): every file that FFmpeg plays, with the right frames, and pairs of
a video faster than decord does. decord is there by name, and refuses the files that it gets wrong.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from uwm.data.decoders import BadVideo, Frames, Times
from uwm.data.decord_reader import DecordReader
from uwm.data.ffmpeg import PyAVReader
from uwm.data.pictures import FolderReader
from uwm.data.robomimic.hdf5 import DemoReader, split_path
from uwm.data.tree import VIDEO_SUFFIXES

DecoderName = Literal["auto", "decord", "pyav"]

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
        times = reader.index.times()
        rate = 0 if reader.counts else reader.stream.average_rate  # a raw stream's is FFmpeg's guess
        return _info(times, float(rate or 0), reader.read([0]))


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

    `times` (s from the first frame) are what a manifest says of these indices; with them a long file is read
    without a pass over it. Raises `BadVideo` where a frame cannot be decoded for sure.
    """
    if not len(indices):
        raise ValueError("no frames are asked for")
    if min(indices) < 0:
        raise BadVideo(path, f"has no frame {min(indices)}")
    if pictures := _pictures(path):
        return pictures.read(indices)
    if not Path(path).is_file():
        raise BadVideo(path, "there is no such file")
    if decoder == "decord":
        expected = _times_of(path, indices) if times is None else np.asarray(times)
        return DecordReader(path).read(indices, expected)
    with PyAVReader(path) as reader:
        return reader.read(indices) if times is None else reader.read_at(times)


def read_whole(path: Path | str, chunk: int = 64) -> Iterator[Frames]:
    """Every frame in order, in pieces (<= chunk,H,W,3), so that a long clip needs little memory."""
    if pictures := _pictures(path):
        for start in range(0, len(pictures), chunk):
            yield pictures.read(range(start, min(start + chunk, len(pictures))))
        return
    with PyAVReader(path) as reader:
        yield from reader.whole(chunk)


def _times_of(path: Path | str, indices: Sequence[int]) -> Times:
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
