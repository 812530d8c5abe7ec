"""The table that a run prints at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from uwm.evaluation.records import column
from uwm.runs.experiment import Context

SUMMARY_METRICS = (
    "lpips_to_current",
    "lpips_to_next",
    "lpips_ratio",
    "success_vs_current",
    "success_vs_copy",
    "psnr",
)


# The table on the terminal


def protocol_of(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The LPIPS protocol of the first of some records' metrics."""
    return str(next(iter(rows.values()))["lpips_to_next"]["protocol"])


def title(context: Context, corpus: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """What stands above the table of a corpus: of how many pairs and clips it is, and by which LPIPS."""
    return f"moving half: {counts_of(context, corpus)}; {protocol_of(rows)}; mean [95% interval over clips]"


def counts_of(context: Context, corpus: str) -> str:
    """`300 of 600 pairs, 60 clips`: the moving half of a corpus, by the samples of its first record."""
    records = context.records()
    for cell in context.cells:
        record = records.get(cell.name) if cell.corpus == corpus else None
        if record is not None and record.samples:
            table = pd.read_csv(context.out / record.samples["path"], usecols=["video", "moving"])
            return f"{table['moving'].sum()} of {len(table)} pairs, {table['video'].nunique()} clips"
    return "no pairs"


def measured_rows(context: Context, corpus: str) -> dict[str, Mapping[str, Any]]:
    """The metrics of this run's finished cells on a corpus, by `column`."""
    records = context.records()
    cells = [cell for cell in context.cells if cell.corpus == corpus and cell.name in records]
    return {column(c): records[c.name].metrics for c in cells if records[c.name].status == "ok"}


def table_text(
    rows: Mapping[str, Mapping[str, Any]], names: Sequence[str] = SUMMARY_METRICS, suffix: str = "_moving"
) -> str:
    """A line per method with its metrics over the moving half; by default distances to O_t and O_t+1, their
    ratio, and how often O_t+1 is the nearer one."""
    table = [["method", *names]]
    for method, measured in rows.items():
        table.append([method, *(_entry_text(measured.get(name + suffix)) for name in names)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(_aligned(row, widths) for row in table)


def _entry_text(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "-"
    if entry["ci"] is None:
        return f"{entry['value']:.3f} [few clips]"
    return f"{entry['value']:.3f} [{entry['ci'][0]:.3f}, {entry['ci'][1]:.3f}]"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    """The first text to the left, the others to the right, two spaces between."""
    first, *others = (
        f"{text:{'>' if position else '<'}{width}}"
        for position, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([first, *others])
