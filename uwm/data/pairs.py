"""Frame pairs as tensors: a manifest's pairs in memory, or every frame of a small corpus.

Pictures are uint8 RGB, channels first. The short side is resized with antialias; a picture that already has
the wanted short side stays as it was decoded.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from uwm.data.bad_clips import BadClips, Skipped
from uwm.data.corpora import Clip, Corpus
from uwm.data.crops import center_crop
from uwm.data.faults import told_apart
from uwm.data.manifest import Manifest
from uwm.data.sampling import nearest_pairs, without_cuts
from uwm.data.video import BadVideo, Frames, probe, read_frames, read_whole


def to_tensor(frames: Frames) -> Tensor:
    """(n,H,W,3) array -> (n,3,H,W) uint8 tensor."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)


def resize_short_side(frames: Tensor, short_side: int) -> Tensor:
    """Resize (n,3,H,W) uint8 so that the shorter side is `short_side`: bicubic with antialias, ratio kept."""
    height, width = frames.shape[-2:]
    if min(height, width) == short_side:
        return frames
    scale = short_side / min(height, width)
    size = (max(short_side, round(height * scale)), max(short_side, round(width * scale)))
    return interpolate(frames, size=size, mode="bicubic", antialias=True).contiguous()


def joined_parts(parts: Iterable[Tensor], rows: int) -> Tensor:
    """Tensors (n, ...) one after the other: (rows, ...), on the CPU.

    Each is copied to its place as it comes and may then go: `torch.cat` would need the memory twice. A part
    that has all rows is the result itself.
    """
    whole, start = torch.empty(0), 0
    for part in parts:
        if len(part) == rows:
            return part.cpu()
        if not start:
            whole = torch.empty(rows, *part.shape[1:], dtype=part.dtype)
        whole[start : start + len(part)] = part
        start += len(part)
    assert start == rows, (start, rows)
    return whole


def load_pairs(
    corpus: Corpus, manifest: Manifest, image_size: int, *, crop: Literal["center"] = "center"
) -> Tensor:
    """All pairs of a manifest: uint8 (n,2,3,S,S), in the manifest's order; each video is opened once.

    The short side becomes S, then the centre is cropped. Raises `UserError` when a file that the manifest
    lists cannot be read: the pairs of an evaluation are all there, or it stops.
    """
    assert crop == "center", crop
    table = manifest.table
    pairs = torch.empty(len(table), 2, 3, image_size, image_size, dtype=torch.uint8)
    for video, rows in table.groupby("video", sort=False):
        frames = decode_rows(corpus, str(video), rows)  # (2m,3,H,W)
        square = center_crop(resize_short_side(frames, image_size), image_size, image_size)
        pairs[torch.from_numpy(rows.index.to_numpy().copy())] = square.unflatten(0, (-1, 2))  # (m,2,3,S,S)
    return pairs


def decode_rows(corpus: Corpus, video: str, rows: Any) -> Tensor:
    """The frames of some manifest rows of one video: (2m,3,H,W) uint8, frame0 and frame1 in turn."""
    indices = rows[["frame0", "frame1"]].to_numpy().reshape(-1)  # (2m,)
    times = rows[["t0", "t1"]].to_numpy().reshape(-1)  # (2m,)
    unique, inverse = np.unique(indices, return_inverse=True)
    first = np.unique(indices, return_index=True)[1]
    frames = read_frames(corpus.file(video), unique.tolist(), times=times[first].tolist())
    return to_tensor(frames)[torch.from_numpy(inverse)]


@dataclass(frozen=True)
class FrameBank:
    """Every frame of a split in memory.

    frames (F,3,h,w) uint8; clip (F,) int64, the place in `clips`; time (F,) float64 s; pairs (n,2) int64,
    frames that are `gap` apart (nearest by timestamp) and of one clip; clips: the paths; skipped: (clip,
    reason).
    """

    frames: Tensor
    clip: Tensor
    time: Tensor
    pairs: Tensor
    clips: tuple[str, ...]
    skipped: Skipped


def load_frames(corpus: Corpus, split: str, short_side: int, *, gap: float = 0.2) -> FrameBank:
    """Decode a split once. Clips of other shapes are cropped in the middle to the smallest height and width.

    A damaged clip is named in `skipped`. `UserError` when there are too many or no usable one, and where the
    machine failed at one: the others would be taken for the split.
    """
    bad = BadClips()
    loaded = list(_whole_clips(corpus, split, short_side, gap, bad))
    bad.check(len(corpus.of(split)))
    bad.check_read(None)
    if not loaded:
        raise bad.none_left(corpus, split)
    names, clips, times, pairs = zip(*loaded, strict=True)
    height, width = (min(clip.shape[side] for clip in clips) for side in (-2, -1))
    lengths = [len(clip) for clip in clips]
    starts = np.cumsum([0, *lengths[:-1]])
    left = deque(clips)  # which alone holds them, so that a clip goes once it is copied
    del loaded, clips
    cropped = (center_crop(left.popleft(), height, width) for _ in lengths)
    return FrameBank(
        frames=joined_parts(cropped, sum(lengths)),
        clip=torch.repeat_interleave(torch.tensor(lengths)),
        time=torch.cat([torch.from_numpy(time) for time in times]),
        pairs=torch.cat([torch.from_numpy(pair + start) for pair, start in zip(pairs, starts, strict=True)]),
        clips=tuple(names),
        skipped=bad.skipped,
    )


def _whole_clips(
    corpus: Corpus, split: str, short_side: int, gap: float, bad: BadClips
) -> Iterator[tuple[str, Tensor, Any, Any]]:
    for clip in corpus.of(split):
        file = corpus.file(clip)
        try:
            yield clip.path, *told_apart(file, partial(_whole_clip, file, clip, short_side, gap))
        except BadVideo as error:
            bad.add(clip.path, error.reason, machine=error.machine)


def _whole_clip(file: Path, clip: Clip, short_side: int, gap: float) -> tuple[Tensor, Any, Any]:
    """All frames (F,3,h,w), their times (F,) in s, and their pairs (n,2)."""
    info = probe(file)
    pairs = without_cuts(nearest_pairs(info.timestamps, gap), info.timestamps, clip.cuts)
    if len(pairs) == 0:
        raise BadVideo(clip.path, f"no two frames {gap:g} s apart")
    parts = [resize_short_side(to_tensor(part), short_side) for part in read_whole(file)]
    return torch.cat(parts), info.timestamps, pairs
