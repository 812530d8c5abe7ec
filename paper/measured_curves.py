"""Figures of measured numbers: against the number of training pairs, and against the steps of a rollout.

What is drawn is read off the records first (`Plot`), so that the drawing needs no records.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from paper.extrapolation import lengths, trend
from paper.names import math
from paper.store import Measured, Results
from paper.style import legend_above, legend_columns, legend_height, log_scale, look, plots, short_number
from uwm.methods import (
    CLONING,
    COPY,
    DIRECT,
    METHODS,
    MORE_SAMPLES,
    NO_ACTION,
    R_GT,
    R_LA,
    RANDOM,
    SCRATCH,
    SIMULATOR,
    W_FT,
    W_PRE,
    W_TFS,
    method_label,
    parse,
)
from uwm.methods.families import PLANNERS
from uwm.methods.variations import (
    AS_RELEASED,
    BASE,
    CODEC,
    CODECS,
    LATENT,
    LENGTH,
    RATE,
    RELEASED_MODEL,
    VARIATIONS,
)
from uwm.metrics.spec import known_metric, metric_label

Points = Mapping[float, Measured]
ALL = np.inf  # pairs: as many as there are, where the config does not say how many
OVER_VARIATIONS = (
    *("state_ratio_moving", "own_over_shuffled_moving", "leak_moving", "lpips_ratio_moving"),
    *("lpips_to_next_moving", "probe_r2"),
)
MOST_LINES = 8  # of a plot over steps
MANY_PLOTS = 4  # which stand in two columns
OVER_STEPS = ("rollout_lpips", "rollout_state_mse", "distance_mm")


@dataclass(frozen=True)
class Plot:
    """Lines with intervals, and level ones, by method."""

    metric: str
    lines: Mapping[str, Points]
    levels: Mapping[str, Measured]
    trends: Mapping[str, Mapping[float, float]] = field(default_factory=dict)  # how lines would go on


# Against the number of pairs. A method `NAME-500` or `NAME-10k` is NAME with that number of pairs; NAME's own
# stands in its config.


@dataclass(frozen=True)
class Varied:
    """Methods whose number of pairs is varied, each with the config's group that holds its own number; the
    methods that are drawn as level lines; and the measures, one plot each where they were measured."""

    methods: Mapping[str, str]
    levels: Sequence[str]
    metrics: Sequence[str]
    counted: str = "labelled pairs"  # by their actions


LPIPS_OF_MOTION = ("lpips_to_next_moving", "lpips_region_moving")
VARIED_PAIRS = {
    "figure4": Varied(
        {W_FT.name: "recipe"},
        (COPY.name, W_PRE.name, SCRATCH.name, W_TFS.name),
        LPIPS_OF_MOTION,
        "training pairs",
    ),
    "figure5": Varied(
        {R_GT.name: "adapter", DIRECT.name: "dynamics"},
        (COPY.name, R_LA.name, NO_ACTION.name),
        (*LPIPS_OF_MOTION, "hand_error_px_moving"),
    ),
    "planning": Varied(
        {R_GT.name: "adapter", DIRECT.name: "dynamics", CLONING.name: "cloning"},
        (SIMULATOR.variant(MORE_SAMPLES), RANDOM.name),  # with as many samples as the others have
        ("success",),
    ),
}


def pairs_plots(results: Results, scale: str, experiment: str, corpus: str) -> list[Plot]:
    """One plot per measure; none without a method that was measured with two numbers of pairs."""
    varied, drawn = VARIED_PAIRS.get(experiment, Varied({}, (), ())), []
    for metric in varied.metrics:
        lines = {
            method: points(results, scale, experiment, corpus, method, metric) for method in varied.methods
        }
        levels = {name: results.measure(scale, experiment, name, corpus, metric) for name in varied.levels}
        if any(len(line) > 1 for line in lines.values()):
            there = {method: measured for method, measured in levels.items() if measured}
            drawn.append(Plot(metric, lines, there))
    return drawn


def points(
    results: Results, scale: str, experiment: str, corpus: str, method: str, metric: str
) -> dict[float, Measured]:
    """Number of pairs -> the method's number, in ascending order."""
    group = VARIED_PAIRS[experiment].methods[method]
    by_pairs: dict[float, Measured] = {}
    for cell in results.cells.get((scale, experiment), []):
        if cell.corpus != corpus or cell.status != "ok":
            continue
        recipe_pairs = cell.record["config"].get(group, {}).get("pairs") or ALL
        pairs = recipe_pairs if cell.method == method else _suffix(cell.method, method)
        measured = results.measure(scale, experiment, cell.method, corpus, metric)
        if pairs and measured:
            by_pairs[pairs] = measured
    return dict(sorted(by_pairs.items()))


