"""Planning's rows compared two by two, on the same starts and goals: methods, and one part replaced."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np

from paper.items import interval_text
from paper.planning_tables import LEARNED, OWN, PLANNING, REPLACED, SUCCESS, TOLD, PlannerParts
from paper.store import Measured, RecordedCell, Results
from paper.table import Table
from uwm.methods import CLONING, DIRECT, MORE_SAMPLES, PLAIN_READER, R_GT, SIMULATOR, method_label
from uwm.metrics.statistics import sign_test, wilson

PLANNERS_COMPARED: tuple[tuple[str, str], ...] = (
    (R_GT.name, DIRECT.name),
    *((R_GT.with_pairs(pairs), DIRECT.with_pairs(pairs)) for pairs in (2000, 500, 100)),
    (R_GT.with_pairs(500), DIRECT.name),
    (R_GT.variant(PLAIN_READER), DIRECT.variant(PLAIN_READER)),
    (R_GT.name, R_GT.variant(PLAIN_READER)),
    (R_GT.name, CLONING.name),
    (R_GT.with_pairs(500), CLONING.with_pairs(500)),
    (SIMULATOR.variant(MORE_SAMPLES), R_GT.name),
)
SAME_START = 0.01  # mm
SIGN_TEST = (
    "Over the episodes that start alike in both rows: physics differ a little from machine to machine, and "
    "some rows of `push` were played on another one. P: exact sign test over the episodes that only one of "
    "the two reached. It leaves out how trainings differ: each row is one. Were all planners equally good, "
    "one of twenty such tests might have a P of 0.05. Shares have Wilson's 95% intervals. "
)


@dataclass(frozen=True)
class PairedSuccess:
    """How often each of two planners reached the goal of the same `n` episodes."""

    first: float  # shares, 0 to 1
    second: float
    only_first: int
    only_second: int
    n: int

    @property
    def p(self) -> float:
        """Of the exact sign test; 1 where both reached the same goals."""
        return sign_test(self.only_first, self.only_second)

    def texts(self) -> list[str]:
        """Shares have Wilson's intervals."""
        p = "< 0.001" if self.p < 0.001 else f"{self.p:.3f}"
        reached = [wilson(round(share * self.n), self.n) for share in (self.first, self.second)]
        shares = [interval_text(Measured(r.estimate, r.low, r.high, r.n), SUCCESS) for r in reached]
        return [str(self.n), *shares, str(self.only_first), str(self.only_second), p]


def paired_success(results: Results, scale: str, task: str, first: str, second: str) -> PairedSuccess | None:
    """Of two methods, over the episodes that both have from the same start; None where one has no samples, or
    several seeds."""
    played = [_episodes(results, results.find(scale, PLANNING, method, task)) for method in (first, second)]
    both = [(played[0][name], played[1][name]) for name in sorted(played[0].keys() & played[1].keys())]
    goals = np.array([(a.reached, b.reached) for a, b in both if abs(a.start - b.start) < SAME_START], bool)
    if not len(goals):
        return None
    a, b = goals.T
    return PairedSuccess(float(a.mean()), float(b.mean()), int(np.sum(a & ~b)), int(np.sum(b & ~a)), len(a))


class _Episode(NamedTuple):
    start: float  # mm from the goal
    reached: bool


def _episodes(results: Results, cells: list[RecordedCell]) -> dict[str, _Episode]:
    """By name, which is a row's first word: the others say how long it took."""
    starts, reached = (results.pairs(cells, column) for column in ("start_distance_mm", SUCCESS))
    if starts is None or reached is None or len(reached.seeds) > 1:
        return {}
    rows = zip(reached.pairs, starts.table()[:, 0], reached.table()[:, 0], strict=True)
    return {name.partition(" ")[0]: _Episode(float(start), bool(share)) for name, start, share in rows}


def paired_tables(results: Results, scale: str, task: str) -> Iterator[Table]:
    """Those that the task has records for."""
    for table in (compared_table(results, scale, task), one_replaced_table(results, scale, task)):
        if table.rows:
            yield table


def compared_table(results: Results, scale: str, task: str) -> Table:
    """Planners two by two."""
    rows = []
    for first, second in PLANNERS_COMPARED:
        if found := paired_success(results, scale, task, first, second):
            rows.append([f"{method_label(first)} and {method_label(second)}", *found.texts()])
    columns = ["", "Episodes", "First, %", "Second, %", "Only the first", "Only the second", "P"]
    title = f"Planning, scale {scale}, {task}, paired: first and second planner"
    return Table(f"planning_{task}_paired", title, columns, rows, SIGN_TEST, topic="paired differences")


def one_replaced_table(results: Results, scale: str, task: str) -> Table:
    """Pairs of planners that differ in one part: model, cost or solver."""
    rows = []
    for replaced, before, after in replacements(results, scale, task):
        if found := paired_success(results, scale, task, before, after):
            rows.append([replaced, *found.texts()])
    note = (
        "Where planning fails: one part is replaced by the simulator, which may also tell the learned cost "
    )
    note += f"where the goal is, or there are more samples. Solver: samples x rounds. {SIGN_TEST}"
    columns = ["Replaced", "Episodes", "Before, %", "After, %", "Only before", "Only after", "P"]
    return Table(
        f"planning_{task}_replaced",
        f"Planning, scale {scale}, {task}: one part replaced",
        columns,
        rows,
        note,
    )


def replacements(results: Results, scale: str, task: str) -> Iterator[tuple[str, str, str]]:
    """What is replaced, in words, and the methods before and after."""
    rows = {}
    for method, parts in REPLACED.items():
        measured = [cell for cell in results.find(scale, PLANNING, method, task) if cell.status == "ok"]
        if measured:
            rows[method] = parts, _solver(measured[0].record["config"]["solver"])
    for (before, (old, few)), (after, (new, many)) in permutations(rows.items(), 2):
        changes = list(_changes(old, few, new, many))
        if len(changes) == 1 and changes[0]:
            yield changes[0], before, after


def _solver(config: dict[str, int]) -> tuple[int, int]:
    return config["samples"], config["iterations"]


def _changes(
    old: PlannerParts, few: tuple[int, int], new: PlannerParts, many: tuple[int, int]
) -> Iterator[str]:
    """Each part that differs, in words; an empty text where the other one is not the better."""
    kept = f"{old.model}, cost {old.cost}, {few[0]} x {few[1]}"
    if old.model != new.model:
        yield f"{kept}: the simulator as the model" if new.model == OWN else ""
    if old.cost != new.cost:
        told = new.cost == TOLD and old.cost == LEARNED
        change = "the goal's place told" if told else "the true distance as cost" if new.cost == OWN else ""
        yield f"{kept}: {change}" if change else ""
    if few != many:
        yield f"{kept}: {many[0]} x {many[1]} samples x rounds" if many > few else ""
