"""Stage jobs out of what each cell needs: equal ones become one job with several cells."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from uwm.runs.experiment import Cell, StageJob


def shared_jobs(cells: Iterable[Cell], needs: Callable[[Cell], Iterable[StageJob]]) -> list[StageJob]:
    """The jobs behind some cells, each once, with the cells that read it (none, where it says so itself).

    `needs(cell)` gives the jobs of a cell, each after those that it needs itself.
    """
    found: dict[str, StageJob] = {}
    for cell in cells:
        for job in needs(cell):
            earlier = found[job.name].cells if job.name in found else ()
            found[job.name] = replace(job, cells=(*earlier, cell.name) if job.cells else ())
    return list(found.values())
