"""What all commands on data ask of a corpus."""

import argparse

from uwm.arguments import named_path, real
from uwm.data.corpora import Corpus, announce, parse_data
from uwm.errors import UserError


def add_data_arguments(parser: argparse.ArgumentParser, split: str) -> None:
    """What all data commands ask of a corpus."""
    parser.add_argument("data", metavar="NAME[:OPTIONS]=DIR", help="a corpus, or the name of a bundled one")
    parser.add_argument("--split", default=split, help=f"train, validation or test ({split})")
    parser.add_argument(
        "--split-file", type=named_path, metavar="CSV", help="your own splits: rows of path,split"
    )
    parser.add_argument("--max-bad-share", type=real(0, 1), help="of the clips, that may be unusable (0.2)")


def read_data_arguments(args: argparse.Namespace) -> Corpus:
    """The corpus of a data command; says how its folder was read."""
    corpus = parse_data(args.data, args.split_file)
    announce(corpus)
    return corpus


def parse_part(text: str) -> tuple[int, int]:
    """(number, count) of `--part NUMBER/COUNT`: a share of the work, from 0."""
    try:
        number, count = map(int, text.split("/"))
    except ValueError:
        raise UserError(f"--part {text}: write NUMBER/COUNT, e.g. 3/32") from None
    if not 0 <= number < count:
        raise UserError(f"--part {text}: the number counts from 0 to COUNT-1")
    return number, count
