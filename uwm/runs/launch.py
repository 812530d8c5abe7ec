"""Where cells run: in this process, in several processes (`--jobs`), or on Slurm (`uwm.runs.slurm`)."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from uwm.errors import UserError, run_cli
from uwm.runs.experiment import Cell, Context
from uwm.runs.plan import Plan, find_cell, say
from uwm.runs.task import CellFailed, Stop, join_ranks, run_item


def run_local(plan: Plan, context: Context, cells: list[Cell], jobs: int) -> dict[str, str]:
    """Run cells on this machine, `jobs` at a time. Returns the errors of failed cells by name.

    Under `torchrun` all ranks go through the cells together, and rank 0 writes the records.
    """
    check_writable(context.out)
    check_writable(context.work)
    if jobs > 1:
        return _run_processes(plan, context, cells, jobs)
    join_ranks()
    stop = Stop()
    stop.install()
    try:
        return _run_in_turn(context, cells, stop)
    finally:
        stop.uninstall()


def _run_in_turn(context: Context, cells: list[Cell], stop: Stop) -> dict[str, str]:
    failed: dict[str, str] = {}
    for number, cell in enumerate(cells, 1):
        say(f"[{number}/{len(cells)}] {cell.name}")
        try:
            run_item(context, cell.name, stop)
            _say_outcome(context, cell)
        except CellFailed as error:
            failed[cell.name] = str(error)
            say(f"  failed: {error}")
        if stop.asked:
            raise SystemExit(143)
    return failed


def check_writable(folder: Path) -> None:
    """Raises UserError where `folder` cannot be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"cannot write into {folder} ({error.strerror}); choose another with --out or UWM_RUNS"
        ) from error


def _say_outcome(context: Context, cell: Cell) -> None:
    record = context.record(cell)
    if record is not None:
        say(
            f"  {record.status} in {record.run['seconds']:.1f} s"
            + (f": {record.error}" if record.error else "")
        )


def _run_processes(plan: Plan, context: Context, cells: list[Cell], jobs: int) -> dict[str, str]:
    file = plan.write()
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH")) if part)
    environment = {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": path}

    def run(cell: Cell) -> int:
        command = [sys.executable, "-m", "uwm.runs.launch", str(file), cell.name]
        return subprocess.run(command, env=environment).returncode

    with ThreadPoolExecutor(jobs) as pool:
        codes = list(pool.map(run, cells))
    if 2 in codes:
        raise UserError("the run ended for the reason above")
    return {c.name: _failure(context, c, code) for c, code in zip(cells, codes, strict=True) if code != 0}


def _failure(context: Context, cell: Cell, code: int) -> str:
    record = context.record(cell)
    return record.error if record and record.error else f"its process ended with code {code}"


def _child(argv: list[str]) -> int:
    """`python -m uwm.runs.launch PLAN CELL`: one cell of a written plan."""
    file, name = argv
    plan = Plan.read(Path(file))
    context = plan.context()
    return 1 if run_local(plan, context, [find_cell(context, name)], 1) else 0


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: _child(sys.argv[1:])))
