"""The generated tables of README.md and of further pages, each between its two marks.

python -m paper.readme           write them
python -m paper.readme --check   write nothing; exit 1 when one is out of date
"""

import sys
from collections.abc import Callable
from pathlib import Path

from paper import bench_tables
from paper.claim_tables import claims_in_short
from paper.costs import costs
from paper.gpu_steps import gpu_steps
from paper.options import check_folder
from paper.reported import Reported
from paper.reported_tables import reproduced
from paper.store import ROOT, Results
from paper.table import Table
from uwm.arguments import Parser, named_path
from uwm.errors import UserError, run_cli

PAGES = tuple(
    ROOT / name for name in ("README.md", "experiments/README.md", "slurm/README.md", "uwm/data/README.md")
)
TABLES: dict[str, Callable[[Results], Table]] = {
    "table1": lambda results: reproduced(results, Reported()),
    "claims": claims_in_short,
    "cost": costs,
    "gpu": gpu_steps,
    **bench_tables.BENCHES,
}


def marks(name: str) -> tuple[str, str]:
    """The lines that a table stands between."""
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def readme_with(text: str, name: str, block: str) -> str:
    """A page's text with `block` between the two marks of `name`."""
    begin, end = marks(name)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise UserError(f"the page needs the lines {begin} and {end} once each, in this order; add them")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{block.strip()}\n{end}{rest.split(end)[1]}"


def refreshed(path: Path, results: Results) -> tuple[str, str]:
    """The page's text, and what it should be. UserError where there is no page, or no mark in it."""
    if not path.exists():
        raise UserError(f"no file {path}; name the README with --file")
    text = path.read_text(encoding="utf-8")
    names = [name for name in TABLES if any(mark in text for mark in marks(name))]
    if not names:
        asked = " or ".join(" and ".join(marks(name)) for name in TABLES)
        raise UserError(f"{path} has no place for a generated table; add the lines {asked}")
    current = text
    for name in names:
        current = readme_with(current, name, TABLES[name](results).markdown())
    return text, current


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m paper.readme", description="the pages' generated tables")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when one is out of date")
    parser.add_argument("--file", type=named_path, nargs="+", default=PAGES)
    parser.add_argument("--results", type=named_path, default=ROOT / "results")
    options = parser.parse_args(argv)
    check_folder(options.results)
    results, old = Results(options.results), 0
    for path in options.file:
        text, current = refreshed(path, results)
        old += text != current
        if options.check:
            state = "up to date" if text == current else "out of date; run make figures"
            print(f"{path}: its table is {state}")
        else:
            path.write_text(current, encoding="utf-8")
    return int(options.check and old > 0)


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
