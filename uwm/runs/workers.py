"""Processes that measure cells for another one (`--jobs`), and the items that they share."""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from uwm.env import REPOSITORY
from uwm.runs.experiment import Cell, Context

PART = "\t"  # between a cell's name and a part's, in what a worker is told


class Answer(NamedTuple):
    """A worker's, about an item: 0, 1 for a failed one, 2 with a message about bad input; of one that ended
    without an answer its exit code."""

    code: int
    bad_input: str = ""


class CellOrPart(NamedTuple):
    """What a worker is told to run: a cell, or one of its parts."""

    cell: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.cell}{PART}{self.part}" if self.part else self.cell


class Items:
    """Cells in their order, each after its parts. `answers`: how the cells ended."""

    def __init__(self, context: Context, cells: list[Cell]) -> None:
        names = context.experiment.parts.names
        parts = {cell.name: list(names(context.config, cell)) for cell in cells}
        self.open = {cell: len(part_names) for cell, part_names in parts.items()}
        self.left = deque(
            item
            for cell, part_names in parts.items()
            for item in [CellOrPart(cell, p) for p in part_names] or [CellOrPart(cell)]
        )
        self.answers: dict[str, Answer] = {}
        self.closed = False
        self.lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.left)

    def next(self) -> CellOrPart | None:
        """The next item; None when none is left, or all that are left wait for parts that others run."""
        with self.lock:
            return self.left.popleft() if self.left and not self.closed else None

    def ended(self, item: CellOrPart, answer: Answer) -> None:
        """Notes how an item ended. After the last part the cell; it says why one failed."""
        with self.lock:
            if not item.part:
                self.answers[item.cell] = answer
                return
            self.open[item.cell] -= 1
            if answer.code != 0:
                rest = [other for other in self.left if other.cell == item.cell]
                self.left = deque(other for other in self.left if other.cell != item.cell)
                self.open[item.cell] -= len(rest)
            if self.open[item.cell] == 0:
                self.left.appendleft(CellOrPart(item.cell))

    def close(self) -> None:
        """Nothing more is to be run, not even the cell whose last part ends now."""
        with self.lock:
            self.closed = True


def worker_environment(jobs: int) -> dict[str, str]:
    """The variables of one of `jobs` processes: cores are divided among them."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    path = os.pathsep.join(part for part in (str(REPOSITORY), os.environ.get("PYTHONPATH")) if part)
    return {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONPATH": path}


class Worker:
    """A process that runs the cells whose names it reads, and says how each ended."""

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
        """No item can be given to it."""
        return self.process.poll() is not None

    def run(self, item: CellOrPart) -> Answer:
        """How the item ended."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            print(item, file=self.process.stdin, flush=True)
        answer = self.answers.readline()
        return Answer(*json.loads(answer)) if answer else Answer(self.process.wait())