def _suffix(method: str, base: str) -> int | None:
    """`w_ft-10k` -> 10000; None where what follows is no number."""
    match = re.fullmatch(rf"{re.escape(base)}-(\d+)(k?)", method)
    return int(match[1]) * (1000 if match[2] else 1) if match else None


def pairs_figure(drawn: Sequence[Plot], experiment: str) -> Figure:
    """The number of pairs on a logarithmic axis; at its end stands the training on all pairs."""
    ticks = sorted({pairs for plot in drawn for line in plot.lines.values() for pairs in line})
    last = 4 * max((pairs for pairs in ticks if pairs < ALL), default=1)
    positions = {pairs: float(np.log10(min(pairs, last))) for pairs in ticks}
    names = {pairs: "all" if pairs == ALL else short_number(int(pairs)) for pairs in ticks}
    return measured_figure(drawn, positions, names, VARIED_PAIRS[experiment].counted)


# Against the rate and the length of the training: one line, the base recipe among its variations


def variation_plots(results: Results, scale: str, corpus: str, topic: str) -> list[Plot]:
    """One plot per measure, over bits (topic `RATE`) or pairs seen (`LENGTH`, with how they would go on).

    None with fewer than two points.
    """
    drawn = []
    for metric in OVER_VARIATIONS:
        if topic == RATE:
            coded = [BASE.name, *(v.name for v in VARIATIONS.values() if v.topic == RATE)]
            of = {LATENT.name: coded, CODEC.name: list(CODECS)}
            lines = {name: _by_bits(results, scale, corpus, metric, names) for name, names in of.items()}
            points_of = {RELEASED_MODEL.name: _by_bits(results, scale, corpus, metric, [AS_RELEASED])}
        else:
            lines, points_of = {LATENT.name: lengths(results, scale, corpus, metric)}, {}
        lines = {name: line for name, line in lines.items() if len(line) > 1}
        trends = {name: trend(line) for name, line in lines.items() if topic == LENGTH}
        if lines:
            alone = {name: point for name, point in points_of.items() if point}
            drawn.append(Plot(metric, lines | alone, {}, trends))
    return drawn


def _by_bits(
    results: Results, scale: str, corpus: str, metric: str, names: Sequence[str]
) -> dict[float, Measured]:
    """Bits, of a codec the most that it may spend -> the number, in ascending order."""
    by_bits: dict[float, Measured] = {}
    for name in names:
        cells = [cell for cell in results.find(scale, "ablations", name, corpus) if cell.status == "ok"]
        measured = results.measure(scale, "ablations", name, corpus, metric)
        if cells and measured:
            by_bits[float(CODECS.get(name) or cells[0].record["metrics"]["bits"]["value"])] = measured
    return dict(sorted(by_bits.items()))


def variation_figure(drawn: Sequence[Plot], xlabel: str) -> Figure:
    """Bits or pairs on a logarithmic axis; values too, where they differ more than tenfold."""
    lines = [line for plot in drawn for line in (*plot.lines.values(), *plot.trends.values())]
    positions = {tick: float(np.log10(tick)) for line in lines for tick in line}
    names = {tick: short_number(tick) for tick in sorted(positions)}
    figure = measured_figure(drawn, positions, names, xlabel)
    for axis, plot in zip(figure.axes, drawn, strict=True):
        values = [entry.value for line in plot.lines.values() for entry in line.values()]
        values += [value for trend_line in plot.trends.values() for value in trend_line.values()]
        if 0 < 10 * min(values) < max(values):
            axis.set_ylim(0.8 * min(values), 1.3 * max(values))
            log_scale(axis)
    return figure


