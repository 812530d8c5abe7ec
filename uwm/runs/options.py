"""The options that all experiment files share. Needs no torch."""

import argparse
from itertools import pairwise
from pathlib import Path

from uwm.arguments import Parser, check_corpus_name, named_path, real, whole
from uwm.errors import UserError
from uwm.files import home_path
from uwm.runs.settings import split_assignment


def build_parser(name: str, description: str = "") -> argparse.ArgumentParser:
    """The options of every experiment; `name` is the one asked for."""
    parser = Parser(prog=f"{name}.py", description=description or None)
    parser.add_argument(
        "--scale", default="mini", help="smoke (seconds), mini (default), small (one GPU) or paper"
    )
    parser.add_argument("--only", action="extend", nargs="+", default=[], metavar="PATTERN",
                        help="cells to run, e.g. 'uwm/*' or uwm (all of a method)")  # fmt: skip
    parser.add_argument("--data", action="extend", nargs="+", default=[], metavar="NAME=DIR",
                        help="add a corpus: a folder of video files")  # fmt: skip
    parser.add_argument("--action-range", choices=("measured", "controller", "file"),
                        help="of the demonstrations of --data: as measured, the controller's, or as the file "
                             "tells; for one corpus: NAME:actions-measured=FILE")  # fmt: skip
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="FIELD=VALUE",
                        help="change a config field, with dots: pretrain.train.steps=100")  # fmt: skip
    parser.add_argument("--method", action="extend", nargs="+", default=[], metavar="NAME=FILE.py:CLASS",
                        help="add a row: a model of your own, docs/your-model.md")  # fmt: skip
    parser.add_argument(
        "--pretrain-on", metavar="NAME[,NAME]", help="the same as --set pretrain_on=NAME[,NAME]"
    )
    parser.add_argument("--max-bad-share", type=real(0, 1), metavar="SHARE",
                        help="of a corpus's clips, that may be unusable (0.2)")  # fmt: skip
    parser.add_argument("--recompute", action="store_true", help="ignore released and cached stages")
    parser.add_argument(
        "--missing", action="store_true", help="run only cells that have no current ok record"
    )
    parser.add_argument(
        "--jobs", type=whole(1, 1024), metavar="N", help="cells at a time, each in its own process"
    )
    parser.add_argument(
        "--out",
        type=named_path,
        metavar="DIR",
        help="where the records go (default: results/SCALE/EXPERIMENT)",
    )
    group = parser.add_argument_group("clusters, and what became of a run")
    group.add_argument("--submit", action="store_true", help="run as Slurm jobs")
    group.add_argument("--site", type=named_path, metavar="FILE", help="site file, slurm/*.toml")
    group.add_argument("--max-parallel", type=whole(1), metavar="N", help="array tasks at a time")
    group.add_argument("--dry-run", action="store_true", help="print what would run")
    group.add_argument(
        "--check", action="store_true", help="with --dry-run: ask the site (sbatch --test-only)"
    )
    group.add_argument("--graph", action="store_true", help="with --dry-run: what waits for what")
    group.add_argument("--rerun", action="store_true", help="with --submit: cells with a record as well")
    flags = {
        "status": "state of each cell",
        "follow": "print each change of state until all jobs have ended (also with --submit)",
        "wait": "wait until all jobs have ended; exit code 1 if a cell failed (also with --submit)",
        "logs": "logs of failed cells",
        "collect": "copy the records of a submitted run into --out",
        "cancel": "cancel the jobs of this run",
        "json": "machine-readable output",
    }
    for flag, text in flags.items():
        group.add_argument(f"--{flag}", action="store_true", help=text)
    return parser


def data_folders(
    assignments: list[str], action_range: str | None = None, *, must_exist: bool = True
) -> dict[str, str]:
    """`NAME=DIR` options as absolute folders by name; also `NAME=FILE`, and names inside a file.

    What stands between NAME and `=`, as in NAME:LAYOUT=DIR, stays before the folder: `LAYOUT:/DIR`. A run is
    asked about and cancelled by the same options where a folder is gone: then nothing `must_exist`.
    Demonstrations that choose no range of their actions get `action_range`, as an option of their own.

    Raises:
        UserError: a name that a cell cannot bear, a name given twice, a missing folder.
    """
    folders: dict[str, str] = {}
    for text in assignments:
        head, folder = split_assignment(text, "--data")
        name, colon, choices = head.partition(":")
        check_corpus_name(name, f"--data {text}")
        if name in folders:
            raise UserError(f"--data {text}: {name} is given twice")
        path = home_path(folder).absolute()
        if not folder:  # the current folder, were it taken as a path
            raise UserError(f"--data {text}: no folder after the equals sign")
        there = path.is_dir() or any(ancestor.is_file() for ancestor in (path, *path.parents))
        if must_exist and not there:
            what = "file" if path.suffix in HDF5 else "folder"
            raise UserError(f"--data {text}: no {what} {folder}")
        folders[name] = f"{choices}{colon}{path}"
        if action_range and "actions-" not in choices and holds_demos(path):
            choices = ",".join(filter(None, [choices, f"actions-{action_range}"]))
            folders[name] = f"{choices}:{path}"
    if action_range and must_exist and not any("actions-" in value for value in folders.values()):
        raise UserError(f"--action-range {action_range}: no corpus of --data holds demonstrations in HDF5")
    return folders


def holds_demos(path: Path) -> bool:
    """Whether a corpus is of a robot's demonstrations: an HDF5 file, a camera in one, a folder of such."""
    named = any(ancestor.suffix in HDF5 for ancestor in (path, *path.parents) if not ancestor.is_dir())
    return named or any(file.suffix in HDF5 for file in path.rglob("*.h*5"))


HDF5 = (".hdf5", ".h5")
QUERIES = ("status", "logs", "collect", "cancel")  # about a run, or its end: none of these starts one
AFTERWARDS = ("wait", "follow")  # the same, but with --submit they say what comes after it
# Pairs of which one would be ignored.
APART = (
    ("jobs", "submit", "the first is for this machine; on a cluster, give --max-parallel"),
    ("graph", "json", "the first is to be read, the second is for scripts"),
    ("rerun", "missing", "one takes cells with a record, the other leaves them out"),
    *((name, "dry_run", "a dry run starts no job whose end could come") for name in AFTERWARDS),
)
STARTING = ("recompute", "missing", "jobs", "submit", "dry_run", "max_parallel", "check")


def check_flags(options: argparse.Namespace) -> None:
    """Flags that contradict each other, or that would be ignored. Raises UserError."""
    given = {name for name, value in vars(options).items() if value not in (None, False, [])}
    asked = [name for name in QUERIES if name in given]
    if "submit" not in given:
        asked += [name for name in AFTERWARDS if name in given]
    pairs = [*pairwise(asked), *((a, name) for a in asked for name in STARTING if name in given)]
    for first, second in pairs:
        raise UserError(f"{flag(first)} and {flag(second)} ask for different things; give one of them")
    needs = {
        "json": (*QUERIES[:3], "dry_run"),
        "check": ("dry_run",),
        "max_parallel": ("submit", "dry_run"),
        "graph": ("dry_run",),
        "rerun": ("submit", "dry_run"),
    }
    for name, others in needs.items():
        if name in given and not given.intersection(others):
            raise UserError(f"{flag(name)} does nothing without {' or '.join(map(flag, others))}")
    for first, second, why in APART:
        if given >= {first, second}:
            raise UserError(f"{flag(first)} and {flag(second)} do not go together: {why}")


def flag(name: str) -> str:
    """An option as it stands on the command line."""
    return f"--{name.replace('_', '-')}"
