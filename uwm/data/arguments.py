"""What all commands on data ask of a corpus."""

import argparse
from pathlib import Path

from uwm.data.corpora import Corpus, announce, parse_data
from uwm.errors import UserError


def user_path(text: str) -> Path:
    """A path of the command line; `~` means the home folder, also where the shell leaves it (`--out=~/x`)."""
    return Path(text).expanduser()


def add_data_arguments(parser: argparse.ArgumentParser, split: str) -> None:
    """What all data commands ask of a corpus."""
    parser.add_argument("data", metavar="NAME[:OPTIONS]=DIR", help="a corpus, or the name of a bundled one")
    parser.add_argument("--split", default=split, help=f"train, validation or test ({split})")
    parser.add_argument(
        "--split-file", type=user_path, metavar="CSV", help="your own splits: rows of path,split"
    )
    parser.add_argument("--max-bad-share", type=float, help="of the clips, that may be unusable (0.2)")


def read_data_arguments(args: argparse.Namespace) -> Corpus:
    """The corpus of a data command; says how its folder was read."""
    if args.max_bad_share is not None and not 0 <= args.max_bad_share <= 1:
        raise UserError(f"--max-bad-share {args.max_bad_share:g}: give a share from 0 to 1")
    corpus = parse_data(args.data, args.split_file)
    announce(corpus)
    return corpus
