"""Several steps ahead: chains of test pairs, rollouts from real or latent actions, and their animations."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from uwm.data.manifest import Manifest
from uwm.errors import UserError

Step = Callable[[Tensor, int], Tensor]  # (states (n, 1+N, D), k) -> the next states, by the k-th actions


def chained(manifest: Manifest, horizon: int, most: int) -> tuple[Manifest, Tensor]:
    """Runs of `horizon` pairs, each of which begins where the one before ends: (their pairs, places (n, K)).

    A clip gives as many runs as fit one after the other; of all, `most` are taken, evenly. UserError where no
    clip is long enough.
    """
    table = manifest.table
    runs: list[list[int]] = []
    for _, clip in table.groupby("video", sort=False):
        place = dict(zip(clip["frame0"].tolist(), clip.index.tolist(), strict=True))
        ends = dict(zip(clip["frame0"].tolist(), clip["frame1"].tolist(), strict=True))
        frame = min(ends)
        while frame in ends:
            run = [frame]
            while len(run) < horizon and ends[run[-1]] in ends:
                run.append(ends[run[-1]])
            if len(run) < horizon:
                break
            runs.append([place[start] for start in run])
            frame = ends[run[-1]]
    if not runs:
        raise UserError(f"no clip has {horizon} pairs of frames in a row: set a smaller horizon")
    chosen_runs = [runs[i] for i in np.linspace(0, len(runs) - 1, min(most, len(runs))).round().astype(int)]
    rows, places = np.unique(np.array(chosen_runs, np.int64), return_inverse=True)
    chosen = Manifest(table.loc[rows].reset_index(drop=True), manifest.skipped)
    return chosen, torch.from_numpy(places.reshape(-1, horizon))


def continued(manifest: Manifest, starts: Manifest, steps: int) -> tuple[Manifest, Tensor, Manifest]:
    """Runs of `steps` pairs of `manifest` from the first frames of `starts`: (the pairs used, their places
    (m, steps), and as pairs the first and the last frame of each run).

    Where a clip ends before, or has no such pairs, there is no run; UserError where there is none at all.
    """
    table = manifest.table
    names = ("video", "frame0", "frame1")
    after = {
        (video, first): (place, last)
        for place, (video, first, last) in enumerate(zip(*(table[name] for name in names), strict=True))
    }
    runs, kept = [], []
    for row, (video, frame) in enumerate(zip(starts.table["video"], starts.table["frame0"], strict=True)):
        run: list[int] = []
        while len(run) < steps and (video, frame) in after:
            place, frame = after[video, frame]
            run.append(place)
        if len(run) == steps:
            runs.append(run)
            kept.append(row)
    if not runs:
        raise UserError(f"no clip has {steps} pairs of frames in a row")
    last = table.iloc[[run[-1] for run in runs]].reset_index(drop=True)
    ends = starts.table.iloc[kept].reset_index(drop=True)
    ends = ends.assign(frame1=last["frame1"], t1=last["t1"], gap=last["t1"] - ends["t0"])
    rows, places = np.unique(np.array(runs, np.int64), return_inverse=True)
    chosen = Manifest(table.loc[rows].reset_index(drop=True), manifest.skipped)
    return chosen, torch.from_numpy(places.reshape(-1, steps)), Manifest(ends, starts.skipped)


@torch.no_grad()
def rolled_out(step: Step, s_t: Tensor, horizon: int) -> Tensor:
    """`horizon` steps from `s_t` (n, 1+N, D), each from what the one before predicted: (n, K, 1+N, D)."""
    states = []
    for k in range(horizon):
        s_t = step(s_t, k)
        states.append(s_t)
    return torch.stack(states, dim=1)


def write_animation(columns: Mapping[str, Tensor], path: Path, seconds: float, enlarge: int = 2) -> None:
    """Clips (F, 3, S, S) in [0, 1] side by side as an endless GIF, `seconds` per frame; same bytes for same
    pictures."""
    strip = torch.cat([clip.clamp(0, 1) for clip in columns.values()], dim=-1)  # (F, 3, S, S * columns)
    strip = strip.repeat_interleave(enlarge, -1).repeat_interleave(enlarge, -2)
    frames = [
        Image.fromarray(frame.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()) for frame in strip
    ]
    # One palette for all frames, so that what stands still does not flicker.
    palette = _joined(frames).quantize(128, method=Image.Quantize.MEDIANCUT)
    shown = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    shown[0].save(
        partial, format="gif", save_all=True, append_images=shown[1:], duration=round(1000 * seconds), loop=0
    )
    os.replace(partial, path)


def _joined(frames: list[Image.Image]) -> Image.Image:
    return Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames]))
