"""The panels of the figures: which pairs they show, and their tiles as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

from uwm.evaluation.measure import FramePairs
from uwm.evaluation.records import write_table
from uwm.files import replacing
from uwm.models.world import World

FIGURE3_TILES = ("o_t", "r_t", "o_next", "r_next", "prediction")  # the columns of Figure 3

# Panels


def panel_rows(pairs: pd.DataFrame) -> list[int]:
    """Five pairs for a figure: of the moving half, those at the 10th, 30th, ... 90th percentile of motion.

    Each from another clip where there are enough. The paper's five are picked by hand; this rule looks at the
    frames alone, never at a prediction.
    """
    moving = pairs[pairs["moving"]].sort_values("motion")
    chosen: list[int] = []
    for quantile in (0.1, 0.3, 0.5, 0.7, 0.9):
        left = moving[~moving["video"].isin(pairs.loc[chosen, "video"])]
        left = left if len(left) else moving.drop(index=chosen)
        if len(left):
            distance = (left["motion"] - float(moving["motion"].quantile(quantile))).abs()
            chosen.append(int(left.index.to_numpy()[distance.argmin()]))
    return chosen


def write_panel_rows(pairs: pd.DataFrame, rows: Sequence[int], folder: Path) -> None:
    """`panels.csv`: which pairs the tiles k = 1, 2, ... are of."""
    numbers = pairs.loc[list(rows), ["video", "t0", "t1", "motion"]]
    numbers.insert(0, "k", range(1, len(rows) + 1))
    write_table(numbers, folder / "panels.csv")


def write_tiles(columns: Mapping[str, Tensor], folder: Path) -> None:
    """Each picture as `<k>_<column>.png`, k from 1. `columns`: (n, 3, S, S) in [0, 1] by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for column, pictures in columns.items():
        for k, picture in enumerate(pictures, start=1):
            save_tile(picture, folder / f"{k}_{column}.png")


def write_figure3_panels(
    world: World, test: FramePairs, predicted: tuple[str, Tensor], pairs: pd.DataFrame, folder: Path
) -> None:
    """The tiles of Figure 3 as PNG, and `panels.csv` with their numbers: the columns of Table 1.

    `predicted`: a method's name and the frames (n, 3, S, S) that it predicts.
    """
    (method, frames), images, rows = predicted, test.images, panel_rows(pairs)
    o_t, o_next = images[rows].unbind(1)
    r_t, r_next = (
        world.mae.decode(world.encode(images[rows]).flatten(0, 1)).cpu().unflatten(0, (-1, 2)).unbind(1)
    )
    pictures = (o_t / 255, r_t, o_next / 255, r_next, frames[rows])
    write_tiles(dict(zip(FIGURE3_TILES, pictures, strict=True)), folder)
    distances = [f"{method}/lpips_to_current", f"{method}/lpips_to_next"]
    numbers = pairs.loc[rows, ["video", "t0", "t1", *distances]]
    numbers.columns = ["video", "t0", "t1", "lpips_to_current", "lpips_to_next"]
    numbers.insert(0, "k", range(1, len(rows) + 1))
    write_table(numbers, folder / "panels.csv")


def save_tile(picture: Tensor, path: Path) -> None:
    """Write a picture (3, S, S) in [0, 1] as PNG, whole or not at all."""
    pixels = picture.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="png")


def draw_tiles(folder: Path, columns: Sequence[str]) -> Path | None:
    """One picture of a folder's tiles, `all.png`: a row per k, the columns that are there. None without."""
    there = [column for column in columns if (folder / f"1_{column}.png").is_file()]
    if not there:
        return None
    count = len(list(folder.glob(f"[0-9]*_{there[0]}.png")))
    rows = [
        [np.asarray(Image.open(folder / f"{k}_{column}.png")) for column in there]
        for k in range(1, count + 1)
    ]
    picture = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    Image.fromarray(picture).save(folder / "all.png")
    return folder / "all.png"
