"""Questions about a run, `--status --logs --cancel --wait --follow`, answered from its listing and the queue.

An experiment file asks here before it imports torch:

    if __name__ == "__main__":
        answer_early(__file__)
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uwm.env import runs_root
from uwm.errors import run_cli
from uwm.garbage import pause_collection
from uwm.runs import report
from uwm.runs.listing import Listing, find_listing
from uwm.runs.options import build_parser, check_flags, data_folders
from uwm.runs.plan import say
from uwm.runs.provenance import file_blob
from uwm.runs.slurm import live

# Another one may be a mistake: the experiment's file says so.
USUAL_SCALES = ("smoke", "mini", "small", "paper")
QUESTIONS = ("status", "logs", "cancel", "wait", "follow")


def answer_early(file: str) -> None:
    """Answer a question on the command line from the newest run with these options, and exit.

    Returns where the command line asks nothing, or what only the experiment's file can tell: without such a
    run, which cells there are. Garbage collection is paused while the file imports its libraries, until
    `uwm.runs.cli.main`.
    """
    pause_collection()
    arguments = sys.argv[1:]
    if not any(f"--{question}" in arguments for question in QUESTIONS) or "--submit" in arguments:
        return
    path = Path(file).resolve()
    code = run_cli(lambda: _early(build_parser(path.stem).parse_args(arguments), path))
    if code >= 0:
        raise SystemExit(code)


def _early(options: argparse.Namespace, path: Path) -> int:
    """The answer's exit code, or -1 where the experiment's file must tell it."""
    check_flags(options)
    runs = runs_root(path.parent.parent)
    listing = find_listing(runs, path.stem, options.scale, run_options(options))
    answerable = (options.status or options.logs) and not options.json and options.scale in USUAL_SCALES
    if listing is None and answerable:
        return _nothing_started(options, path, runs)
    if listing is None:
        return -1
    if listing.code and listing.code != file_blob(path):
        say(f"note: {path.name} has changed since this run was started")
    return answer(options, listing)


def _nothing_started(options: argparse.Namespace, path: Path, runs: Path) -> int:
    """What can be said without a run: the records that are there, and jobs of a deleted run folder."""
    say(f"no run of {path.stem} at scale {options.scale} with these options was started from here: "
        "there are no jobs and no logs of it")  # fmt: skip
    lost = live.without_folder(runs / options.scale, path.stem)
    if lost:
        say(f"jobs {', '.join(lost[:5])} are queued or running, and their run folder is gone: --cancel, with "
            "the options of that run, ends them")  # fmt: skip
    folder = Path(options.out or path.parent.parent / "results" / options.scale / path.stem)
    statuses = [status for file in folder.glob("*.json") if (status := _status_of(file))]
    if statuses:
        say(f"{folder} holds {len(statuses)} records, {statuses.count('ok')} of them ok; --missing --dry-run "
            "lists the cells that need a new one")  # fmt: skip
    return 0


def _status_of(record: Path) -> str | None:
    """Of a record; None for a file that is none."""
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options that say which run is meant, as they are kept in its listing."""
    out = str(Path(options.out).absolute()) if options.out else None
    data = data_folders(options.data, options.action_range, must_exist=not reads_nothing(options))
    chosen = {"set": list(options.set), **({"method": list(options.method)} if options.method else {})}
    return {**chosen, "pretrain_on": options.pretrain_on, "data": data, "out": out}


def status_command(options: argparse.Namespace, file: Path) -> str:
    """The command line that asks for the state of the run that `options` start, for the same folder."""
    script = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    words = ["python", str(script), "--scale", options.scale]
    for name in ("only", "data", "set", "method"):
        values = getattr(options, name)
        words += [f"--{name}", *values] if values else []
    for name in ("action_range", "pretrain_on", "out"):
        value = getattr(options, name)
        words += [f"--{name.replace('_', '-')}", str(value)] if value else []
    return shlex.join([*words, "--status"])


def asked(options: argparse.Namespace) -> bool:
    """True where the command line asks about a run and starts none."""
    return not options.submit and any(getattr(options, question) for question in QUESTIONS)


def reads_nothing(options: argparse.Namespace) -> bool:
    """True where the command line opens no corpus: a folder may be gone by then."""
    return asked(options) or options.collect


def answer(options: argparse.Namespace, listing: Listing) -> int:
    """Answer from the listing. Returns the exit code."""
    chosen = listing.chosen(options.only)
    replies: dict[str, Callable[[], int]] = {
        "cancel": lambda: live.cancel(chosen, whole=not options.only),
        "logs": lambda: report.logs(chosen, as_json=options.json),
        "follow": lambda: report.follow(chosen, verbose=True),
        "wait": lambda: report.follow(chosen, verbose=False),
        "status": lambda: report.status(chosen, as_json=options.json),
    }
    note = None if options.cancel and not options.only else live.orphans_told(listing.folder)
    if note:
        say(f"note: {note}")
    return next(reply() for name, reply in replies.items() if getattr(options, name))
