"""The command line that all experiment files share."""

import argparse
import fnmatch
import json
from pathlib import Path
from typing import NoReturn

from uwm.errors import UserError
from uwm.runs import launch
from uwm.runs.experiment import Cell, Context, Experiment
from uwm.runs.plan import Plan, make_plan, say
from uwm.runs.settings import nearest, split_assignment


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def build_parser(experiment: Experiment) -> argparse.ArgumentParser:
    """The options of every experiment."""
    parser = _Parser(prog=f"{experiment.name}.py", description=experiment.description or None)
    parser.add_argument("--scale", default="mini", help="smoke (seconds), mini (default) or paper")
    parser.add_argument("--only", action="extend", nargs="+", default=[], metavar="PATTERN",
                        help="cells to run, e.g. 'uwm/*' or uwm (all of a method)")  # fmt: skip
    parser.add_argument("--data", action="extend", nargs="+", default=[], metavar="NAME=DIR",
                        help="add a corpus: a folder of video files")  # fmt: skip
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="FIELD=VALUE",
                        help="change a config field, nested ones with dots: pretrain.steps=100")  # fmt: skip
    parser.add_argument(
        "--pretrain-on", metavar="NAME[,NAME]", help="the same as --set pretrain_on=NAME[,NAME]"
    )
    parser.add_argument("--recompute", action="store_true", help="ignore released and cached stages")
    parser.add_argument(
        "--missing", action="store_true", help="run only cells that have no current ok record"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="cells at a time, each in its own process"
    )
    parser.add_argument(
        "--out", metavar="DIR", help="where the records go (default: results/SCALE/EXPERIMENT)"
    )
    group = parser.add_argument_group("clusters, and what became of a run")
    group.add_argument("--submit", action="store_true", help="run as Slurm jobs")
    group.add_argument("--site", metavar="FILE", help="site file, slurm/*.toml")
    group.add_argument("--max-parallel", type=int, metavar="N", help="array tasks at a time")
    group.add_argument("--dry-run", action="store_true", help="print what would run")
    group.add_argument(
        "--check", action="store_true", help="with --dry-run: ask the site (sbatch --test-only)"
    )
    asking = {
        "status": "state of each cell",
        "logs": "logs of failed cells",
        "collect": "copy the records of a submitted run into --out",
        "cancel": "cancel the jobs of this run",
        "json": "machine-readable output",
    }
    for flag, text in asking.items():
        group.add_argument(f"--{flag}", action="store_true", help=text)
    return parser


def run_experiment(experiment: Experiment, argv: list[str]) -> int:
    """Do what a command line asks. Returns the exit code; raises UserError for bad input."""
    options = build_parser(experiment).parse_args(argv)
    if options.jobs < 1:
        raise UserError(f"--jobs {options.jobs}: at least 1 is needed")
    plan = plan_of(experiment, options, argv)
    context = plan.context(experiment)
    cells = choose(context.cells, options.only)
    for action in ("status", "logs", "collect", "cancel"):
        if getattr(options, action):
            return int(getattr(launch, action)(plan, context, cells, as_json=options.json))
    if options.missing:
        cells = [cell for cell in cells if not launch.is_done(context, cell)]
    if options.dry_run:
        return launch.dry_run(plan, context, cells, options)
    if options.submit:
        return launch.submit(plan, context, cells, options)
    return run_here(plan, context, cells, options.jobs)


def plan_of(experiment: Experiment, options: argparse.Namespace, argv: list[str]) -> Plan:
    """The plan of parsed options."""
    settings = list(options.set)
    if options.pretrain_on:
        settings.append(f"pretrain_on={options.pretrain_on}")
    return make_plan(
        experiment,
        argv,
        scale=options.scale,
        settings=tuple(settings),
        data=data_folders(options.data),
        out=options.out,
        recompute=options.recompute,
    )


def data_folders(assignments: list[str]) -> dict[str, str]:
    """`NAME=DIR` options as absolute folders by name.

    Raises:
        UserError: a name that a cell cannot bear, a name given twice, a missing folder.
    """
    folders: dict[str, str] = {}
    for text in assignments:
        name, folder = split_assignment(text, "--data")
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or "__" in name:
            raise UserError(
                f"--data {text}: the name may hold letters, digits, dots, dashes and single underscores"
            )
        if name in folders:
            raise UserError(f"--data {text}: {name} is given twice")
        path = Path(folder).expanduser().absolute()
        if not path.is_dir():
            raise UserError(f"--data {text}: no folder {folder}")
        folders[name] = str(path)
    return folders


def choose(cells: list[Cell], patterns: list[str]) -> list[Cell]:
    """The cells that a pattern matches, wholly or as a prefix of its parts; all without a pattern.

    Raises:
        UserError: a pattern matches nothing.
    """
    names = [cell.name for cell in cells]
    chosen: set[str] = set()
    for pattern in [part for text in patterns for part in text.split(",") if part]:
        hits = [
            name for name in names if any(fnmatch.fnmatchcase(name, p) for p in (pattern, f"{pattern}/*"))
        ]
        if not hits:
            raise UserError(f"--only {pattern}: no such cell{nearest(pattern, names)}")
        chosen.update(hits)
    return [cell for cell in cells if not patterns or cell.name in chosen]


def run_here(plan: Plan, context: Context, cells: list[Cell], jobs: int) -> int:
    """Run cells on this machine, then summarise. Exit code 1 if a cell failed."""
    plan.write()
    failed = launch.run_local(plan, context, cells, jobs)
    context.experiment.summarize(context)
    say(f"records: {context.out}")
    for name, error in failed.items():
        say(f"failed: {name}: {error}")
    return 1 if failed else 0


def print_json(content: object) -> None:
    """Machine-readable output on stdout."""
    print(json.dumps(content, indent=1, allow_nan=False))
