"""What experiments share when they measure predictions: distances, metrics of a record, tables, tiles.

Every method predicts states; a state is shown by the frozen MAE and compared with O_t and O_t+1, both as the
MAE shows them (R_t and R_t+1, so that all are blurred alike, section 5.2) and as they are.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from uwm.data.manifest import Manifest
from uwm.metrics.image import psnr, ssim
from uwm.metrics.perceptual import LPIPS, Features
from uwm.metrics.region import moving_region, region_lpips, region_psnr
from uwm.metrics.statistics import Interval, bootstrap_mean, bootstrap_ratio
from uwm.runs.experiment import Cell, Context, Metric
from uwm.stages import World

REFERENCES = ("copy", "oracle")  # R_t and R_t+1 as predictions
HIGHER = ("psnr", "ssim", "success")  # what names of measures begin with whose higher values are better
MAIN = ("lpips_to_current", "lpips_to_next", "lpips_ratio", "success_vs_current", "success_vs_copy", "psnr")


def in_batches(function: Callable[..., Any], *tensors: Tensor, size: int = 64) -> Any:
    """`function` over batches of the tensors; a tensor or a named tuple of tensors, joined again."""
    parts = [function(*batch) for batch in zip(*(t.split(size) for t in tensors), strict=True)]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return type(parts[0])(*(torch.cat(field) for field in zip(*parts, strict=True)))


# Predictions against observations


@dataclass(frozen=True)
class Observed:
    """What the predictions of B pairs are compared with.

    `frames` and their LPIPS `features`: `o_t` and `o_next` as they are, `r_t` and `r_next` as the MAE shows
    them, (B, 3, S, S) in [0, 1]. `s_next` (B, 1+N, D).
    """

    frames: Mapping[str, Tensor]
    features: Mapping[str, Features]
    s_next: Tensor


class Predicted(NamedTuple):
    """One method's predictions of B pairs: states (B, 1+N, D), the frames that they show, their features."""

    state: Tensor
    frame: Tensor
    features: Features


Measure = Callable[[LPIPS, Observed, Predicted], Mapping[str, Tensor]]


def frame_distances(network: LPIPS, seen: Observed, predicted: Predicted) -> dict[str, Tensor]:
    """The measures (B,) of Table 1.

    `lpips_to_current` and `lpips_to_next` compare with R_t and R_t+1, the observations blurred by the MAE
    (section 5.2); the `_true` ones, PSNR (dB) and SSIM with the frames themselves.
    """
    near = {name: network.distance(predicted.features, features) for name, features in seen.features.items()}
    return {
        "lpips_to_current": near["r_t"],
        "lpips_to_next": near["r_next"],
        "lpips_to_current_true": near["o_t"],
        "lpips_to_next_true": near["o_next"],
        "psnr": psnr(predicted.frame, seen.frames["o_next"]),
        "ssim": ssim(predicted.frame, seen.frames["o_next"]),
        "state_mse": (predicted.state - seen.s_next).square().mean((1, 2)),
    }


def region_distances(network: LPIPS, seen: Observed, predicted: Predicted) -> dict[str, Tensor]:
    """Measures (B,) over the moving region alone (`uwm.metrics.region`)."""
    region = moving_region(seen.frames["o_t"], seen.frames["o_next"])
    return {
        "lpips_region": region_lpips(network, predicted.features, seen.features["r_next"], region),
        "lpips_region_true": region_lpips(network, predicted.features, seen.features["o_next"], region),
        "psnr_region": region_psnr(predicted.frame, seen.frames["o_next"], region),
    }


