"""Which frames make pairs, and in which order pairs are drawn from a video."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uwm.data.video import BadVideo, VideoInfo, probe

GAP_TOLERANCE = 0.5  # a pair's true gap is within this share of the wanted one, else the frames make no pair
VISIT_SECONDS = 4.0  # pairs within this stretch are decoded together; the length of a clip of SSv2


def nearest_pairs(timestamps: NDArray[np.float64], gap: float) -> NDArray[np.int64]:
    """All (frame, frame nearest to `gap` s later): (n,2) indices, by timestamp; needs ascending timestamps.

    The later of two equally near frames is taken. Frames whose partner would lie beyond the end make no pair.
    """
    if len(timestamps) < 2:
        return np.empty((0, 2), np.int64)
    targets = timestamps + gap
    after = np.searchsorted(timestamps, targets).clip(1, len(timestamps) - 1)
    before = after - 1
    half_frame = np.median(np.diff(timestamps)) / 2
    # a nanosecond, so that rounding errors don't decide between equally near frames
    nearest = np.where(targets - timestamps[before] < timestamps[after] - targets - 1e-9, before, after)
    start = np.arange(len(timestamps))
    true_gap = timestamps[nearest] - timestamps
    inside = targets <= timestamps[-1] + half_frame
    fits = inside & (nearest > start) & (np.abs(true_gap - gap) <= GAP_TOLERANCE * gap)
    return np.stack([start[fits], nearest[fits]], axis=1)  # (n, 2)


def without_cuts(
    pairs: NDArray[np.int64], timestamps: NDArray[np.float64], cuts: tuple[float, ...]
) -> NDArray[np.int64]:
    """The pairs (n,2) that have both frames on the same side of every cut."""
    part = np.searchsorted(np.asarray(cuts), timestamps, side="right")
    return pairs[part[pairs[:, 0]] == part[pairs[:, 1]]]


def clip_pairs(file: Path, gap: float, cuts: tuple[float, ...]) -> tuple[VideoInfo, NDArray[np.int64]]:
    """A video's times and sizes, and all its pairs (n,2). BadVideo where it cannot be read, or has none."""
    info = probe(file)
    pairs = without_cuts(nearest_pairs(info.timestamps, gap), info.timestamps, cuts)
    if len(pairs) == 0:
        raise BadVideo(file, f"no two frames {gap:g} s apart")
    return info, pairs


def visit_order(starts: NDArray[np.float64], draw: np.random.Generator, per_visit: int) -> NDArray[np.int64]:
    """A random order of the pairs that takes `per_visit` from one stretch of the video, then from another."""
    shuffled = draw.permutation(len(starts))
    stretch = (starts[shuffled] // VISIT_SECONDS).astype(int)
    rank = pd.Series(stretch).groupby(stretch).cumcount().to_numpy()  # counts the pairs of a stretch
    lot = draw.permutation(stretch.max() + 1)[stretch]
    return shuffled[np.lexsort((rank, lot, rank // per_visit))]
