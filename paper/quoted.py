"""Numbers in prose that stand beside the record that they come from, and names of records that are missing.

In a page, `0.13 (figure5/r_gt lpips_to_next)`, with backquotes around what is in brackets, is a number and
its source below `results/mini`: the method's mean over seeds, on the experiment's one corpus or on the one
that `table1/uwm/sim-ego lpips_ratio` names. `6,000 (figure5/r_gt adapter.train.steps)` is a field of the
config that the records hold. `figure5/ficc` names a cell; where no corpus has a record of it, "(no record)"
stands behind.

python -m paper.quoted           write the numbers anew
python -m paper.quoted --check   write nothing; exit 1 when one is out of date
"""

import re
import sys

from paper.store import ROOT, Results
from uwm.arguments import Parser, named_path
from uwm.errors import UserError, run_cli
from uwm.metrics.spec import metric_text

PAGE, LEDGER = ROOT / "paper" / "deviations-details.md", ROOT / "paper" / "deviations.md"
SCALE = "mini"
QUOTED = re.compile(r"([^\s(]+)(\s+)\(`(\w+)/([\w.-]+)(?:/([\w-]+))?\s+([\w.]+)`\)")


NAMED_CELL = re.compile(r"`(table1|figure4|figure5|ablations)/([\w.-]+)`( \(no record\))?")


def with_absences(text: str, results: Results) -> str:
    """The page with a word behind each cell that it names and that has no record."""

    def named(match: re.Match[str]) -> str:
        experiment, method, _ = match.groups()
        measured = any(cell.method == method for cell in results.cells.get((SCALE, experiment), []))
        return f"`{experiment}/{method}`{'' if measured else ' (no record)'}"

    return NAMED_CELL.sub(named, text)


def with_numbers(text: str, results: Results) -> str:
    """The page with each number as its records have it now. UserError where there is no such record."""

    def number(match: re.Match[str]) -> str:
        _, space, experiment, method, corpus, metric = match.groups()
        source = match[0][match[0].index("(") :]
        if "." in metric:
            return f"{config_text(results, experiment, method, metric, source)}{space}{source}"
        corpora = [corpus] if corpus else results.corpora(SCALE, experiment)
        if len(corpora) != 1:
            raise UserError(f"{source}: name one of the corpora {', '.join(corpora) or 'measured (none)'}")
        measured = results.measure(SCALE, experiment, method, corpora[0], metric, interval=False)
        if measured is None:
            raise UserError(f"{source}: no record below results/{SCALE} has that number")
        return f"{metric_text(metric, measured.value)}{space}{source}"

    return QUOTED.sub(number, text)


def config_text(results: Results, experiment: str, method: str, dotted: str, source: str) -> str:
    """A number of the config that all records of a method hold. UserError where they don't."""
    values = set()
    for cell in results.cells.get((SCALE, experiment), []):
        if cell.method == method:
            value = cell.record["config"]
            for name in dotted.split("."):
                value = value.get(name) if isinstance(value, dict) else None
            values.add(value if isinstance(value, int | float) else None)
    if len(values) != 1 or None in values:
        raise UserError(f"{source}: no record below results/{SCALE} has that field, or they differ in it")
    [number] = values
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m paper.quoted", description="numbers beside their record")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when out of date")
    parser.add_argument("--file", type=named_path, action="append", help="a page (both of deviations)")
    parser.add_argument("--results", type=named_path, default=ROOT / "results")
    options = parser.parse_args(argv)
    results, old = Results(options.results), 0
    for file in options.file or (PAGE, LEDGER):
        if not file.is_file():
            raise UserError(f"no file {file}; name the page with --file")
        text = file.read_text(encoding="utf-8")
        current = with_absences(with_numbers(text, results), results)
        if options.check:
            state = "up to date" if text == current else "out of date; run make figures"
            print(f"{file.name}: its numbers are {state}")
            old |= text != current
        else:
            file.write_text(current, encoding="utf-8")
    return int(old)


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
