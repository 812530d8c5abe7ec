"""Runs of frame pairs, each of which begins where the one before ends."""

import numpy as np
import torch
from torch import Tensor

from uwm.data.manifest import Manifest
from uwm.errors import UserError

_Following = dict[tuple[str, int], tuple[int, int]]  # (clip, frame) -> the pair from there, its second frame


def rollout_segments(manifest: Manifest, horizon: int, most: int) -> tuple[Manifest, Tensor]:
    """Runs of `horizon` pairs, each of which begins where the one before ends: (their pairs, index (n, H)).

    A clip gives as many runs as fit one after the other; of all, `most` are taken, evenly. UserError where no
    clip is long enough.
    """
    table, after = manifest.table, _following(manifest)
    runs: list[list[int]] = []
    for video, first in table.groupby("video", sort=False)["frame0"].min().items():
        frame = int(first)
        while len(run := _run(after, str(video), frame, horizon)) == horizon:
            runs.append(run)
            frame = int(table["frame1"].iloc[run[-1]])
    if not runs:
        raise UserError(f"no clip has {horizon} pairs of frames in a row: set a smaller horizon")
    spread = np.linspace(0, len(runs) - 1, min(most, len(runs))).round().astype(int)
    return _pairs_of(manifest, [runs[i] for i in spread])


def segments_from(manifest: Manifest, starts: Manifest, steps: int) -> tuple[Manifest, Tensor, Manifest]:
    """Runs of `steps` pairs of `manifest` from the first frames of `starts`: (the pairs used, their index
    (m, steps), and as pairs the first and the last frame of each run).

    Where a clip ends before, or has no such pairs, there is no run; UserError where there is none at all.
    """
    table, after = manifest.table, _following(manifest)
    begins = zip(starts.table["video"], starts.table["frame0"], strict=True)
    candidates = [_run(after, video, frame, steps) for video, frame in begins]
    kept = [row for row, run in enumerate(candidates) if len(run) == steps]
    if not kept:
        raise UserError(f"no clip has {steps} pairs of frames in a row: longer clips are needed")
    runs = [candidates[row] for row in kept]
    last = table.iloc[[run[-1] for run in runs]].reset_index(drop=True)
    ends = starts.table.iloc[kept].reset_index(drop=True)
    ends = ends.assign(frame1=last["frame1"], t1=last["t1"], gap=last["t1"] - ends["t0"])
    return *_pairs_of(manifest, runs), Manifest(ends, starts.skipped)


def _following(manifest: Manifest) -> _Following:
    columns = (manifest.table[name].tolist() for name in ("video", "frame0", "frame1"))
    return {
        (video, first): (index, last) for index, (video, first, last) in enumerate(zip(*columns, strict=True))
    }


def _run(after: _Following, video: str, frame: int, length: int) -> list[int]:
    """Up to `length` pairs, the first of which begins at `frame`."""
    run: list[int] = []
    while len(run) < length and (video, frame) in after:
        row, frame = after[video, frame]
        run.append(row)
    return run


def _pairs_of(manifest: Manifest, runs: list[list[int]]) -> tuple[Manifest, Tensor]:
    """The pairs that the runs (n, H) use, once each, and the runs' index among them."""
    rows, pair_index = np.unique(np.array(runs, np.int64), return_inverse=True)
    chosen = Manifest(manifest.table.iloc[rows].reset_index(drop=True), manifest.skipped)
    return chosen, torch.from_numpy(pair_index.reshape(len(runs), -1))
