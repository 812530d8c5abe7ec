"""The generated table of README.md, between its two marks.

python -m paper.readme           write it
python -m paper.readme --check   write nothing; exit 1 when it is out of date
"""

import sys
from pathlib import Path

from paper.options import check_folder
from paper.reported import Reported
from paper.reported_tables import reproduced
from paper.store import ROOT, Results
from uwm.arguments import Parser, named_path
from uwm.errors import UserError, run_cli

MARKS = ("<!-- table1:begin -->", "<!-- table1:end -->")


def readme_with(text: str, block: str) -> str:
    """README's text with `block` between the two marks."""
    return replaced(text, block, MARKS)


def replaced(text: str, block: str, marks: tuple[str, str]) -> str:
    """A page's text with `block` between two marks. UserError where they are not there once each."""
    first, last = marks
    if any(text.count(mark) != 1 for mark in marks):
        raise UserError(f"README.md needs the lines {first} and {last} once each; add them")
    before, rest = text.split(first)
    return f"{before}{first}\n{block.strip()}\n{last}{rest.split(last)[1]}"


def refreshed(path: Path, results: Results) -> tuple[str, str]:
    """The file's text, and what it should be."""
    if not path.exists():
        raise UserError(f"no file {path}; name the README with --file")
    text = path.read_text(encoding="utf-8")
    return text, readme_with(text, reproduced(results, Reported()).markdown())


def main(argv: list[str]) -> int:
    parser = Parser(prog="python -m paper.readme", description="README's generated table")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when out of date")
    parser.add_argument("--file", type=named_path, default=ROOT / "README.md")
    parser.add_argument("--results", type=named_path, default=ROOT / "results")
    options = parser.parse_args(argv)
    check_folder(options.results)
    text, wanted = refreshed(options.file, Results(options.results))
    if options.check:
        state = "up to date" if text == wanted else "out of date; run make figures"
        print(f"{options.file.name}: its table is {state}")
        return int(text != wanted)
    options.file.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: main(sys.argv[1:])))
