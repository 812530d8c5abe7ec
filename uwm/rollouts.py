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
_Following = dict[tuple[str, int], tuple[int, int]]  # (clip, frame) -> the pair from there, its second frame


def chained(manifest: Manifest, horizon: int, most: int) -> tuple[Manifest, Tensor]:
    """Runs of `horizon` pairs, each of which begins where the one before ends: (their pairs, places (n, K)).

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


def continued(manifest: Manifest, starts: Manifest, steps: int) -> tuple[Manifest, Tensor, Manifest]:
    """Runs of `steps` pairs of `manifest` from the first frames of `starts`: (the pairs used, their places
    (m, steps), and as pairs the first and the last frame of each run).

    Where a clip ends before, or has no such pairs, there is no run; UserError where there is none at all.
    """
    table, after = manifest.table, _following(manifest)
    begins = zip(starts.table["video"], starts.table["frame0"], strict=True)
    found = [_run(after, video, frame, steps) for video, frame in begins]
    kept = [row for row, run in enumerate(found) if len(run) == steps]
    if not kept:
        raise UserError(f"no clip has {steps} pairs of frames in a row: longer clips are needed")
    runs = [found[row] for row in kept]
    last = table.iloc[[run[-1] for run in runs]].reset_index(drop=True)
    ends = starts.table.iloc[kept].reset_index(drop=True)
    ends = ends.assign(frame1=last["frame1"], t1=last["t1"], gap=last["t1"] - ends["t0"])
    return *_pairs_of(manifest, runs), Manifest(ends, starts.skipped)


def _following(manifest: Manifest) -> _Following:
    columns = (manifest.table[name].tolist() for name in ("video", "frame0", "frame1"))
    return {
        (video, first): (place, last) for place, (video, first, last) in enumerate(zip(*columns, strict=True))
    }


def _run(after: _Following, video: str, frame: int, length: int) -> list[int]:
    """Up to `length` pairs, the first of which begins at `frame`."""
    run: list[int] = []
    while len(run) < length and (video, frame) in after:
        place, frame = after[video, frame]
        run.append(place)
    return run


def _pairs_of(manifest: Manifest, runs: list[list[int]]) -> tuple[Manifest, Tensor]:
    """The pairs that the runs (n, K) use, once each, and the runs' places among them."""
    rows, places = np.unique(np.array(runs, np.int64), return_inverse=True)
    chosen = Manifest(manifest.table.iloc[rows].reset_index(drop=True), manifest.skipped)
    return chosen, torch.from_numpy(places.reshape(len(runs), -1))


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
