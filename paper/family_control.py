"""Which measure of a family of latent actions tells control: rank correlations over the families."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from paper.families import (
    CONTROL_ERROR,
    EXPERIMENT_NAME,
    FRAME_MEASURES,
    family_corpora,
    family_entries,
)
from paper.names import DASH, corpus_label
from paper.planning_tables import PLANNING
from paper.store import MOVING, Measured, RecordedCell, Results
from paper.table import Table, measured_text
from uwm.methods import method_label
from uwm.methods.families import PLANNERS
from uwm.metrics.spec import metric_label, metric_of
from uwm.metrics.statistics import SAMPLES, bootstrap_spearman, spearman

Posterior = NDArray[np.float64]
FEWEST = 4  # rows of a rank correlation
CORRELATED = ["", "Rank correlation", "95% interval", "Holds 0"]
PLANNED_TASK = "reach"
CHEAP = (  # what the hand's error is compared with
    *("bits", *(name + MOVING for name in (*FRAME_MEASURES, "lpips_to_next"))),
    *("probe_r2", "transfer_px", "hand_error_px", "adapter_500_px"),
)


def control_tables(results: Results, scale: str) -> list[Table]:
    """With enough families: which cheap measure tells the hand's error, and which planning's success."""
    corpora = family_corpora(results, scale)
    if corpora is None:
        return []
    robot, tables = corpora[1], []
    if len(family_entries(results, scale, robot, [CONTROL_ERROR])) >= FEWEST:
        tables.append(correlations(results, scale, robot))
    if len(planned := planning_success(results, scale, robot)) >= FEWEST:
        tables.append(success_correlations(results, scale, robot, planned))
    return tables


def planned_cells(results: Results, scale: str, robot: str) -> dict[tuple[str, str], RecordedCell]:
    """By family and seed: planning by R_GT through its latent actions (experiments/planning.py)."""
    return {
        (family.name, cell.seed): cell
        for name, family in PLANNERS.items()
        for cell in results.find(scale, PLANNING, name, PLANNED_TASK)
        if cell.status == "ok" and cell.record["config"].get("corpus") == robot
    }


def planning_success(results: Results, scale: str, robot: str) -> dict[tuple[str, str], Measured]:
    """By family and seed how often the goal is reached."""
    measured = {}
    for key, cell in planned_cells(results, scale, robot).items():
        success = cell.record["metrics"]["success"]
        low, high = success["ci"]
        measured[key] = Measured(success["value"], low, high, success["n"])
    return measured


def planning_distances(results: Results, scale: str, robot: str) -> dict[tuple[str, str], float]:
    """By family and seed how far from the goal an episode ends, mm."""
    cells = planned_cells(results, scale, robot)
    return {key: float(cell.record["metrics"]["final_distance_mm"]["value"]) for key, cell in cells.items()}


def _shares_again(planned: Mapping[tuple[str, str], Measured]) -> dict[tuple[str, str], Posterior]:
    """What shares the successes are compatible with: draws (draws,) of each one's posterior."""
    generator = np.random.default_rng(0)
    draws = {}
    for key, entry in planned.items():
        successes = round(entry.value * entry.n)
        draws[key] = generator.beta(successes + 0.5, entry.n - successes + 0.5, SAMPLES)
    return draws


def correlations(results: Results, scale: str, robot: str) -> Table:
    """Rank correlation of each cheap measure with the adapter's hand error, over the families."""
    entries = family_entries(results, scale, robot, [CONTROL_ERROR, *CHEAP])
    measured = {(name, ""): by_metric for name, by_metric in entries.items()}
    control = {
        key: -error.value for key, by_metric in measured.items() if (error := by_metric[CONTROL_ERROR])
    }
    rows, n = _correlated(CHEAP, measured, control)
    note = (
        "Spearman's rank correlation of being better by a measure with a smaller hand error by real actions "
        f"(adapter of all labelled pairs, {corpus_label(robot)}); 1: it sorts the families as control does. "
        "95% bootstrap intervals over families. An interval that holds 0 says that the order by this measure "
        "may be chance; of many measures one or two leave 0 out by chance too. Of frames: moving half. "
        f"{_against_standing_still(results, scale, robot)}"
    )
    title = f"Does a cheap measure tell control? Scale {scale}{n}"
    return Table(f"{EXPERIMENT_NAME}_correlations", title, CORRELATED, rows, note)


