"""Families of latent actions side by side: their tables and one figure.

Each family has a row: how it does on frames, and how its actions serve a robot, on the corpus with real ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from paper.counted import pairs_and_clips, told_by_corpus, told_pairs
from paper.names import corpus_label, math
from paper.store import MOVING, Measured, Results
from paper.style import legend_above, legend_columns, legend_height, look, plots
from paper.table import Table, measured_text
from paper.tables import origins
from uwm.methods import method_label
from uwm.methods.families import FAMILIES
from uwm.metrics.spec import metric_label
from uwm.training.convergence import CONVERGED

EXPERIMENT_NAME = "families"
CONTROL_ERROR = "adapter_px"  # what a cheap measure should tell: it wants a second training
# Cheap ones: of frames (over the moving half), and of latent actions.
FRAME_MEASURES = ("state_ratio", "own_over_shuffled", "leak", "lpips_ratio", "success_vs_copy")
ROBOT_MEASURES = ("probe_r2", "transfer_px", "hand_error_px", "adapter_500_px", CONTROL_ERROR)
COSTS = (
    "code_bits",
    "perplexity",
    "parameters",
    "gflop",
    "last_gain",
    "delta_psnr",
    "probe_r2_mlp",
    "still_px",
)
BIT_TICKS = (3, 10, 30, 100, 300)  # bits
SHORT_LABELS = {CONTROL_ERROR: "Hand error, px"}  # where there is little room
OVER_BITS = (*(name + MOVING for name in ("state_ratio", "lpips_ratio", "leak")), CONTROL_ERROR)


def family_corpora(results: Results, scale: str) -> tuple[str, str] | None:
    """The corpus of frames and the robot's, which may be one; None where the latter was not measured."""
    cells = [cell for cell in results.cells.get((scale, EXPERIMENT_NAME), []) if cell.status == "ok"]
    robot = [cell.corpus for cell in cells if CONTROL_ERROR in cell.record["metrics"]]
    others = sorted({cell.corpus for cell in cells} - {*robot})
    return ((others or robot)[0], robot[0]) if robot else None


def families_tables(results: Results, scale: str) -> list[Table]:
    """The table of all families, and that of their costs."""
    corpora = family_corpora(results, scale)
    if corpora is None:
        return []
    return [make(results, scale, *corpora) for make in (_overview, _costs)]


def family_entries(
    results: Results, scale: str, corpus: str, metrics: Sequence[str]
) -> dict[str, dict[str, Measured | None]]:
    """By family what was measured on a corpus, by metric; families without a record are left out."""
    return {
        name: {metric: results.measure(scale, EXPERIMENT_NAME, name, corpus, metric) for metric in metrics}
        for name in FAMILIES
        if results.find(scale, EXPERIMENT_NAME, name, corpus)
    }


def _overview(results: Results, scale: str, frames: str, robot: str) -> Table:
    on_frames = family_entries(results, scale, frames, ["bits", *(name + MOVING for name in FRAME_MEASURES)])
    on_robot = family_entries(results, scale, robot, ROBOT_MEASURES)
    rows = []
    for name in FAMILIES:
        entries = {**on_frames.get(name, {}), **on_robot.get(name, {})}
        texts = [measured_text(entry, "missing", m.removesuffix(MOVING)) for m, entry in entries.items()]
        if name in on_frames and name in on_robot:
            rows.append([method_label(name), *texts])
    still = next((e["still_px"] for e in family_entries(results, scale, robot, ["still_px"]).values()), None)
    note = (
        f"Up to the share nearer than a copy: {corpus_label(frames)}, moving half. Then: "
        f"{corpus_label(robot)}, on which nothing was trained but the adapters: pixels between how the "
        "hand moved and how it moves in the prediction, from latent actions of both frames, and from "
        "real actions through an adapter of 500 labelled pairs or of all; by standing still "
        f"{measured_text(still, 'missing', 'still_px')}. 95% intervals over clips and trainings in brackets. "
        "All were trained for the same few steps."
    )
    both = [
        (corpus, pairs_and_clips(results, (scale, EXPERIMENT_NAME, corpus), [*on_frames]))
        for corpus in (frames, robot)
    ]
    note += told_by_corpus(both)
    columns = ["", *(metric_label(m) for m in ("bits", *FRAME_MEASURES, *ROBOT_MEASURES))]
    sources = origins(results, scale, EXPERIMENT_NAME, robot)
    return Table(EXPERIMENT_NAME, f"Ways to a latent action, scale {scale}", columns, rows, note, sources)


