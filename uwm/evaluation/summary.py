"""The table that a run prints at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

from uwm.evaluation.records import column
from uwm.runs.experiment import Context

MAIN = ("lpips_to_current", "lpips_to_next", "lpips_ratio", "success_vs_current", "success_vs_copy", "psnr")


# The table on the terminal


def protocol_of(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The LPIPS protocol of the first of some records' metrics."""
    return str(next(iter(rows.values()))["lpips_to_next"]["protocol"])


def measured_rows(context: Context, corpus: str) -> dict[str, Mapping[str, Any]]:
    """The metrics of this run's finished cells on a corpus, by `column`."""
    records = context.records()
    cells = [cell for cell in context.cells if cell.corpus == corpus and cell.name in records]
    return {column(c): records[c.name].metrics for c in cells if records[c.name].status == "ok"}


def table_text(
    rows: Mapping[str, Mapping[str, Any]], names: Sequence[str] = MAIN, suffix: str = "_moving"
) -> str:
    """A line per method with its metrics over the moving half; by default distances to O_t and O_t+1, their
    ratio, and how often O_t+1 is the nearer one."""
    lines = [f"{'method':17}" + "".join(f"{name:>24}" for name in names)]
    for method, measured in rows.items():
        entries = (measured.get(name + suffix) for name in names)
        text = (f"{e['value']:.3f} [{e['ci'][0]:.3f}, {e['ci'][1]:.3f}]" if e else "-" for e in entries)
        lines.append(f"{method:17}" + "".join(f"{entry:>24}" for entry in text))
    return "\n".join(lines)
