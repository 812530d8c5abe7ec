"""Work of simulators in several processes, with progress."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import TypeVar

from uwm.errors import UserError

Unit = TypeVar("Unit")
Work = Callable[[Unit, Callable[[], None]], None]
"""Does a unit of work, and calls its second argument after each item of it. Must be picklable."""


def in_processes(work: Work[Unit], units: Sequence[Unit], items: int, jobs: int, name: str) -> None:
    """Does all units in `jobs` processes; each prints nothing, this one shows the progress.

    Args:
        work: what to do with a unit.
        units: taken in order by whichever process is free.
        items: number of items in all units.
        jobs: number of processes.
        name: of an item, for the progress.

    Raises:
        UserError: a process failed.
    """
    from tqdm import tqdm

    # A process forked after rendering hangs in the OpenGL library.
    context = multiprocessing.get_context("spawn")
    tasks, results = context.Queue(), context.Queue()
    for unit in units:
        tasks.put(unit)
    workers = [context.Process(target=_worker, args=(work, tasks, results), daemon=True) for _ in range(jobs)]
    for worker in workers:
        tasks.put(None)
        worker.start()
    for _ in tqdm(range(items), desc="rendering", unit=name):
        error = _next_result(results, workers)
        if error:
            raise UserError(error)
    for worker in workers:
        worker.join()


def _worker(work: Work, tasks: multiprocessing.Queue, results: multiprocessing.Queue) -> None:
    """Does units until there are none. Reports None for each item that is done, or the error as text."""
    try:
        while (unit := tasks.get()) is not None:
            work(unit, lambda: results.put(None))
    except UserError as error:
        results.put(str(error))
    except Exception as error:
        results.put(f"rendering failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _next_result(results: multiprocessing.Queue, workers: Sequence[BaseProcess]) -> str | None:
    """Returns None when an item is done, else what went wrong; notices a process that was killed."""
    while True:
        try:
            error: str | None = results.get(timeout=5)
        except queue.Empty:
            codes = [worker.exitcode for worker in workers]
            if any(codes):
                code = next(filter(None, codes))
                return f"rendering failed: a process ended with code {code}; run the command again to go on"
        else:
            return error
