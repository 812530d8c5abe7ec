"""What planning should reach at scale `mini`: targets of ours; the paper plans nothing."""

from collections.abc import Iterator
from typing import NamedTuple

from paper.items import NOT_REACHED, REACHED, Item, absent, interval_text
from paper.names import DASH
from paper.planning_pairs import paired_success, replacements
from paper.planning_tables import PLANNING, SUCCESS
from paper.store import Measured, Results
from uwm.methods import DIRECT, R_GT, RANDOM, SIMULATOR, method_label
from uwm.metrics.spec import metric_text


class SuccessTarget(NamedTuple):
    """A planner's share of goals reached (0 to 1): `least`, or that of `other` less `below`, or `times` the
    upper end of its interval."""

    method: str
    task: str
    least: float = 0.0
    other: str = ""
    times: float = 0.0
    below: float = 0.0

    def words(self) -> str:
        if not self.other:
            return ""
        if self.times:
            return f", against {self.times:g} times the upper end of {method_label(self.other)}"
        return f", against {method_label(self.other)} less {metric_text(SUCCESS, self.below)}"

    def bound(self, other: Measured | None) -> float:
        if other is None:
            return self.least
        return self.times * other.high if self.times else other.value - self.below


FEW_PAIRS = R_GT.with_pairs(500)
PLANNING_TARGETS = (
    SuccessTarget(SIMULATOR.name, "reach", 0.95),
    SuccessTarget(SIMULATOR.name, "push", 0.8),
    SuccessTarget(R_GT.name, "reach", 0.8),
    SuccessTarget(R_GT.name, "push", other=RANDOM.name, times=3),
    SuccessTarget(FEW_PAIRS, "reach", other=DIRECT.name, below=0.1),
    SuccessTarget(FEW_PAIRS, "push", other=DIRECT.name, below=0.1),
)


def planning_targets(results: Results) -> Iterator[Item]:
    """Each target by the estimate, beside its interval."""
    for target in PLANNING_TARGETS:
        measured, other = (
            results.measure("mini", PLANNING, method, target.task, SUCCESS) if method else None
            for method in (target.method, target.other)
        )
        wanted, text = DASH, DASH
        verdict = absent(results, "mini", PLANNING, target.task, target.method)
        why = "Ours; the paper plans nothing."
        if measured is not None and (other is not None or not target.other):
            bound = target.bound(other)
            wanted, text = f"≥ {metric_text(SUCCESS, bound)}", interval_text(measured, SUCCESS)
            verdict = REACHED if measured.value >= bound else NOT_REACHED
            if verdict == NOT_REACHED:
                why += "".join(_reasons(results, target))
        name = f"{target.task}: {method_label(target.method)}, goals reached, %{target.words()}"
        yield Item(f"mini/planning/target/{target.method}/{target.task}", name, wanted, text, verdict, why)


def _reasons(results: Results, target: SuccessTarget) -> Iterator[str]:
    """What the same planner reaches with one part replaced, and how it stands beside the other one."""
    for replaced, before, after in replacements(results, "mini", target.task):
        found = results.measure("mini", PLANNING, after, target.task, SUCCESS)
        if before == target.method and found is not None:
            yield f" {interval_text(found, SUCCESS)} with {replaced.partition(': ')[2]}."
    if paired := target.other and paired_success(results, "mini", target.task, target.method, target.other):
        apart = metric_text(SUCCESS, paired.second - paired.first)
        yield f" From the same {paired.n} starts it is {apart} points below: it alone reached "
        yield f"{paired.only_first} goals, the other alone {paired.only_second}. Chance alone would part two "
        yield f"equal planners as far with probability {paired.p:.2f} (exact sign test)."
