"""Where cells run: in this process, in several processes, or on Slurm (nothing else knows of Slurm)."""

import argparse
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from uwm.errors import Interrupted, UserError, run_cli
from uwm.runs.experiment import Cell, Context, measure
from uwm.runs.plan import Plan, find_cell, say
from uwm.runs.record import Record


class StopFlag:
    """Set by SIGTERM and SIGUSR1; a training sees it through `context.stop` and leaves a checkpoint."""

    def __init__(self) -> None:
        self.set = False

    def __call__(self) -> bool:
        return self.set

    def install(self) -> None:
        """Listen to the signals (main thread only)."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._handle)

    def _handle(self, *_: object) -> None:
        if self.set:  # asked twice: do not wait for a checkpoint
            raise SystemExit(143)
        self.set = True


def is_done(context: Context, cell: Cell) -> bool:
    """True when the cell has a current record without failure."""
    record = context.record(cell)
    return record is not None and record.status == "ok"


def run_local(plan: Plan, context: Context, cells: list[Cell], jobs: int) -> dict[str, str]:
    """Run cells here, `jobs` at a time. Returns the errors of failed cells by name."""
    if jobs > 1:
        return _run_processes(plan, context, cells, jobs)
    stop = StopFlag()
    stop.install()
    context.stop = lambda: stop() or context.artifacts.lock_lost()
    failed: dict[str, str] = {}
    for number, cell in enumerate(cells, 1):
        say(f"[{number}/{len(cells)}] {cell.name}")
        try:
            _note(cell, measure(context, cell), failed)
        except Interrupted:
            raise SystemExit(143) from None
        if stop():
            raise SystemExit(143)
    return failed


def _note(cell: Cell, record: Record, failed: dict[str, str]) -> None:
    if record.status in ("failed", "timeout"):
        failed[cell.name] = record.error or record.status
    say(f"  {record.status} in {record.run['seconds']:.1f} s" + (f": {record.error}" if record.error else ""))


def _run_processes(plan: Plan, context: Context, cells: list[Cell], jobs: int) -> dict[str, str]:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    environment = {"OMP_NUM_THREADS": threads, **os.environ}
    with ThreadPoolExecutor(jobs) as pool:
        codes = list(pool.map(lambda cell: _run_process(plan, cell, environment), cells))
    if any(code == 2 for code in codes):
        raise UserError("bad input, see the line above")
    failed: dict[str, str] = {}
    for cell, code in zip(cells, codes, strict=True):
        record = context.record(cell)
        if code == 0:
            continue
        named = record.error if record and record.error else f"its process ended with code {code}"
        failed[cell.name] = named
    return failed


def _run_process(plan: Plan, cell: Cell, environment: dict[str, str]) -> int:
    command = [sys.executable, "-m", "uwm.runs.launch", plan.work, cell.name]
    return subprocess.run(command, env=environment).returncode


def _child(argv: list[str]) -> int:
    """`python -m uwm.runs.launch RUN_FOLDER CELL`: one cell of a planned run."""
    work, name = argv
    context = Plan.read(Path(work)).context()
    return 1 if run_local(Plan.read(Path(work)), context, [find_cell(context, name)], 1) else 0


def cell_states(context: Context, cells: list[Cell]) -> list[dict[str, Any]]:
    """State of each cell: its record's status, or pending."""
    rows = []
    for cell in cells:
        record = context.record(cell)
        state = "pending" if record is None else {"ok": "done"}.get(record.status, record.status)
        rows.append({"cell": cell.name, "state": state, "error": record.error if record else None})
    return rows


def status(plan: Plan, context: Context, cells: list[Cell], *, as_json: bool) -> int:
    """Print the state of each cell."""
    rows = cell_states(context, cells)
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        print(f"{row['cell']:40s} {row['state']:9s} {row['error'] or ''}".rstrip())
    return 0


def logs(plan: Plan, context: Context, cells: list[Cell], *, as_json: bool) -> int:
    """Print the log of each failed cell."""
    for cell in cells:
        path = context.log_path(cell)
        if path.is_file():
            print(f"== {cell.name} ({path})\n{path.read_text()}")
    return 0


def collect(plan: Plan, context: Context, cells: list[Cell], *, as_json: bool) -> int:
    """Gather the records; exit code 1 while some are missing."""
    missing = [row for row in cell_states(context, cells) if row["state"] != "done"]
    for row in missing:
        print(f"{row['state']}: {row['cell']}")
    return 1 if missing else 0


def cancel(plan: Plan, context: Context, cells: list[Cell], *, as_json: bool) -> int:
    """Cancel the jobs of this run."""
    raise UserError("no submitted run to cancel; interrupt a local run with Ctrl-C")


def dry_run(plan: Plan, context: Context, cells: list[Cell], options: argparse.Namespace) -> int:
    """Print what would run."""
    for job in context.experiment.stages(context.config, context.data):
        found = context.artifacts.find(job.stage(context)) if job.stage else None
        print(f"stage {job.name}: {found.origin if found else 'to compute'}")
    for cell in cells:
        print(f"cell {cell.name}")
    print(f"records: {context.out}")
    return 0


def submit(plan: Plan, context: Context, cells: list[Cell], options: argparse.Namespace) -> int:
    """Run as Slurm jobs."""
    raise UserError("--submit needs a site file: --site slurm/NAME.toml")


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: _child(sys.argv[1:])))
