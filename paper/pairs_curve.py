"""LPIPS against the number of training pairs: the sample efficiency of Figure 4 (and any experiment alike).

A method `NAME-500` or `NAME-10k` is NAME with that number of pairs; NAME's own number stands in its config.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from paper.store import Measured, Results
from paper.names import METRICS, math, method_label
from paper.style import COLOURS, COLUMN_INCHES

DRAWN = ("lpips_to_next_moving", "lpips_region_moving")  # one plot each, where they were measured
STYLES = ("--", "-.", ":", (0, (5, 1)))


@dataclass(frozen=True)
class Varied:
    """The method whose number of pairs is varied, and the methods that are drawn as level lines."""

    method: str
    pairs: tuple[str, str]  # where the config holds the method's own number
    levels: Sequence[str]


VARIED = {"figure4": Varied("w_ft", ("finetune", "pairs"), ("copy", "w_pre", "scratch", "w_tfs"))}


def points(results: Results, scale: str, experiment: str, corpus: str, metric: str) -> dict[int, Measured]:
    """Number of pairs -> the varied method's number, in ascending order."""
    varied, found = VARIED[experiment], {}
    for cell in results.cells.get((scale, experiment), []):
        if cell.corpus != corpus or cell.status != "ok":
            continue
        group, name = varied.pairs
        own = cell.record["config"].get(group, {}).get(name)
        pairs = own if cell.method == varied.method else _suffix(cell.method, varied.method)
        measured = results.measure(scale, experiment, cell.method, corpus, metric)
        if pairs and measured:
            found[int(pairs)] = measured
    return dict(sorted(found.items()))


def _suffix(method: str, base: str) -> int | None:
    """`w_ft-10k` -> 10000; None where what follows is no number."""
    match = re.fullmatch(rf"{re.escape(base)}-(\d+)(k?)", method)
    return int(match[1]) * (1000 if match[2] else 1) if match else None


def pairs_curve(results: Results, scale: str, experiment: str, corpus: str) -> Figure | None:
    """One plot per measure, intervals as bars, other methods as level lines. None for under two points."""
    if experiment not in VARIED:
        return None
    found = {metric: points(results, scale, experiment, corpus, metric) for metric in DRAWN}
    found = {metric: measured for metric, measured in found.items() if len(measured) > 1}
    if not found:
        return None
    size = (COLUMN_INCHES, 0.5 + 1.7 * len(found))
    figure = Figure(figsize=size)
    axes = figure.subplots(len(found), 1, sharex=True, squeeze=False)
    varied = VARIED[experiment]
    for axis, (metric, measured) in zip(axes[:, 0], found.items(), strict=True):
        _draw_points(axis, measured, math(method_label(varied.method)))
        for k, method in enumerate(varied.levels):
            level = results.measure(scale, experiment, method, corpus, metric)
            if level:
                look: dict[str, Any] = {"color": COLOURS[k + 1], "linestyle": STYLES[k % len(STYLES)]}
                axis.axhline(level.value, label=math(method_label(method)), **look)
        label = METRICS[metric.removesuffix("_moving")]
        axis.set(xscale="log", ylim=(0, None), ylabel=math(label))
    axes[0, 0].legend(fontsize=6, ncols=2)
    axes[-1, 0].set_xlabel("training pairs")
    return figure


def _draw_points(axis: Any, measured: Mapping[int, Measured], label: str) -> None:
    values = [entry.value for entry in measured.values()]
    below = [entry.value - entry.low for entry in measured.values()]
    above = [entry.high - entry.value for entry in measured.values()]
    look: dict[str, Any] = {"marker": "o", "markersize": 3, "capsize": 2, "linestyle": "-"}
    axis.errorbar(list(measured), values, yerr=[below, above], label=label, **look)
