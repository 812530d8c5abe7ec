"""Compare the numbers of one folder of records with those of another: what `make reproduce` ends with.

    python -m paper.compare runs/reproduced          # with the committed records

For each experiment: how many numbers both have, how far they are apart, and which verdicts of `make check`
differ over the cells that both have. Exits 1 when a number's two intervals do not overlap. A verdict alone
does not count: at the edge of an interval the rounding of another processor turns it.

Where the two were measured by different LPIPS (without its weights it is `lpips-random`), that is said first,
and neither numbers that rest on it nor verdicts are compared.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from paper.check import plain_table
from paper.claims import all_items
from paper.items import FAILED, MISSING
from paper.reported import Reported
from paper.store import ROOT, RecordedCell, Results
from paper.table import Table
from uwm.arguments import Parser, named_path
from uwm.errors import UserError, run_cli
from uwm.metrics.spec import MOVING, known_metric

ABSENT = (MISSING, FAILED)


@dataclass(frozen=True)
class Difference:
    """One number of one cell in both folders."""

    experiment: str
    cell: str
    metric: str
    ours: float
    theirs: float
    apart: bool = False  # their 95% intervals do not overlap

    @property
    def relative(self) -> float:
        """As a share of the other folder's number."""
        return abs(self.ours - self.theirs) / max(abs(self.theirs), 1e-9)


def differences(ours: Results, theirs: Results) -> Iterator[Difference]:
    """Every number that both have, but those that rest on LPIPS where theirs is another."""
    for key, cells in ours.cells.items():
        others = {str(cell.record["cell"]): cell for cell in theirs.cells.get(key, [])}
        for cell in cells:
            name = str(cell.record["cell"])
            if name in others:
                yield from _of_cell(key[1], cell, others[name])


def _of_cell(experiment: str, cell: RecordedCell, other: RecordedCell) -> Iterator[Difference]:
    same = protocols(cell) == protocols(other)
    for metric, entry in cell.record["metrics"].items():
        theirs = other.record["metrics"].get(metric)
        if theirs is not None and (same or not rests_on_lpips(metric)):
            values = float(entry["value"]), float(theirs["value"])
            yield Difference(experiment, str(cell.record["cell"]), metric, *values, apart(entry, theirs))


def protocols(cell: RecordedCell) -> frozenset[str]:
    """The LPIPS by which a cell was measured."""
    return frozenset(
        protocol for entry in cell.record["metrics"].values() if (protocol := entry.get("protocol"))
    )


def rests_on_lpips(name: str) -> bool:
    """Whether a metric is by LPIPS, or over the moving half of the pairs, which LPIPS chooses."""
    metric = known_metric(name)
    return name.endswith(MOVING) or metric is None or metric.protocol == "lpips"


def other_lpips(ours: Results, theirs: Results) -> str:
    """A line that says by which LPIPS each folder was measured; empty where it is the same for all cells."""
    here, there = (by_cell(results) for results in (ours, theirs))
    different = [key for key in here.keys() & there.keys() if here[key] != there[key]]
    if not different:
        return ""
    names = [", ".join(sorted(set().union(*(lpips[key] for key in different)))) for lpips in (here, there)]
    return (
        f"another LPIPS in {len(different)} cells: {names[0]}, not {names[1]}. Neither what rests on it nor "
        "verdicts are compared. `python -m uwm.prefetch` gets its weights; UWM_WEIGHTS names a folder of them"
    )


def by_cell(results: Results) -> dict[tuple[Any, str], frozenset[str]]:
    """The LPIPS of each cell."""
    return {
        (key, str(cell.record["cell"])): protocols(cell)
        for key, cells in results.cells.items()
        for cell in cells
    }


def apart(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether two metrics' intervals lie apart; False where one has none."""
    if not ours.get("ci") or not theirs.get("ci"):
        return False
    (low, high), (other_low, other_high) = ours["ci"], theirs["ci"]
    return bool(low > other_high or other_low > high)


def keep_common(ours: Results, theirs: Results) -> None:
    """Drop the cells that only one of them has, so that means over seeds are over the same seeds."""
    names = [
        {(key, cell.record["cell"]) for key, cells in results.cells.items() for cell in cells}
        for results in (ours, theirs)
    ]
    both = names[0] & names[1]
    for results in (ours, theirs):
        for key, cells in results.cells.items():
            results.cells[key] = [cell for cell in cells if (key, cell.record["cell"]) in both]


def differences_summary(compared: list[Difference]) -> Table:
    """Per experiment: numbers, median and largest relative difference, and where the largest is."""
    rows = []
    for experiment in dict.fromkeys(difference.experiment for difference in compared):
        group = [difference for difference in compared if difference.experiment == experiment]
        largest = max(group, key=lambda difference: difference.relative)
        median = float(np.median([difference.relative for difference in group]))
        where = f"{largest.metric} of {largest.cell}: {largest.ours:g}, was {largest.theirs:g}"
        rows.append([experiment, "", str(len(group)), f"{median:.1e}", f"{largest.relative:.1e}", where])
    columns = ["Experiment", "", "Numbers", "Median difference", "Largest", "Where"]
    return Table("compared", "Numbers measured again", columns, rows)


def changed_verdicts(ours: Results, theirs: Results) -> list[str]:
    """The items of `make check` on which the folders differ, of those that both can decide."""
    reported = Reported()
    before = {item.id: item.verdict for item in all_items(theirs, reported)}
    return [
        f"{item.id}: {item.verdict}, was {before[item.id]}"
        for item in all_items(ours, reported)
        if item.verdict not in ABSENT
        and before.get(item.id, MISSING) not in ABSENT
        and item.verdict != before[item.id]
    ]


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m paper.compare", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=named_path, help="records, <scale>/<experiment>/<cell>.json")
    parser.add_argument(
        "--with", dest="other", type=named_path, default=ROOT / "results", help="default: results"
    )
    options = parser.parse_args(argv)
    ours, theirs = Results(options.folder), Results(options.other)
    keep_common(ours, theirs)
    compared = list(differences(ours, theirs))
    lpips = other_lpips(ours, theirs)
    if lpips:
        print(f"{lpips}\n")
    if not compared:
        raise UserError(f"{options.folder} and {options.other} have no number in common: nothing compared")
    print(plain_table(differences_summary(compared)))
    changed = [] if lpips else changed_verdicts(ours, theirs)
    far = [difference for difference in compared if difference.apart]
    lines = [f"verdict: {line}" for line in changed]
    lines += [f"apart: {one.metric} of {one.cell}: {one.ours:g}, was {one.theirs:g}" for one in far]
    lines.append(
        f"{len(compared)} numbers compared with {options.other}: {len(far)} with intervals apart, "
        + ("verdicts not compared" if lpips else f"{len(changed)} verdicts differ")
    )
    print(*lines, sep="\n")
    return int(bool(far))


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