def _costs(results: Results, scale: str, frames: str, robot: str) -> Table:
    rows = [
        [method_label(name), *(measured_text(entry, "missing", metric) for metric, entry in entries.items())]
        for name, entries in family_entries(results, scale, robot, COSTS).items()
    ]
    note = (
        "GFLOP: from two frames to the predicted one. Gained in the last quarter: by which share "
        "the held-out error of the states still fell in it. "
        f"{_converged(results, scale, robot)}"
    )
    note += told_pairs(results, (scale, EXPERIMENT_NAME, robot), [*FAMILIES])
    title = f"Ways to a latent action, {corpus_label(robot)}, scale {scale}, codes and costs"
    columns = ["", *(metric_label(metric) for metric in COSTS)]
    return Table(
        f"{EXPERIMENT_NAME}_costs", title, columns, rows, note, topic="codes and costs of the families"
    )


def _converged(results: Results, scale: str, robot: str) -> str:
    """Which families' trainings had ended by themselves, by the rule."""
    entries = family_entries(results, scale, robot, ["last_gain"])
    gains = {name: entry.value for name, by in entries.items() if (entry := by["last_gain"])}
    ended = [method_label(name) for name, gained in gains.items() if gained < CONVERGED]
    rule = f"By the rule of {100 * CONVERGED:g} % {len(ended)} of {len(gains)} trainings had converged"
    return f"{rule} after these few steps{': ' if ended else ''}{'; '.join(ended)}."


# The figure


@dataclass(frozen=True)
class Point:
    """A family's bits, and a number with its interval."""

    bits: float
    measured: Measured


def rate_points(results: Results, scale: str) -> dict[str, dict[str, Point]]:
    """By the label of a measure, and family: what so many bits give. Empty where nothing was measured."""
    corpora = family_corpora(results, scale)
    if corpora is None:
        return {}
    by_label = {}
    for metric in OVER_BITS:
        corpus = corpora[metric == CONTROL_ERROR]
        points = {
            name: Point(bits.value, measured)
            for name, by_metric in family_entries(results, scale, corpus, ["bits", metric]).items()
            if (bits := by_metric["bits"]) and (measured := by_metric[metric])
        }
        if points:
            by_label[SHORT_LABELS.get(metric) or metric_label(metric.removesuffix(MOVING))] = points
    return by_label


def beside(points: Mapping[str, Point]) -> dict[str, float]:
    """Where each family is drawn on the axis of bits: those of the same bits a little beside each other."""
    same: dict[int, list[str]] = {}
    for name, point in points.items():
        same.setdefault(round(12 * np.log10(point.bits)), []).append(name)
    return {
        name: points[name].bits * 1.07 ** (index - (len(names) - 1) / 2)
        for names in same.values()
        for index, name in enumerate(names)
    }


def rate_figure(drawn: Mapping[str, Mapping[str, Point]]) -> Figure:
    """The measures against bits, with 95% intervals, a marker for each family."""
    names = list(dict.fromkeys(name for points in drawn.values() for name in points))
    labels = [method_label(name) for name in names]
    figure, axes = plots(len(drawn), 1.4, above=legend_height(labels), columns=2)
    for axis, (label, points) in zip(axes, drawn.items(), strict=True):
        aside = beside(points)
        for name, point in points.items():
            low, high = (abs(point.measured.value - end) for end in (point.measured.low, point.measured.high))
            style = look(name) | {"linestyle": ""}
            axis.errorbar(
                [aside[name]], [point.measured.value], [[low], [high]], capsize=1.5, elinewidth=0.6, **style
            )
        axis.set(xscale="log", ylabel=math(label))
    for axis in axes[-2:]:
        axis.set(xlabel="bits a transition", xlim=(2, 400))
        axis.set_xticks(BIT_TICKS, [str(bits) for bits in BIT_TICKS])
        axis.set_xticks([], minor=True)
    handles = [Line2D([], [], **(look(name) | {"linestyle": ""})) for name in names]
    legend_above(
        axes[min(1, len(axes) - 1)],
        legend_columns(labels),
        handles=handles,
        labels=[math(label) for label in labels],
    )
    return figure