# Against the steps of a rollout


def rollout_plots(
    results: Results, scale: str, experiment: str, corpus: str, methods: list[str]
) -> list[Plot]:
    """One plot per measure, a line for each of `methods` that was rolled out. Of more lines than can be told
    apart: methods alone, without variants, numbers of pairs and families."""
    if len(methods) > MOST_LINES:
        methods = [name for name in methods if name in METHODS and name not in PLANNERS]
    drawn = []
    for metric in OVER_STEPS:
        lines = {m: _steps(results, scale, experiment, corpus, m, metric) for m in methods}
        lines = {method: line for method, line in lines.items() if line}
        if lines:
            drawn.append(Plot(metric, lines, {}))
    return drawn


def _steps(
    results: Results, scale: str, experiment: str, corpus: str, method: str, metric: str
) -> dict[float, Measured]:
    """k -> error k steps ahead."""
    line: dict[float, Measured] = {}
    while (
        measured := results.measure(scale, experiment, method, corpus, f"{metric}_{len(line) + 1}")
    ) is not None:
        line[len(line) + 1] = measured
    return line


def rollout_figure(drawn: Sequence[Plot]) -> Figure:
    """The steps side by side."""
    ticks = sorted({k for plot in drawn for line in plot.lines.values() for k in line})
    return measured_figure(drawn, {k: k for k in ticks}, {k: f"{k:g}" for k in ticks}, "steps, k")


def measured_figure(
    drawn: Sequence[Plot], positions: Mapping[float, float], ticks: Mapping[float, str], xlabel: str
) -> Figure:
    """The plots, bands for intervals, one legend above all. `positions` are the lines' x, some with a tick,
    in ascending order."""
    lines = {name for plot in drawn for name in plot.lines}
    names = list(dict.fromkeys(name for plot in drawn for name in (*plot.lines, *plot.levels)))
    labels = [method_label(name) for name in names]
    columns = 1 if len(drawn) < MANY_PLOTS else 2
    figure, axes = plots(len(drawn), 1.5, above=legend_height(labels), columns=columns)
    for axis, plot in zip(axes, drawn, strict=True):
        for method, line in plot.lines.items():
            x = [positions[key] for key in line]
            axis.plot(x, [entry.value for entry in line.values()], **look(method))
            low, high = ([getattr(entry, end) for entry in line.values()] for end in ("low", "high"))
            axis.fill_between(x, low, high, color=look(method)["color"], alpha=0.15, linewidth=0)
        for method, going_on in plot.trends.items():
            x = [positions[key] for key in going_on]
            axis.plot(x, list(going_on.values()), **level_look(method) | {"linestyle": ":"})
        for method, level in plot.levels.items():
            axis.axhline(level.value, **level_look(method))
        top = 1.02 * axis.get_ylim()[1]  # so that the highest line is whole
        axis.set(ylim=(-0.02 * top, top), ylabel=math(metric_label(plot.metric)))  # what lies at 0 is seen
        if (metric := known_metric(plot.metric)) and metric.unit == "share":
            axis.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    for axis in axes[-columns:]:
        axis.set(xlabel=xlabel)
        marked = [positions[key] for key in ticks]
        axis.set_xticks(marked, spaced(marked, list(ticks.values())))
    handles = [Line2D([], [], **(look(name) if name in lines else level_look(name))) for name in names]
    legend_above(
        axes[columns - 1], legend_columns(labels), handles=handles, labels=[math(label) for label in labels]
    )
    return figure


def spaced(positions: Sequence[float], ticks: Sequence[str]) -> list[str]:
    """The ticks' labels, without those that would touch the one before. Positions ascend; the last stays."""
    room = 0.018 * (positions[-1] - positions[0])  # of a letter
    kept = [""] * len(ticks)
    free = float("inf")
    for k in reversed(range(len(ticks))):
        half = room * len(ticks[k]) / 2
        if positions[k] + half < free:
            kept[k], free = ticks[k], positions[k] - half - room
    return kept


def level_look(method: str) -> dict[str, Any]:
    """A method's line without its marker; a variant has its method's."""
    return look(parse(method).method.name) | {"marker": ""}
