"""A grid of short texts, written as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paper.names import DASH, FAILED_MARK, html, tex
from paper.store import Measured
from uwm.metrics.spec import metric_text

HEAD_WIDTH = 6  # letters of a column's head, which is broken into lines, at least
PAGE_WIDTH = 150  # letters, at three quarters of the report's footnote size: 6 points


@dataclass(frozen=True)
class Table:
    """`columns` over `rows` of equal length; a row with one text is a heading over the whole width.

    `origins` says per row label what computed it; the HTML page shows it. `topic`: where it is folded on the
    page, and that it stands in the report's appendix; empty for one of the main text.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    origins: Mapping[str, str] = field(default_factory=dict)
    topic: str = ""

    def markdown(self) -> str:
        lines = [
            f"**{html(self.title)}**",
            "",
            _md(self.columns),
            _md(["---"] + ["---:"] * (len(self.columns) - 1)),
        ]
        lines += [
            _md([f"**{row[0]}**"] + [""] * (len(self.columns) - 1) if len(row) == 1 else row)
            for row in self.rows
        ]
        return "\n".join([*lines, *(["", html(self.note)] if self.note else []), ""])

    def csv(self) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([self.columns, *self.rows])
        return out.getvalue()

    def latex(self) -> str:
        """One below the other where all columns beside each other would be too small to read."""
        parts = [self._tabular(columns) for columns in self.column_groups()]
        if len(parts) == 1:
            return parts[0]
        return "\n".join([r"\begin{tabular}{@{}l@{}}", "\\\\[6pt]\n".join(parts), r"\end{tabular}", ""])

    def column_groups(self) -> list[list[int]]:
        """Columns that fit beside each other on a page of LaTeX, after the first one each."""
        texts = [row for row in self.rows if len(row) == len(self.columns)]
        widths = [max([len(row[k]) for row in texts] + [HEAD_WIDTH]) + 2 for k in range(len(self.columns))]
        groups: list[list[int]] = [[0]]
        for k in range(1, len(self.columns)):
            if len(groups[-1]) > 1 and sum(widths[column] for column in groups[-1]) + widths[k] > PAGE_WIDTH:
                groups.append([0])
            groups[-1].append(k)
        return groups

    def _tabular(self, columns: Sequence[int]) -> str:
        width = len(columns)
        body = [
            rf"\multicolumn{{{width}}}{{l}}{{\textit{{{tex(row[0])}}}}} \\"
            if len(row) == 1
            else _tex([row[k] for k in columns])
            for row in self.rows
        ]
        head = " & ".join(_stacked(self.columns[k], "r" if k else "l") for k in columns) + r" \\"
        lines = [rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}", r"\toprule", head, r"\midrule", *body]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for kind, text in (("md", self.markdown()), ("csv", self.csv()), ("tex", self.latex())):
            (folder / f"{self.name}.{kind}").write_text(text, encoding="utf-8")


def _md(cells: Sequence[str]) -> str:
    return "| " + " | ".join(html(cell).replace("|", r"\|") for cell in cells) + " |"


def _tex(cells: Sequence[str]) -> str:
    return " & ".join(tex(cell) for cell in cells) + r" \\"


def _stacked(text: str, side: str, width: int = 16) -> str:
    """A column head of LaTeX broken into short lines."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return rf"\shortstack[{side}]{{" + r"\\".join(tex(line) for line in lines) + "}" if text else ""


def measured_text(measured: Measured | None, status: str, metric: str) -> str:
    """`0.193 [0.180, 0.206]`, a dash or an F."""
    if measured is None:
        return FAILED_MARK if status == "failed" else DASH
    value = metric_text(metric, measured.value)
    if measured.low != measured.low:
        return value
    return f"{value} [{metric_text(metric, measured.low)}, {metric_text(metric, measured.high)}]"
