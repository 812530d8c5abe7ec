"""Pictures of a planner's episode: what was seen, what was imagined, and the goal."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from uwm.evaluation.animation import write_animation
from uwm.evaluation.figures import number_columns
from uwm.evaluation.panels import save_tile, write_tiles

MOST_TILES = 6


class Film(NamedTuple):
    """Frames in [0, 1] of T steps: `seen` (T+1, 3, S, S), `imagined` (T, 3, S, S) after each step, `goal`."""

    seen: Tensor
    imagined: Tensor
    goal: Tensor


def shown_steps(steps: int) -> list[int]:
    """At most `MOST_TILES` steps from 0 to the last, evenly."""
    count = min(MOST_TILES, steps + 1)
    return [round(k * steps / max(1, count - 1)) for k in range(count)]


def write_filmstrip(film: Film, folder: Path) -> None:
    """Tiles `<k>_seen.png`, `<k>_imagined.png` (not before the first step) and the goal beside the first."""
    steps = shown_steps(len(film.imagined))
    write_tiles({"seen": film.seen[steps], "goal": film.goal[None]}, folder)
    for k, step in enumerate(steps, start=1):
        if step:
            save_tile(film.imagined[step - 1], folder / f"{k}_imagined.png")
    number_columns(len(steps), folder, step=steps)


def write_film(film: Film, path: Path, seconds: float) -> None:
    """Seen, imagined and the goal side by side, as an animation."""
    imagined = torch.cat([film.seen[:1], film.imagined])
    goal = film.goal.expand(len(film.seen), -1, -1, -1)
    write_animation({"seen": film.seen, "imagined": imagined, "goal": goal}, path, seconds)
