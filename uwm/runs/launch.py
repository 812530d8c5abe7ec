"""Where cells run: in this process, in several processes (`--jobs`), or on Slurm (`uwm.runs.slurm`)."""

import json
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import Queue
from typing import NamedTuple

from uwm.env import launched_rank
from uwm.errors import UserError, run_cli
from uwm.runs.experiment import Cell, Context
from uwm.runs.gpus import gpu_of, visible_gpus
from uwm.runs.measuring import one_line
from uwm.runs.plan import RunPlan, find_cell, say
from uwm.runs.stopping import ORPHANED, Stop
from uwm.runs.task import CellFailed, join_ranks, run_item, run_part
from uwm.runs.workers import PART, Answer, Items, Worker, worker_environment


class Unmeasured(NamedTuple):
    """The cells that gave no number, by name: errors of those that `failed`, messages about `bad_input`."""

    failed: dict[str, str]
    bad_input: dict[str, str]


def run_local(plan: RunPlan, context: Context, cells: list[Cell], jobs: int) -> Unmeasured:
    """Run cells on this machine, `jobs` at a time. A cell that fails, or finds bad input, stops no other.

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


def _run_in_turn(context: Context, cells: list[Cell], stop: Stop) -> Unmeasured:
    failed, bad_input = Unmeasured({}, {})
    for number, cell in enumerate(cells, 1):
        say(f"[{number}/{len(cells)}] {cell.name}")
        try:
            run_item(context, cell.name, stop)
            _say_outcome(context, cell)
        except CellFailed as error:
            failed[cell.name] = str(error)
            say(f"  failed: {error}")
        except UserError as error:
            bad_input[cell.name] = str(error)
        if stop.asked:
            raise SystemExit(stop.code)
    return Unmeasured(failed, bad_input)


def refuse_jobs_of_ranks(jobs: int) -> None:
    """Raises UserError where each of several ranks would start processes of its own: these would inherit its
    rank, and wait for the others' for ever."""
    world_size = launched_rank()[1]
    if jobs > 1 and world_size > 1:
        raise UserError(
            f"--jobs {jobs} under torchrun with {world_size} processes: leave out --jobs to measure "
            "together, or start without torchrun"
        )


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


def _run_processes(plan: RunPlan, context: Context, cells: list[Cell], jobs: int) -> Unmeasured:
    """Each process takes item after item, so that cells share what they hold in memory (encoded states).

    Where there are GPUs, each process sees one of them.
    """
    file, queue = plan.write(), Items(context, cells)
    environment, gpus = worker_environment(jobs), visible_gpus()

    def work(number: int) -> None:
        worker, env = None, environment | gpu_of(number, gpus)
        with ExitStack() as stack:
            while (item := queue.next()) is not None:
                if worker is None or worker.ended:
                    worker = stack.enter_context(Worker(file, env))
                queue.ended(item, worker.run(item))

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in [pool.submit(work, number) for number in range(min(jobs, len(queue)))]:
                future.result()
        except BaseException:  # Ctrl-C: no further cell
            queue.close()
            raise
    answers = queue.answers
    if Answer(2) in answers.values():
        raise UserError("the run ended for the reason above")
    failed = [cell for cell in cells if answers[cell.name].code not in (0, 2)]
    return Unmeasured(
        {cell.name: _failure(context, cell, answers[cell.name].code) for cell in failed},
        {name: answer.bad_input for name, answer in answers.items() if answer.bad_input},
    )


def _failure(context: Context, cell: Cell, code: int) -> str:
    record = context.record(cell)
    return record.error if record and record.error else f"its process ended with code {code}"


def _work(argv: list[str]) -> int:
    """`python -m uwm.runs.launch PLAN FD`: the cells of a written plan, or parts of them, that stdin names,
    one a line. How each ended goes to the open file FD."""
    file, answers = argv
    plan = RunPlan.read(Path(file))
    context = plan.context()
    names = _Names()
    with os.fdopen(int(answers), "w") as output:
        while name := names.next():
            cell, _, part = name.partition(PART)
            if part:
                answer = Answer(int(_run_part(context, find_cell(context, cell), part)))
            else:
                failed, bad_input = run_local(plan, context, [find_cell(context, cell)], 1)
                answer = Answer(2, bad_input[cell]) if bad_input else Answer(int(bool(failed)))
            names.busy = False
            print(json.dumps(answer), file=output, flush=True)
    return 0


def _run_part(context: Context, cell: Cell, part: str) -> bool:
    """Whether a part failed: the cell meets the same error, and its record tells it."""
    stop = Stop()
    stop.install()
    try:
        run_part(context, cell, part, stop)
    except Exception as error:
        say(f"{cell.name}, part {part}: {one_line(error)}")
        return True
    finally:
        stop.uninstall()
    return False


class _Names:
    """Names of cells, read from stdin. Where stdin closes during a cell, the parent process has died. This
    one then ends too, but is first asked to stop, so that a training leaves a checkpoint."""

    grace_s = 60.0

    def __init__(self) -> None:
        self.queue: Queue[str] = Queue()
        self.busy = False
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> str:
        """The next cell's name, or "" when there is none."""
        return self.queue.get()

    def _read(self) -> None:
        for line in sys.stdin:
            self.busy = True
            self.queue.put(line.strip())
        self.queue.put("")
        if self.busy:
            os.kill(os.getpid(), ORPHANED)
            time.sleep(self.grace_s)
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    raise SystemExit(run_cli(lambda: _work(sys.argv[1:])))
