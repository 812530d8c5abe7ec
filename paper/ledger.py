"""`paper/deviations.md` as a LaTeX table."""

import re
from pathlib import Path

from paper.names import tex

LEDGER_COLUMNS = ("What", "Why", "Field", "Measured by")


def ledger_rows(path: Path) -> list[list[str]]:
    """Cells of every row of the file's Markdown tables, headings and rules left out."""
    rows: list[list[str]] = []
    if not path.exists():
        return rows
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and not set("".join(cells)) <= set("-: ") and cells[0] != LEDGER_COLUMNS[0]:
            rows.append(cells)
    return rows


def ledger_table(path: Path) -> str:
    """The rows of a longtable with four columns; main.tex sets the frame."""
    lines = [" & ".join(_plain(cell) for cell in row) + r" \\" for row in ledger_rows(path)]
    return "\n".join([*lines, ""])


def _plain(cell: str) -> str:
    plain = re.sub(r'"([^"]*)"', r"“\1”", cell.replace("`", "").replace("**", ""))
    # Columns are narrow: names of files and settings may break too.
    return re.sub(r"(/|\\_|\.(?=\w)|-(?=\w))", r"\1\\allowbreak{}", tex(plain))
