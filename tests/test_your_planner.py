"""docs/your-planner.md works: its planner plays, and the same seeds give the same numbers."""

import os
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.data.robot_simulator import needs_robosuite
from tests.documents import ROOT, blocks, commands
from tests.warm import run_python
from uwm.data.simulation.task_config import TaskConfig
from uwm.data.simulation.tasks import TaskEnvironment
from uwm.runs.experiment import load_experiment

PAGE = ROOT / "docs" / "your-planner.md"


@needs_robosuite
@pytest.mark.robosuite
def test_the_pages_planner_plays(tmp_path: Path) -> None:
    (_, program), (_, line) = blocks(PAGE)
    (tmp_path / "climb.py").write_text(program, encoding="utf-8")
    [words] = commands(line)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    first, second = (run_python(words[1:], tmp_path, environment) for _ in range(2))
    assert first.returncode == 0, first.stderr[-2000:]
    assert re.fullmatch(r"reach: (0|50|100)% \[\d+%, \d+%\], n = 2\n", first.stdout)
    assert second.stdout == first.stdout


@needs_robosuite
@pytest.mark.robosuite
def test_a_seed_starts_as_in_the_tables() -> None:
    config = load_experiment(ROOT / "experiments" / "planning.py").configs["mini"]
    episodes = pd.read_csv(ROOT / "results" / "mini" / "planning" / "samples" / "random__reach.csv")
    first = episodes.set_index("video").loc[f"episode-{config.first_seed}"]
    environment = TaskEnvironment(TaskConfig("reach"))
    assert environment.config.size == config.adapter.short_side
    _, info = environment.reset(config.first_seed)
    environment.close()
    assert info["distance_mm"] == pytest.approx(first["random/start_distance_mm"], abs=1)


def test_the_planner_is_short() -> None:
    assert len(blocks(PAGE, "python")[0][1].splitlines()) <= 40
