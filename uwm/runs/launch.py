"""Where cells run: in this process, in several processes (`--jobs`), or on Slurm (`uwm.runs.slurm`)."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Queue
from typing import NamedTuple, Self

from uwm.env import REPOSITORY, launched_rank
from uwm.errors import UserError, run_cli
from uwm.runs.experiment import Cell, Context
from uwm.runs.gpus import gpu_of, visible_gpus
from uwm.runs.measuring import one_line
from uwm.runs.plan import RunPlan, find_cell, say
from uwm.runs.stopping import ORPHANED, Stop
from uwm.runs.task import CellFailed, join_ranks, run_item, run_part

PART = "\t"  # between a cell's name and a part's, in what a worker is told


def run_local(plan: RunPlan, context: Context, cells: list[Cell], jobs: int) -> dict[str, str]:
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
            raise SystemExit(stop.code)
    return failed


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


def _run_processes(plan: RunPlan, context: Context, cells: list[Cell], jobs: int) -> dict[str, str]:
    """Each process takes item after item, so that cells share what they hold in memory (encoded states).

    Where there are GPUs, each process sees one of them.
    """
    file, queue = plan.write(), _Queue(context, cells)
    environment, gpus = _worker_environment(jobs), visible_gpus()

    def work(number: int) -> None:
        worker, mine = None, environment | gpu_of(number, gpus)
        with ExitStack() as stack:
            while (item := queue.next()) is not None:
                if worker is None or worker.ended:
                    worker = stack.enter_context(_Worker(file, mine))
                queue.ended(item, worker.run(item))

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in [pool.submit(work, number) for number in range(min(jobs, len(queue)))]:
                future.result()
        except BaseException:  # Ctrl-C: no further cell
            queue.close()
            raise
    if 2 in queue.codes.values():
        raise UserError("the run ended for the reason above")
    return {c.name: _failure(context, c, queue.codes[c.name]) for c in cells if queue.codes[c.name] != 0}


class _Item(NamedTuple):
    """What a worker is told to run: a cell, or one of its parts."""

    cell: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.cell}{PART}{self.part}" if self.part else self.cell


class _Queue:
    """Cells in their order, each after its parts. `codes`: how the cells ended."""

    def __init__(self, context: Context, cells: list[Cell]) -> None:
        names = context.experiment.parts.names
        parts = {cell.name: list(names(context.config, cell)) for cell in cells}
        self.open = {cell: len(mine) for cell, mine in parts.items()}
        self.left = deque(
            item for cell, mine in parts.items() for item in [_Item(cell, p) for p in mine] or [_Item(cell)]
        )
        self.codes: dict[str, int] = {}
        self.closed = False
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.left)

    def next(self) -> _Item | None:
        """The next item; None when none is left, or all that are left wait for parts that others run."""
        with self.lock:
            return self.left.popleft() if self.left and not self.closed else None

    def ended(self, item: _Item, code: int) -> None:
        """Notes how an item ended. After the last part the cell; it says why one failed."""
        with self.lock:
            if not item.part:
                self.codes[item.cell] = code
                return
            self.open[item.cell] -= 1
            if code != 0:
                rest = [other for other in self.left if other.cell == item.cell]
                self.left = deque(other for other in self.left if other.cell != item.cell)
                self.open[item.cell] -= len(rest)
            if self.open[item.cell] == 0:
                self.left.appendleft(_Item(item.cell))

    def close(self) -> None:
        """Nothing more is to be run, not even the cell whose last part ends now."""
        with self.lock:
            self.closed = True


def _worker_environment(jobs: int) -> dict[str, str]:
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    path = os.pathsep.join(part for part in (str(REPOSITORY), os.environ.get("PYTHONPATH")) if part)
    return {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": path}


class _Worker:
    """A process that runs the cells whose names it reads, and answers each with 0, or 1 for a failed one."""

    def __init__(self, plan: Path, environment: dict[str, str]) -> None:
        answers, own_end = os.pipe()
        command = [sys.executable, "-m", "uwm.runs.launch", str(plan), str(own_end)]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, pass_fds=[own_end], text=True
        )
        os.close(own_end)
        self.answers = os.fdopen(answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # no more names: it ends
        self.answers.close()

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def run(self, item: _Item) -> int:
        """The item's exit code: the worker's answer, or, where it ended without one, how it ended."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            print(item, file=self.process.stdin, flush=True)
        answer = self.answers.readline()
        return int(answer) if answer else self.process.wait()


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
    with os.fdopen(int(answers), "w") as told:
        while name := names.next():
            cell, _, part = name.partition(PART)
            if part:
                failed = _run_part(context, find_cell(context, cell), part)
            else:
                failed = bool(run_local(plan, context, [find_cell(context, cell)], 1))
            names.busy = False
            print(int(failed), file=told, flush=True)
    return 0


def _run_part(context: Context, cell: Cell, part: str) -> bool:
    """Whether a part failed: the cell meets the same error, and its record tells it."""
    stop = Stop()
    stop.install()
    try:
        run_part(context, cell, part, stop)
    except UserError:
        raise
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
