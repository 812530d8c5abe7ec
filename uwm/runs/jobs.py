"""Stage jobs out of what each cell needs: equal ones become one job with several cells."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from uwm.runs.experiment import Cell, StageJob


def shared_jobs(cells: Iterable[Cell], needs: Callable[[Cell], Iterable[StageJob]]) -> list[StageJob]:
    """The jobs behind some cells, each once, with the cells that read it (none, where it says so itself).

    `needs(cell)` gives the jobs of a cell, each after those that it needs itself. Of equal ones the first
    is kept: a later cell may be skipped for what it alone wants.
    """
    jobs: dict[str, StageJob] = {}
    for cell in cells:
        for job in needs(cell):
            first = jobs.get(job.name, replace(job, cells=()))
            jobs[job.name] = replace(first, cells=(*first.cells, cell.name) if job.cells else ())
    return list(jobs.values())
