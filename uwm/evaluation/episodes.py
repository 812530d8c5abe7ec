"""Episodes of planning as numbers and pictures: a table's row per episode, the cell's metrics, films."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from uwm.data.crops import center_crop
from uwm.evaluation.filmstrips import Film, write_film, write_filmstrip
from uwm.evaluation.records import column, estimate
from uwm.metrics.statistics import bootstrap_mean, bootstrap_ratio, wilson
from uwm.models.world import World
from uwm.planning.episodes import Episode, held_distances
from uwm.planning.policies import Picture
from uwm.runs.experiment import Cell, Estimate

OUTCOMES = {"reached": True, "missed": False}  # the first episode of each kind


def cropped(pictures: Picture, side: int) -> Tensor:
    """Pictures (n, H, W, 3) -> the centres of them (n, 3, side, side), uint8, as corpora are seen."""
    return center_crop(torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2), side, side)


def told(episode: Episode) -> str:
    """An episode as a line of text."""
    first, last = episode.distances[0], episode.distances[-1]
    end = "reached" if episode.success else "not reached"
    return f"episode {episode.seed} {end} in {len(episode.actions)} steps, {first:.0f} to {last:.0f} mm"


def sample_table(cell: Cell, episodes: Sequence[Episode], steps: int) -> pd.DataFrame:
    """A row per episode, named by its seed; no times, so that the same seeds give the same bytes."""
    prefix, held = column(cell), held_distances(episodes, steps)  # (n, steps + 1)
    return pd.DataFrame(
        {
            "video": [f"episode-{episode.seed}" for episode in episodes],
            "t0": 0,
            "t1": [len(episode.actions) for episode in episodes],
            "moving": True,
            f"{prefix}/success": [float(episode.success) for episode in episodes],
            f"{prefix}/start_distance_mm": [episode.distances[0] for episode in episodes],
            f"{prefix}/final_distance_mm": [episode.distances[-1] for episode in episodes],
            f"{prefix}/steps": [float(len(episode.actions)) for episode in episodes],
            f"{prefix}/calls": [decided(episode)[0] for episode in episodes],
            f"{prefix}/decisions": [decided(episode)[1] for episode in episodes],
            **{f"{prefix}/distance_mm_{k}": held[:, k] for k in range(1, steps + 1)},
        }
    )


def decided(episode: Episode) -> tuple[int, int]:
    """The model calls of an episode, and the decisions that they were for."""
    return int(episode.calls.sum()), int((episode.calls > 0).sum())


def episode_metrics(episodes: Sequence[Episode], steps: int) -> dict[str, Estimate]:
    """Success with Wilson's interval, all else as means with bootstrap intervals over episodes."""
    names = [f"episode-{episode.seed}" for episode in episodes]
    share = wilson(sum(episode.success for episode in episodes), len(episodes))
    metrics = {"success": Estimate(share.estimate, share.n, (share.low, share.high))}
    distances = held_distances(episodes, steps)  # (n, steps + 1)
    columns = {
        "start_distance_mm": distances[:, 0],
        "final_distance_mm": distances[:, -1],
        "steps": np.array([float(len(episode.actions)) for episode in episodes]),
        **{f"distance_mm_{k}": distances[:, k] for k in range(1, steps + 1)},
    }
    for name, values in columns.items():
        metrics[name] = estimate(bootstrap_mean(values, names), name, "")
    calls, decisions = (np.array(part, np.float64) for part in zip(*map(decided, episodes), strict=True))
    seconds = np.concatenate([episode.seconds[episode.calls > 0] for episode in episodes])
    if decisions.all():
        ratio = bootstrap_ratio(calls, decisions, names)
        metrics["calls_per_decision"] = estimate(ratio, "calls_per_decision", "")
    if len(seconds):
        metrics["seconds_per_decision"] = Estimate(float(seconds.mean()), len(seconds))
    return metrics


@torch.no_grad()
def show_episodes(world: World, episodes: Sequence[Episode], out: Path, name: str, seconds: float) -> None:
    """Panels and an animation, named by `name` and how it ended, of the first episode that reached its goal,
    and of the first that did not. A step takes `seconds`."""
    side = world.image_size
    for end, success in OUTCOMES.items():
        chosen = next((episode for episode in episodes if episode.success == success), None)
        if chosen is not None:
            frames = cropped(np.concatenate([chosen.pictures, chosen.goal[None]]), side) / 255  # (T + 2, ...)
            imagined = world.mae.decode(torch.from_numpy(chosen.imagined).to(world.device)).cpu()
            film = Film(frames[:-1], imagined, frames[-1])
            write_filmstrip(film, out / "panels" / f"{name}-{end}")
            write_film(film, out / "animations" / f"{name}_{end}.gif", seconds)