def success_correlations(
    results: Results, scale: str, robot: str, planned: Mapping[tuple[str, str], Measured]
) -> Table:
    """Rank correlation of each measure with planning's success, over the families: both of the same seed."""
    metrics = (*CHEAP, CONTROL_ERROR)
    measured = {
        (cell.method, cell.seed): {
            metric: Measured(entry["value"], np.nan, np.nan, entry["n"])
            for metric, entry in cell.record["metrics"].items()
        }
        for cell in results.cells.get((scale, EXPERIMENT_NAME), [])
        if cell.corpus == robot and cell.status == "ok"
    }
    success = {key: entry.value for key, entry in planned.items()}
    rows, n = _correlated(metrics, measured, success, again=_shares_again(planned))
    nearer = {key: -distance for key, distance in planning_distances(results, scale, robot).items()}
    rows = [
        [*row, *other[1:]] for row, other in zip(rows, _correlated(metrics, measured, nearer)[0], strict=True)
    ]
    shares = ", ".join(
        f"{method_label(key[0])} {measured_text(entry, 'ok', 'success')}" for key, entry in planned.items()
    )
    note = (
        "Spearman's rank correlation of being better by a measure with reaching the goal more often, planned "
        "by R_GT through each family's own latent actions (a briefly trained adapter of all labelled pairs), "
        "and with ending nearer to it; 1: it sorts the families as planning does. 95% bootstrap intervals "
        "over families; those of successes have the noise of so few episodes, each drawn from its "
        "posterior (Jeffreys' prior). "
        f"{sum(share == 0 for share in success.values())} of {len(success)} families never reached the goal: "
        "they count as equal. These are few families and many measures, and both outcomes disagree: trust no "
        f"single row. Successes, %, with Wilson's 95% intervals: {shares}."
    )
    title = f"Does a measure tell how often a planner succeeds? Scale {scale}{n}"
    columns = ["", *(f"{outcome}: {name}" for outcome in ("Success", "Distance") for name in CORRELATED[1:])]
    return Table(f"{EXPERIMENT_NAME}_success", title, columns, rows, note)


def _correlated(
    metrics: Sequence[str],
    measured: Mapping[tuple[str, str], Mapping[str, Measured | None]],
    outcome: Mapping[tuple[str, str], float],
    again: Mapping[tuple[str, str], Posterior] | None = None,
) -> tuple[list[list[str]], str]:
    """A row for each measure: its correlation with an outcome of which more is better, both by family and
    seed; and over how many families. `again`: what each outcome might have been."""
    rows, counts = [], set()
    for metric in metrics:
        points = {
            key: (_goodness(metric, entry.value), outcome[key])
            for key, by_metric in measured.items()
            if key in outcome and (entry := by_metric.get(metric))
        }
        drawn = np.stack([again[key] for key in points], 1) if again and points else None
        counts |= {len(points)} - {0}
        label = "More bits" if metric == "bits" else metric_label(metric.removesuffix(MOVING))
        rows.append([label, *correlation_texts(list(points.values()), drawn)])
    return rows, f", n = {', '.join(map(str, sorted(counts)))} families"


def correlation_texts(points: Sequence[tuple[float, float]], again: Posterior | None = None) -> list[str]:
    """Correlation, interval, and whether this holds 0, of pairs of numbers; dashes where there is none.
    `again` (draws, pairs): what the second numbers might have been."""
    a, b = ([point[k] for point in points] for k in (0, 1))
    if len(points) < FEWEST or np.isnan(spearman(a, b)):
        return [DASH] * 3
    interval = bootstrap_spearman(a, b, again=again)
    holds = "yes" if interval.low <= 0 <= interval.high else "no"
    return [f"{interval.estimate:+.2f}", f"{interval.low:+.2f} to {interval.high:+.2f}", holds]


def _goodness(metric: str, value: float) -> float:
    """Larger where it is better; of bits, where there are more."""
    lower = metric != "bits" and metric_of(metric).better == "lower"
    return -value if lower else value


def _against_standing_still(results: Results, scale: str, robot: str) -> str:
    """How many families place the hand better than one that never moves it."""
    families = family_entries(results, scale, robot, [CONTROL_ERROR, "still_px"]).values()
    known = [
        error.value < still.value
        for entries in families
        if (error := entries[CONTROL_ERROR]) and (still := entries["still_px"])
    ]
    better = sum(known)
    return (
        f"{better} of {len(known)} families place the hand better by real actions than standing still does."
    )
