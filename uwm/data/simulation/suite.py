"""The in-domain set of Figures 4 and 5 at scales `small` and `paper`: a Panda arm on tasks, in one file.

The tasks take turns, so that any first clips of a split hold all of them. An episode is a pure function of
the suite's seed and its number. Demos are made in parts, by several processes and by several machines (a
Slurm array), and joined once all are there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from uwm.data.simulation.generate import (
    Recording,
    Take,
    check_same,
    claim,
    demo_file,
    environment_of,
    make_unit,
)
from uwm.data.simulation.jobs import in_processes
from uwm.data.simulation.robot_scene import WORKSPACE_CAMERA, SceneConfig
from uwm.data.simulation.write import join_parts
from uwm.files import remove_matching


@dataclass(frozen=True)
class Suite:
    """Tasks, episodes and splits. The training split has more pairs than any recipe at scale `paper` names:
    20,000 of two frames 0.2 s apart, of 48 in each episode of 50 frames."""

    tasks: tuple[str, ...] = ("Lift", "Stack", "NutAssembly")
    episodes: Mapping[str, int] = field(default_factory=lambda: {"train": 600, "validation": 30, "test": 90})
    steps: int = 100  # control steps of 0.05 s
    steps_per_frame: int = 2
    seed: int = 0
    size: int = 256  # of the pictures, pixels; trainings crop 224 from it
    jpeg: int = 95

    def recording(self, task: str) -> Recording:
        """How a task's episodes are made."""
        scene = SceneConfig(task, ("Panda",), camera=WORKSPACE_CAMERA, size=self.size)
        return Recording(
            scene, "scripted", None, self.steps, self.steps_per_frame, seed=self.seed, jpeg=self.jpeg
        )

    def splits(self) -> dict[str, list[str]]:
        """The names of each split's demos."""
        names, first = {}, 0
        for split, count in self.episodes.items():
            names[split] = [f"demo_{number}" for number in range(first, first + count)]
            first += count
        return names

    def takes(self) -> list[Take]:
        """Every demo, in order."""
        return [Take(f"demo_{number}", number) for number in range(sum(self.episodes.values()))]

    def task_of(self, take: Take) -> str:
        """The tasks take turns."""
        return self.tasks[take.number % len(self.tasks)]

    def settings(self) -> str:
        """All that the file depends on, as its attribute has it."""
        return json.dumps({"suite": asdict(self)}, sort_keys=True)


def make_suite(out: Path, suite: Suite, jobs: int, part: tuple[int, int] = (0, 1)) -> tuple[int, bool]:
    """Makes the demos of a part (number, count) that are missing, and joins the file once it is whole.

    Returns how many were made, and whether the file is there.

    Raises:
        UserError: `out`, or an unfinished one, was made with other settings; a demo cannot be made.
    """
    if out.exists():
        check_same(out, suite.settings())
        return 0, True
    folder = out.with_name(f".{out.name}.parts")
    claim(folder, suite.settings())
    takes = suite.takes()
    missing = [take for take in takes[part[0] :: part[1]] if not demo_file(folder, take).is_file()]
    if missing:
        units = list(_units(suite, missing, jobs))
        in_processes(partial(_make, suite, folder), units, len(missing), min(jobs, len(units)), "demo")
    parts = [demo_file(folder, take) for take in takes]
    if not all(path.is_file() for path in parts):
        return len(missing), False
    names = [take.name for take in takes]
    try:
        join_parts(out, parts, names, _environment(suite), suite.splits(), {"settings": suite.settings()})
    except OSError:
        if (
            not out.exists()
        ):  # else another machine ended at the same time: it joined them, and took them away
            raise
    remove_matching(folder, "*.hdf5", ".*.tmp", "settings.json")
    return len(missing), True


def _units(suite: Suite, takes: Sequence[Take], jobs: int) -> list[tuple[str, list[Take]]]:
    """Takes of one task each, since building a scene takes seconds; about as many of a task as processes."""
    units = []
    for task in suite.tasks:
        of_task = [take for take in takes if suite.task_of(take) == task]
        units += [(task, group) for index in range(jobs) if (group := of_task[index::jobs])]
    return units


def _make(suite: Suite, folder: Path, unit: tuple[str, list[Take]], done: Callable[[], None]) -> None:
    make_unit(suite.recording(unit[0]), folder, unit[1], done)


def _environment(suite: Suite) -> dict[str, Any]:
    """robosuite's arguments; each demo names its task."""
    return environment_of(suite.recording(suite.tasks[0]).scene) | {"env_name": "/".join(suite.tasks)}


def sized(size: int, seed: int, episodes: int | None) -> Suite:
    """The suite with pictures of another size or episodes of another seed; `episodes`: fewer of each split,
    in proportion, to try it out."""
    suite = Suite(size=size, seed=seed)
    if episodes is None:
        return suite
    whole = sum(suite.episodes.values())
    fewer = {split: max(1, round(count * episodes / whole)) for split, count in suite.episodes.items()}
    return replace(suite, episodes=fewer)
