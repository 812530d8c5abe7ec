"""Tables of planning: which measure of Figure 5 predicts success, and what fails: model, cost or solver."""

from collections.abc import Iterator
from typing import NamedTuple

from paper.store import Results
from paper.table import Table
from uwm.methods import (
    AHEAD,
    CHANGED_COST,
    DIRECT,
    FEW_SAMPLES,
    MORE_SAMPLES,
    PLAIN_READER,
    R_GT,
    SIMULATOR,
    STATE_COST,
    TRUE_COST,
    TRUE_GOAL,
    Variant,
    parse,
)
from uwm.metrics.spec import metric_label, metric_text
from uwm.metrics.statistics import bootstrap_spearman

PLANNING, OFFLINE, SUCCESS = "planning", "figure5", "success"
# Measures of predictions, after one step and after five: do they predict how often a planner succeeds?
OFFLINE_MEASURES: tuple[tuple[str, Variant | None], ...] = (
    ("lpips_to_next", None),
    ("lpips_ratio", None),
    ("hand_error_px", None),
    ("lpips_to_next", AHEAD),
    ("hand_error_px", AHEAD),
)
FEWEST_PLANNERS = 4  # rows, of which an interval says something


class PlannerParts(NamedTuple):
    """Of a planner, besides its solver; the simulator's own are the right ones."""

    model: str
    cost: str


LEARNED, PLAIN, STATES, OWN = "learned", "learned, true states", "distance of states", "the simulator"
TOLD, CHANGED = "learned, goal told", "distance of changed patches"
REPLACED = {
    R_GT.name: PlannerParts("R_GT", LEARNED),
    R_GT.variant(TRUE_GOAL): PlannerParts("R_GT", TOLD),
    R_GT.variant(FEW_SAMPLES): PlannerParts("R_GT", LEARNED),
    R_GT.variant(PLAIN_READER): PlannerParts("R_GT", PLAIN),
    R_GT.variant(STATE_COST): PlannerParts("R_GT", STATES),
    R_GT.variant(CHANGED_COST): PlannerParts("R_GT", CHANGED),
    DIRECT.name: PlannerParts("direct dynamics", LEARNED),
    DIRECT.variant(PLAIN_READER): PlannerParts("direct dynamics", PLAIN),
    DIRECT.variant(STATE_COST): PlannerParts("direct dynamics", STATES),
    DIRECT.variant(CHANGED_COST): PlannerParts("direct dynamics", CHANGED),
    SIMULATOR.name: PlannerParts(OWN, LEARNED),
    SIMULATOR.variant(MORE_SAMPLES): PlannerParts(OWN, LEARNED),
    SIMULATOR.variant(STATE_COST): PlannerParts(OWN, STATES),
    SIMULATOR.variant(CHANGED_COST): PlannerParts(OWN, CHANGED),
    SIMULATOR.variant(TRUE_COST): PlannerParts(OWN, OWN),
}


def planning_tables(results: Results, scale: str, task: str) -> Iterator[Table]:
    """Those that the task has enough records for."""
    for table in (prediction_table(results, scale, task), replacement_table(results, scale, task)):
        if table.rows:
            yield table


def prediction_table(results: Results, scale: str, task: str) -> Table:
    """Rank correlations over the rows that Figure 5 has too."""
    rows = []
    for metric, ahead in OFFLINE_MEASURES:
        pairs = list(measured_twice(results, scale, task, metric, ahead))
        offline, success = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        if len(pairs) < FEWEST_PLANNERS or len(set(offline)) == 1 or len(set(success)) == 1:
            continue
        correlation = bootstrap_spearman(offline, success)
        label = f"{metric_label(metric)}{', five steps' if ahead else ''}"
        low, high = f"{correlation.low:.2f}", f"{correlation.high:.2f}"
        rows.append([label, f"{correlation.estimate:.2f} [{low}, {high}]", str(len(pairs))])
    note = (
        "Spearman's rank correlation of Figure 5's measure with the share of goals reached, over the methods "
        "that both measured; 95% intervals over methods. Below 0: the method with the smaller measure "
        "succeeds more often. The methods are few, and most are R_GT and direct dynamics by other numbers of "
        "labelled pairs: what improves with pairs correlates. So the intervals are too narrow."
    )
    title = f"Planning, scale {scale}, {task}: which measure predicts success"
    columns = ["", "Correlation", "Methods"]
    return Table(
        f"planning_{task}_predictors", title, columns, rows, note, topic="which measure predicts success"
    )


def measured_twice(
    results: Results, scale: str, task: str, metric: str, ahead: Variant | None
) -> Iterator[tuple[float, float]]:
    """A method's number in Figure 5, and its success here."""
    for cell in results.cells.get((scale, PLANNING), []):
        corpus, parsed = cell.record["config"].get("corpus"), parse(cell.method)
        if cell.corpus != task or parsed.variant or cell.status != "ok" or corpus is None:
            continue
        name = f"{parsed.base}-{ahead.suffix}" if ahead else parsed.base
        for other in results.find(scale, OFFLINE, name, corpus):
            entry = other.record["metrics"].get(metric)
            if other.seed == cell.seed and entry is not None:
                yield float(entry["value"]), float(cell.record["metrics"][SUCCESS]["value"])


def replacement_table(results: Results, scale: str, task: str) -> Table:
    """What each row plans with, and how often it reaches the goal."""
    rows = []
    for method, parts in REPLACED.items():
        measured = results.measure(scale, PLANNING, method, task, SUCCESS)
        if measured is not None:
            solver = results.find(scale, PLANNING, method, task)[0].record["config"]["solver"]
            low, high = (metric_text(SUCCESS, limit) for limit in (measured.low, measured.high))
            success = f"{metric_text(SUCCESS, measured.value)} [{low}, {high}]"
            rows.append([*parts, f"{solver['samples']} x {solver['iterations']}", success, str(measured.n)])
    note = (
        "The learned cost reads the hand's (and block's) place off the states; told the goal, it reads it "
        "off the predictions alone. Half of the states that its networks were trained on were predicted by "
        "R_GT's world model, which may favour R_GT; those of `true states` saw none. Solver: samples x "
        "rounds. Wilson's 95% intervals."
    )
    columns = ["Model", "Cost", "Solver", "Success, %", "Episodes"]
    rows = rows if len(rows) > 1 else []
    title = f"Planning, scale {scale}, {task}: every model, cost and solver"
    return Table(f"planning_{task}_parts", title, columns, rows, note, topic="parts of a planner")
