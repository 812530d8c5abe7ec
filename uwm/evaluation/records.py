"""Metrics, samples and curves of a record."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from uwm.data.manifest import Manifest
from uwm.evaluation.further_metrics import KEYS, FurtherMetrics
from uwm.files import copy_atomically
from uwm.metrics.spec import METRICS, metric_of
from uwm.metrics.statistics import Interval, bootstrap_mean, bootstrap_ratio, gain
from uwm.runs.experiment import Cell, Context, Estimate

FEWEST_CLIPS = 5  # of which a bootstrap over clips says something


# Metrics of a record


DIGITS = "%.6g"  # of numbers in samples


def method_metrics(pairs: pd.DataFrame, method: str, protocol: str) -> dict[str, Estimate]:
    """The metrics of one method over all pairs and, with `_moving`, over their moving half.

    Of the digits that samples are written with, so that these give the same numbers: a distance that is the
    nearer one by less counts as equal.
    """
    pairs = as_written(pairs)
    moving = metrics(pairs[pairs["moving"]], method, protocol, "_moving")
    return metrics(pairs, method, protocol) | moving


def as_written(table: pd.DataFrame) -> pd.DataFrame:
    """The table as `write_table` writes it."""
    floats = table.select_dtypes(include=[np.floating])
    return table.assign(**{str(name): [float(DIGITS % x) for x in floats[name]] for name in floats})


def metrics(pairs: pd.DataFrame, method: str, protocol: str, suffix: str = "") -> dict[str, Estimate]:
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
    return {name + suffix: entry for name, entry in means({**column, **shares}, clips, protocol).items()}


def means(columns: Mapping[str, np.ndarray], clips: np.ndarray, protocol: str) -> dict[str, Estimate]:
    """The means of columns (n,), and the ratios of means that they hold both parts of, with 95% bootstrap
    intervals over `clips` (n,). A part of a ratio that is no metric itself has no mean here."""
    parts = {name for metric in METRICS.values() for name in metric.ratio or ()} - set(METRICS)
    result = {
        name: estimate(bootstrap_mean(values.astype(float), clips), name, protocol)
        for name, values in columns.items()
        if name not in parts
    }
    for metric in METRICS.values():
        if metric.ratio and set(metric.ratio) <= set(columns):
            above, below = (columns[name] for name in metric.ratio)
            if (pd.Series(below).groupby(clips).sum() > 0).all():  # a copy of O_t is at no distance to it
                ratio = bootstrap_ratio(above, below, clips)
                result[metric.name] = estimate(gain(ratio) if metric.gain else ratio, metric.name, protocol)
    return result


def further_metrics(
    kind: str, rows: pd.DataFrame, columns: Mapping[str, np.ndarray], protocol: str
) -> FurtherMetrics:
    """The means of columns (n,) over `rows` of their own (video, t0, t1), and the table they follow from."""
    table = rows[["video", "t0", "t1"]].reset_index(drop=True).assign(moving=1, **columns)
    return FurtherMetrics(means(columns, rows["video"].to_numpy(), protocol), {kind: table})


def estimate(interval: Interval, name: str, protocol: str) -> Estimate:
    """An interval as a record's number, without its limits where there are too few clips to know them.

    `protocol` is kept where the metric is measured by an LPIPS.
    """
    named = protocol if metric_of(name).protocol == "lpips" else None
    known = interval.clusters >= FEWEST_CLIPS
    return Estimate(interval.estimate, interval.n, (interval.low, interval.high) if known else None, named)


# Files


def write_table(table: pd.DataFrame, path: Path) -> None:
    """CSV, the same bytes for the same numbers."""
    table.to_csv(path, index=False, lineterminator="\n", float_format=DIGITS)


def write_evaluation(
    folder: Path,
    manifest: Manifest,
    protocol: str,
    weights: Mapping[str, str],
    whole: Mapping[str, FurtherMetrics],
) -> None:
    """What a cell reads beside `pairs.csv`. `whole`: by method, what is no mean over pairs; `read_further`
    reads it."""
    content = {
        "protocol": protocol,
        "manifest_sha256": manifest.sha256,
        "weights": dict(weights),
        "skipped": manifest.skipped,
        "whole": {
            method: {name: asdict(entry) for name, entry in entries.metrics.items()}
            for method, entries in whole.items()
        },
    }
    (folder / "evaluation.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    for method, entries in whole.items():
        for kind, table in entries.tables.items():
            path = folder / "further" / method / f"{kind}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(table, path)


def read_further(folder: Path, method: str) -> FurtherMetrics:
    """What `write_evaluation` kept of a method beside its pairs."""
    entries = json.loads((folder / "evaluation.json").read_text())["whole"].get(method, {})
    tables = {path.stem: pd.read_csv(path) for path in sorted((folder / "further" / method).glob("*.csv"))}
    return FurtherMetrics({name: Estimate(**entry) for name, entry in entries.items()}, tables)


def column(cell: Cell) -> str:
    """The cell's name in the samples: its method, with the seed where it has one."""
    return cell.method if cell.seed is None else f"{cell.method}/s{cell.seed}"


def write_samples(context: Context, cell: Cell, pairs: pd.DataFrame) -> Path:
    """The cell's own numbers per pair, a file of its own so that cells can run in any order."""
    path = context.out / "samples" / f"{cell.file_name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = pairs.columns.str.startswith(f"{column(cell)}/") | ~pairs.columns.str.contains("/")
    write_table(pairs.loc[:, mask], path)
    return path


def write_further(context: Context, cell: Cell, further: FurtherMetrics) -> tuple[Path, ...]:
    """The tables behind a cell's numbers beside those of its pairs: `samples/<kind>/<cell>.csv`."""
    paths = []
    for kind, table in further.tables.items():
        path = context.out / "samples" / kind / f"{cell.file_name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        names = {name: f"{column(cell)}/{name}" for name in table if name not in KEYS}
        write_table(table.rename(columns=names), path)
        paths.append(path)
    return tuple(paths)


def publish_curves(context: Context, names: Mapping[str, str] | None = None) -> None:
    """Put the curve of each training that the cell used among the results, under its stage's name or
    another one from `names`."""
    for stage, artifact in context.artifacts.obtained.items():
        if (artifact.path / "curve.csv").is_file():
            name = (names or {}).get(stage, stage)
            copy_atomically(artifact.path / "curve.csv", context.out / "curves" / f"{name}.csv")
