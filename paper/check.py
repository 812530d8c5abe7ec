"""Compare the records with what the paper reports: `make check`.

Prints item, reported, measured with its interval, and verdict. Exits 1 when an item differs or failed and
`paper/deviations.md` does not name its id, or when a record is altered, removed, stale or not finite, is of
another recipe than its experiment declares now, or when one by others (`results/community/`) or of an example
(`results/examples/`) doesn't hold.
With --release, a missing item fails too.
"""

import json
import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from paper import community, examples, integrity
from paper.claims import all_items
from paper.items import DIFFERS, FAILED, MISSING, NOT_REACHED, Item
from paper.options import add_results, chosen_results, existing
from paper.recipes import recipe_faults
from paper.reported import Reported
from paper.store import ROOT
from paper.table import Table
from uwm.arguments import Parser
from uwm.errors import UserError, run_cli

RECIPES = ROOT / "experiments"


def named(items: list[Item], deviations: Path) -> set[str]:
    """Ids of the items that the ledger names in backquotes."""
    text = deviations.read_text(encoding="utf-8") if deviations.exists() else ""
    return {item.id for item in items if f"`{item.id}`" in text}


def verdict_table(items: list[Item], excused: set[str]) -> Table:
    """Item, reported, measured, verdict."""
    rows = [
        [
            f"{item.id}",
            item.item,
            item.reported,
            item.measured,
            item.verdict + (" (named)" if item.id in excused else ""),
        ]
        for item in items
    ]
    return Table("verdicts", "Reported and measured", ["Id", "Item", "Reported", "Measured", "Verdict"], rows)


def missed_targets(items: list[Item]) -> Table:
    """What was not reached of what we aim for, and what is known of the reason."""
    missed = [item for item in items if item.verdict == NOT_REACHED]
    rows = [[item.item, item.reported, item.measured, item.why] for item in missed]
    return Table("missed_targets", "Targets not reached", ["Target", "Wanted", "Measured", "Why"], rows)


def item_table(items: list[Item], excused: set[str]) -> Table:
    """The same for people: the scale instead of the id, which the row's origin tells with the reason."""
    labels = {item.id: f"{item.item} [{item.id.partition('/')[0]}]" for item in items}
    rows = [[labels[row[0]], *row[2:]] for row in verdict_table(items, excused).rows]
    origins = {labels[item.id]: f"{item.id}. {item.why}" for item in items}
    return Table(
        "items", "Every checked item", ["Item", "Reported", "Measured", "Verdict"], rows, origins=origins
    )


def failures(items: list[Item], excused: set[str], *, release: bool) -> list[str]:
    """Ids of the items that make the check fail."""
    bad = {DIFFERS, FAILED} | ({MISSING} if release else set())
    return [
        item.id
        for item in items
        if item.verdict in bad and not (item.id in excused and item.verdict == DIFFERS)
    ]


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m paper.check", description=(__doc__ or "").splitlines()[0])
    add_results(parser)
    parser.add_argument("--deviations", type=existing, default=ROOT / "paper" / "deviations.md")
    parser.add_argument(
        "--experiments",
        type=existing,
        default=RECIPES,
        help="to tell stale records (this repository's, whose recipes are compared too)",
    )
    parser.add_argument("--release", action="store_true", help="a missing item fails too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    options = parser.parse_args(argv)
    results = chosen_results(options)
    checks = integrity.record_faults, community.community_faults, examples.example_faults
    broken = [line for faults in checks for line in faults(results, options.experiments)]
    broken += recipe_faults(results) if options.experiments == RECIPES else []
    try:
        items = all_items(results, Reported())
    except (LookupError, TypeError, ValueError, OSError, UserError) as error:  # records too broken to compare
        items, broken = [], [*broken, f"nothing compared: {type(error).__name__}: {error}"]
    excused = named(items, options.deviations)
    failing = failures(items, excused, release=options.release)
    report(items, excused, broken, failing, as_json=options.json)
    return int(bool(broken or failing))


def report(
    items: list[Item], excused: set[str], broken: list[str], failing: list[str], *, as_json: bool
) -> None:
    """Print the outcome, and append it to GitHub's step summary where there is one."""
    counts = Counter(item.verdict for item in items)
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    outcome = "FAIL" if broken or failing else "ok"
    table = verdict_table(items, excused)
    if as_json:
        content = {"ok": outcome == "ok", "items": [asdict(i) | {"named": i.id in excused} for i in items]}
        print(json.dumps(content | {"failing": failing, "problems": broken}, indent=1, allow_nan=False))
    else:
        print(plain_table(table))
        print(*(f"record problem: {line}" for line in broken), sep="\n", end="\n" if broken else "")
        print(*(f"fails: {item}" for item in failing), sep="\n", end="\n" if failing else "")
        print(f"check {outcome}: {summary}; {len(broken)} record problems")
    if "GITHUB_STEP_SUMMARY" in os.environ:
        with open(os.environ["GITHUB_STEP_SUMMARY"], "a", encoding="utf-8") as file:
            lines = "".join(f"- {line}\n" for line in [*broken, *(f"fails: `{item}`" for item in failing)])
            file.write(f"### check {outcome}: {summary}\n\n{lines}\n{table.markdown()}\n")


def plain_table(table: Table) -> str:
    """Fixed-width columns for a terminal, without the items' long texts."""
    rows = [[row[0], *row[2:]] for row in [table.columns, *table.rows]]
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
    )


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
