"""Processes that draw figures and check records."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def process_pool(processes: int | None = None) -> ProcessPoolExecutor:
    """A pool of `processes`, by default one per core.

    They are spawned: a fork of a process with running threads (of torch or of a linear algebra library)
    copies the locks that these hold, and may wait for them for ever.
    """
    return ProcessPoolExecutor(processes or os.cpu_count(), get_context("spawn"))
