"""Pictures of Figure 5: pairs with their gripper enlarged, commands, transferred actions, rollouts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from uwm.evaluation.animation import write_animation
from uwm.evaluation.controllability import COMMANDS, under_command
from uwm.evaluation.eval_pairs import EvalPairs, RolloutSegments
from uwm.evaluation.gripper import enlarged, gripper_in_crop, gripper_is_seen
from uwm.evaluation.panels import write_tiles
from uwm.evaluation.records import write_table
from uwm.evaluation.transfer import donors, transferred
from uwm.methods import method_label
from uwm.models.dynamics import DynamicsFunction
from uwm.models.world import World

ANIMATED = (0.5, 0.7, 0.9)  # quantiles of motion, over the runs, that are animated
ROLLOUT_MEASURES = ("rollout_lpips", "rollout_psnr", "rollout_state_mse")
PANEL_RUN = 0.9  # and shown step by step


def show_pairs(
    method: str, test: EvalPairs, frames: Tensor, rows: Sequence[int], short_side: int, folder: Path
) -> None:
    """Tiles of the pairs `rows`: O_t, O_t+1, the method's frames, and the gripper section of each."""
    index = torch.tensor(rows)
    o_t, o_next = (test.images[index] / 255).unbind(1)
    tiles = {"o_t": o_t, "o_next": o_next, method: frames[index]}
    if gripper_is_seen(test.pairs):
        centres = gripper_in_crop(test.pairs, short_side, frames.shape[-1])[index]
        tiles |= {f"{name}_hand": enlarged(tile, centres) for name, tile in tiles.items()}
    write_tiles(tiles, folder)


@torch.no_grad()
def show_commands(
    predict: DynamicsFunction, test: EvalPairs, rows: Sequence[int], decoder: World, folder: Path
) -> None:
    """The same frames under each command."""
    part = test.part(rows)
    tiles = {"o_t": part.images[:, 0] / 255}
    for name, command in COMMANDS.items():
        tiles[name] = decoder.mae.decode(under_command(predict, part, command, decoder.device)).cpu()
    write_tiles(tiles, folder)
    number_columns(len(rows), folder)


@torch.no_grad()
def show_transfer(test: EvalPairs, rows: Sequence[int], decoder: World, folder: Path) -> None:
    """A donor's two frames, the frame that gets its latent actions, and what is predicted."""
    receivers, given = test.part(rows), test.part(donors(test.pairs)[list(rows)].tolist())
    state = transferred(decoder.world_model, receivers.states[:, 0], given.states, decoder.device)
    o_t, o_next = (given.images / 255).unbind(1)
    tiles = {"donor_o_t": o_t, "donor_o_next": o_next, "o_t": receivers.images[:, 0] / 255}
    write_tiles({**tiles, "prediction": decoder.mae.decode(state).cpu()}, folder)
    number_columns(len(rows), folder)


@torch.no_grad()
def show_rollouts(
    predicted: Mapping[str, Tensor],
    segments: RolloutSegments,
    decoder: World,
    steps: Sequence[int],
    out: Path,
    corpus: str,
) -> None:
    """Three runs as animations beside the true clip, and one of them as panels, a column per step."""
    frames = segments.pairs.images[segments.pair_index] / 255  # (n, H, 2, 3, S, S)
    motion = (frames[:, -1, 1] - frames[:, 0, 0]).abs().mean((1, 2, 3))
    order = motion.argsort()
    seconds = float(segments.pairs.pairs.manifest.table["gap"].median())
    for number, quantile in enumerate(ANIMATED, start=1):
        run = int(order[round(quantile * (len(order) - 1))])
        first = frames[run, :1, 0]  # (1, 3, S, S)
        clips = {"o": torch.cat([first, frames[run, :, 1]])}
        for name, states in predicted.items():
            clips[name] = torch.cat([first, decoder.mae.decode(states[run]).cpu()])
        named = {"true" if name == "o" else method_label(name): clip for name, clip in clips.items()}
        write_animation(named, out / "rollouts" / f"{corpus}_{number}.gif", seconds=seconds)
        if quantile == PANEL_RUN:
            folder = out / "panels" / f"{corpus}-rollout"
            chosen = torch.tensor(steps)
            write_tiles(
                {("o_next" if name == "o" else name): clip[chosen] for name, clip in clips.items()}, folder
            )
            number_columns(len(steps), folder, step=list(steps))


def number_columns(count: int, folder: Path, **more: list[int]) -> None:
    """`panels.csv`: which columns there are."""
    write_table(pd.DataFrame({"k": range(1, count + 1), **more}), folder / "panels.csv")


def write_rollout_table(rows: Mapping[str, Mapping[str, Any]], horizon: int, path: Path) -> None:
    """A table of each rollout measure k steps ahead, with its interval, by method and seed."""
    lines = []
    for method, metrics in rows.items():
        for k in range(1, horizon + 1):
            line: dict[str, Any] = {}
            for name in ROLLOUT_MEASURES:
                if f"{name}_{k}" in metrics:
                    entry = metrics[f"{name}_{k}"]
                    low, high = entry["ci"] or (None, None)  # of few clips there is no interval
                    line |= {name: entry["value"], f"{name}_low": low, f"{name}_high": high}
            if line:
                lines.append({"method": method, "k": k, **line})
    if lines:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(pd.DataFrame(lines), path)
