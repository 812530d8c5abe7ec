"""docs/your-planner.md works: its planner plays, and the same seeds give the same numbers."""

import os
import re
from pathlib import Path

import pytest

from tests.data.robot_simulator import needs_robosuite
from tests.documents import ROOT, blocks, commands
from tests.warm import run_python

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


def test_the_planner_is_short() -> None:
    assert len(blocks(PAGE, "python")[0][1].splitlines()) <= 40
