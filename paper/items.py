"""One line of `make check`: what was asked, what was measured, the verdict."""

from dataclasses import dataclass

from paper.store import Measured, Results
from uwm.metrics.spec import metric_text

AGREES, DIFFERS, MISSING, FAILED = "agrees", "differs", "missing", "failed"
REACHED, NOT_REACHED = "target reached", "target not reached"
NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Item:
    """One line of `make check`."""

    id: str
    item: str
    reported: str
    measured: str
    verdict: str
    why: str = ""


def interval_text(measured: Measured, metric: str) -> str:
    value, low, high = (metric_text(metric, x) for x in (measured.value, measured.low, measured.high))
    return f"{value} [{low}, {high}]"


def absent(results: Results, scale: str, experiment: str, corpus: str, *methods: str) -> str:
    """`failed` when one of the cells failed, else `missing`."""
    states = [results.status(scale, experiment, method, corpus) for method in methods]
    return FAILED if "failed" in states else MISSING
