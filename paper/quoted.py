"""Numbers in prose that stand beside the record that they come from.

In a page, `0.13 (figure5/r_gt lpips_to_next)`, with backquotes around what is in brackets, is a number and
its source below `results/mini`: the method's mean over seeds, on the experiment's one corpus or on the one
that `table1/uwm/sim-ego lpips_ratio` names.

python -m paper.quoted           write the numbers anew
python -m paper.quoted --check   write nothing; exit 1 when one is out of date
"""

import re
import sys

from paper.store import ROOT, Results
from uwm.arguments import Parser, named_path
from uwm.errors import UserError, run_cli
from uwm.metrics.spec import metric_text

PAGE = ROOT / "paper" / "deviations-details.md"
SCALE = "mini"
QUOTED = re.compile(r"([^\s(]+)(\s+)\(`(\w+)/([\w-]+)(?:/([\w-]+))?\s+(\w+)`\)")


def with_numbers(text: str, results: Results) -> str:
    """The page with each number as its records have it now. UserError where there is no such record."""

    def number(match: re.Match[str]) -> str:
        _, space, experiment, method, corpus, metric = match.groups()
        source = match[0][match[0].index("(") :]
        corpora = [corpus] if corpus else results.corpora(SCALE, experiment)
        if len(corpora) != 1:
            raise UserError(f"{source}: name one of the corpora {', '.join(corpora) or 'measured (none)'}")
        found = results.measure(SCALE, experiment, method, corpora[0], metric, interval=False)
        if found is None:
            raise UserError(f"{source}: no record below results/{SCALE} has that number")
        return f"{metric_text(metric, found.value)}{space}{source}"

    return QUOTED.sub(number, text)


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m paper.quoted", description="numbers beside their record")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when out of date")
    parser.add_argument("--file", type=named_path, default=PAGE)
    parser.add_argument("--results", type=named_path, default=ROOT / "results")
    options = parser.parse_args(argv)
    if not options.file.is_file():
        raise UserError(f"no file {options.file}; name the page with --file")
    text = options.file.read_text(encoding="utf-8")
    wanted = with_numbers(text, Results(options.results))
    if options.check:
        state = "up to date" if text == wanted else "out of date; run make figures"
        print(f"{options.file.name}: its numbers are {state}")
        return int(text != wanted)
    options.file.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
