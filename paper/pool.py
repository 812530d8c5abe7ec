"""Processes that draw figures and check records."""

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any


class _ThisProcess(Executor):
    """Does the work at once, where it is asked for: no process is started for it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def process_pool(processes: int | None = None) -> Executor:
    """A pool of `processes`, by default one per core; 1 is this process itself.

    Others are spawned: a fork of a process with running threads (of torch or of a linear algebra library)
    copies the locks that these hold, and may wait for them for ever.
    """
    if processes == 1:
        return _ThisProcess()
    return ProcessPoolExecutor(processes or os.cpu_count(), get_context("spawn"))
