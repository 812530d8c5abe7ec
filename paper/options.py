"""The options that the commands on records share. To find no record is an error."""

import argparse
from pathlib import Path

from paper.store import OPTIONAL_SCALES, ROOT, SCALES, Results, scales_at
from uwm.arguments import named_path, one_of
from uwm.errors import UserError

KNOWN_SCALES = ("smoke", *OPTIONAL_SCALES, *SCALES)


def add_results(parser: argparse.ArgumentParser) -> None:
    """`--results` and `--scale`."""
    parser.add_argument("--results", type=named_path, default=ROOT / "results")
    parser.add_argument(
        "--scale",
        type=one_of(KNOWN_SCALES),
        action="append",
        help=f"default: {' and '.join(SCALES)}, and {' and '.join(OPTIONAL_SCALES)} where there are records",
    )


def existing(text: str) -> Path:
    """An argparse type: a file or folder that is there. A missing page would excuse nothing, in silence."""
    path = named_path(text)
    if not path.exists():
        raise argparse.ArgumentTypeError(f"{path}: there is no such file or folder")
    return path


def chosen_results(options: argparse.Namespace) -> Results:
    """The records that the options name.

    Raises:
        UserError: there are none: at all, or of a scale that was asked for.
    """
    check_folder(options.results)
    scales = tuple(dict.fromkeys(options.scale or scales_at(options.results)))
    results = Results(options.results, scales)
    broken = {path.relative_to(options.results).parts[0] for path, _ in results.unreadable}
    present = broken | {scale for (scale, _), cells in results.cells.items() if cells}
    missing = set(scales) - present
    if missing and (options.scale or not present):
        raise UserError(
            f"{options.results}: no records of scale {' or '.join(sorted(missing))}; run an experiment "
            "first, or name another folder with --results"
        )
    return results


def check_folder(folder: Path) -> None:
    """UserError where there is no folder of results."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}; give the one that holds <scale>/<experiment>/<cell>.json")