def measure_pairs(
    world: World,
    network: LPIPS,
    manifest: Manifest,
    images: Tensor,
    states: Mapping[str, Tensor],
    *,
    measures: Sequence[Measure] = (frame_distances,),
    shown: Sequence[str] = (),
    only: Sequence[str] | None = None,
    batch_size: int = 32,
    name: str = "",
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Measure all methods on all pairs of a manifest, and keep the predicted frames of those `shown`.

    `images` (n, 2, 3, S, S) uint8; `states` (n, 1+N, D) by method, among them `copy` (s_t) and `oracle`
    (s_t+1). The table has a row per pair: video, t0, t1, moving (motion above the median), motion (LPIPS
    between O_t and O_t+1), lpips_of_copy, and `<method>/<measure>` for the methods in `only` (None: all).
    """
    tables, frames = [], []
    for rows in tqdm(torch.arange(len(images)).split(batch_size), desc=f"measure {name}", mininterval=10):
        part = {method: state[rows] for method, state in states.items()}
        batch = images[rows].to(world.device)
        table, drawn = _measure_batch(world, network, batch, part, measures, only or list(states))
        tables.append(table)
        frames.append({method: drawn[method].cpu() for method in shown})
    pairs = pd.concat([manifest.table[["video", "t0", "t1"]], pd.concat(tables, ignore_index=True)], axis=1)
    pairs.insert(3, "moving", pairs["motion"] > pairs["motion"].median())
    return pairs, {method: torch.cat([part[method] for part in frames]) for method in shown}


@torch.no_grad()
def _measure_batch(
    world: World,
    network: LPIPS,
    images: Tensor,
    states: Mapping[str, Tensor],
    measures: Sequence[Measure],
    methods: Sequence[str],
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    frames = {method: world.mae.decode(state) for method, state in states.items()}
    o_t, o_next = images.float().div(255).unbind(1)
    features = {name: network.features(x) for name, x in {**frames, "o_t": o_t, "o_next": o_next}.items()}
    seen = Observed(
        {"o_t": o_t, "o_next": o_next, "r_t": frames["copy"], "r_next": frames["oracle"]},
        {"o_t": features["o_t"], "o_next": features["o_next"],
         "r_t": features["copy"], "r_next": features["oracle"]},
        states["oracle"],
    )  # fmt: skip
    columns = {
        "motion": network.distance(features["o_t"], features["o_next"]),
        "lpips_of_copy": network.distance(features["copy"], features["oracle"]),
    }
    for method in methods:
        predicted = Predicted(states[method], frames[method], features[method])
        for measure in measures:
            found = measure(network, seen, predicted)
            columns |= {f"{method}/{name}": value for name, value in found.items()}
    return pd.DataFrame({name: value.double().cpu().numpy() for name, value in columns.items()}), frames


# Metrics of a record


def method_metrics(pairs: pd.DataFrame, method: str, protocol: str) -> dict[str, Metric]:
    """The metrics of one method over all pairs and, with `_moving`, over their moving half."""
    moving = metrics(pairs[pairs["moving"]], method, protocol, "_moving")
    return metrics(pairs, method, protocol) | moving


def metrics(pairs: pd.DataFrame, method: str, protocol: str, suffix: str = "") -> dict[str, Metric]:
    """The metrics of one method over the rows of `pairs`, with 95% bootstrap intervals over clips."""
    clips = pairs["video"].to_numpy()
    column = {
        str(name).removeprefix(f"{method}/"): pairs[name].to_numpy()
        for name in pairs.columns[pairs.columns.str.startswith(f"{method}/")]
    }
    to_current, to_next = column["lpips_to_current"], column["lpips_to_next"]
    shares = {
        "success_vs_current": to_next < to_current,
        "success_vs_copy": to_next < pairs["lpips_of_copy"].to_numpy(),
    }
    result = {}
    for name, values in {**column, **shares}.items():
        named = protocol if "lpips" in name or "success" in name else None
        result[name + suffix] = metric(bootstrap_mean(values.astype(float), clips), name, named)
    by_clip = pd.Series(to_current).groupby(clips).sum()
    if (by_clip > 0).all():  # a copy of O_t has no distance to O_t, and so no ratio
        ratio = bootstrap_ratio(to_next, to_current, clips)
        result["lpips_ratio" + suffix] = metric(ratio, "lpips_ratio", protocol)
    return result


def metric(interval: Interval, name: str, protocol: str | None = None) -> Metric:
    """An interval as a record's metric; its name says whether higher or lower is better."""
    better: Literal["lower", "higher"] = "higher" if name.startswith(HIGHER) else "lower"
    return Metric(interval.estimate, interval.n, better, (interval.low, interval.high), protocol)


# Files


def write_table(table: pd.DataFrame, path: Path) -> None:
    """CSV, the same bytes for the same numbers."""
    table.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")


def column(cell: Cell) -> str:
    """The cell's name in the samples: its method, with the seed where it has one."""
    return cell.method if cell.seed is None else f"{cell.method}/s{cell.seed}"


def write_samples(context: Context, cell: Cell, pairs: pd.DataFrame) -> Path:
    """The cell's own numbers per pair, a file of its own so that cells can run in any order."""
    path = context.out / "samples" / f"{cell.file_name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = pairs.columns.str.startswith(f"{column(cell)}/") | ~pairs.columns.str.contains("/")
    write_table(pairs.loc[:, mine], path)
    return path


def copy_atomically(source: Path, target: Path) -> None:
    """Copy a file so that another process sees the old one or the new one, never a part."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial_copy = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, partial_copy)
    os.replace(partial_copy, target)


def publish_curves(context: Context, names: Mapping[str, str] | None = None) -> None:
    """Put the curve of each training that the cell used among the results, under its stage's name or
    another one from `names`."""
    for stage, artifact in context.artifacts.obtained.items():
        if (artifact.path / "curve.csv").is_file():
            name = (names or {}).get(stage, stage)
            copy_atomically(artifact.path / "curve.csv", context.out / "curves" / f"{name}.csv")


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


def save_tile(picture: Tensor, path: Path) -> None:
    """Write a picture (3, S, S) in [0, 1] as PNG, whole or not at all."""
    pixels = picture.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    Image.fromarray(pixels).save(partial, format="png")
    os.replace(partial, path)


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


# The table on the terminal


def protocol_of(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The LPIPS protocol of the first of some records' metrics."""
    return str(next(iter(rows.values()))["lpips_to_next"]["protocol"])


def measured_rows(context: Context, corpus: str) -> dict[str, Mapping[str, Any]]:
    """The metrics of this run's finished cells on a corpus, by `column`."""
    records = context.records()
    cells = [cell for cell in context.cells if cell.corpus == corpus and cell.name in records]
    return {column(c): records[c.name].metrics for c in cells if records[c.name].status == "ok"}


def table_text(
    rows: Mapping[str, Mapping[str, Any]], names: Sequence[str] = MAIN, suffix: str = "_moving"
) -> str:
    """A line per method with its metrics over the moving half; by default distances to O_t and O_t+1, their
    ratio, and how often O_t+1 is the nearer one."""
    lines = [f"{'method':17}" + "".join(f"{name:>24}" for name in names)]
    for method, measured in rows.items():
        entries = (measured.get(name + suffix) for name in names)
        text = (f"{e['value']:.3f} [{e['ci'][0]:.3f}, {e['ci'][1]:.3f}]" if e else "-" for e in entries)
        lines.append(f"{method:17}" + "".join(f"{entry:>24}" for entry in text))
    return "\n".join(lines)
