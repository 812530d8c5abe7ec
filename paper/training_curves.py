"""Figures of how trainings went: their curves, and the use of the codes in the end."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from paper.names import corpus_label, math
from paper.reading import read_table
from paper.style import LEGEND_ROW, TITLE, legend_above, log_scale, plots, short_number
from uwm.methods import DIRECT, NO_ACTION, R_GT, W_FT, method_label

COUNTS = ("perplexity", "used")
PSNR, CODES = "PSNR on validation, dB", "codes in use"
STATE_ERROR = "val/state_mse/"
UNDRAWN = ("step", "lr", "grad_norm", "ema_perplexity", "action_gap")  # the gap is shuffled minus own
OF_CELL = "finetune_"  # begins the curve of one cell's training: `finetune_<method>__<corpus>[__s<seed>]`
# What predicts after each of these trainings: their errors can be compared.
PREDICTS = {"finetune": W_FT.name, "adapter": R_GT.name, "direct": DIRECT.name, "no-action": NO_ACTION.name}


def curve_figure(path: Path) -> Figure:
    """A training curve, one plot per kind of number: training, validation by corpus, PSNR, codes in use."""
    table = read_table(path)
    groups = curve_groups([name for name in table.columns if table[name].notna().any()])
    rows = {title: -(-len(lines) // 2) for title, lines in groups.items()}  # of the legends
    room = max(rows.values()) * LEGEND_ROW + TITLE
    figure, axes = plots(len(groups), 0.75, above=room, between=room + 0.1)
    for axis, (title, lines) in zip(axes, groups.items(), strict=True):
        for name, label in lines.items():
            points = _thinned(table[["step", name]].dropna())
            axis.plot(points["step"], points[name], label=label)
        if title not in (PSNR, CODES) and (table[list(lines)].min() > 0).all():
            log_scale(axis)
        axis.set_title(title, loc="left", pad=72 * LEGEND_ROW * rows[title] + 2)  # points
        legend_above(axis, 2)
    axes[-1].set_xlabel("step")
    return figure


def curve_groups(names: list[str]) -> dict[str, dict[str, str]]:
    """Plot's title -> column -> line's label. Columns: `loss`, `val/<number>/<corpus>` and the like."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        validation = name.startswith("val/")
        number_, _, corpus = name.removeprefix("val/").partition("/")
        if number_ in UNDRAWN:
            continue
        if number_ in (*COUNTS, "psnr"):
            title = PSNR if number_ == "psnr" else CODES
            label = f"{number_} {corpus_label(corpus)}".strip()
        else:
            title = f"validation {corpus_label(corpus)}".strip() if validation else "training"
            label = number_
        groups.setdefault(title, {})[name] = label.replace("_", " ")
    return groups


def _thinned(table: pd.DataFrame, points: int = 400) -> pd.DataFrame:
    """Means of blocks of rows, so that a curve has at most `points` points."""
    block = -(-len(table) // points)
    return table.groupby(np.arange(len(table)) // block).mean()


def compared(paths: list[Path]) -> dict[str, dict[str, Path]]:
    """Corpus -> method -> curve of its first seed, of those whose state errors can be compared."""
    curves: dict[str, dict[str, Path]] = {}
    for path in sorted(paths):
        if path.stem.startswith(OF_CELL):
            method, corpus, *_ = path.stem.removeprefix(OF_CELL).split("__")
            curves.setdefault(corpus, {}).setdefault(method, path)
        elif path.stem in PREDICTS:
            columns = read_table(path, rows=0).columns
            for name in columns[columns.str.startswith(STATE_ERROR)]:
                curves.setdefault(name.removeprefix(STATE_ERROR), {})[PREDICTS[path.stem]] = path
    return curves


def compared_figure(curves: Mapping[str, Path]) -> Figure:
    """State error on validation pairs during each method's training, one line a method."""
    rows = -(-len(curves) // 2)
    figure, (axis,) = plots(1, 1.6, above=rows * LEGEND_ROW)
    for method, path in curves.items():
        table = read_table(path)
        name = table.columns[table.columns.str.startswith(STATE_ERROR)][0]
        points = table[["step", name]].dropna()
        axis.plot(points["step"], points[name], label=math(method_label(method)))
    axis.set(xlabel="step", ylabel="state MSE, validation")
    axis.xaxis.set_major_formatter(lambda step, _: short_number(step))
    log_scale(axis)
    legend_above(axis, 2)
    return figure


def code_use_figure(paths: list[Path]) -> Figure:
    """Share of the codes' uses, sorted, one line per corpus; the dotted line is even use."""
    figure, (axis,) = plots(1, 1.5, above=len(paths) * LEGEND_ROW)
    for path in paths:
        counts = np.sort(read_table(path)["count"].to_numpy(float))[::-1]
        share = counts / max(counts.sum(), 1)
        used = share[share > 0]
        perplexity = np.exp(-(used * np.log(used)).sum())
        label = f"{corpus_label(path.stem)}: {len(used)} of {len(counts)} codes, perplexity {perplexity:.0f}"
        axis.plot(np.arange(1, len(used) + 1), 100 * used, label=label)
        axis.axhline(100 / len(counts), color="0.6", linewidth=0.6, linestyle=":")
    axis.set(xlabel="codes, most used first", ylabel="share of uses, %")
    log_scale(axis)
    legend_above(axis, 1)
    return figure
