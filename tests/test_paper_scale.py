"""docs/paper-scale.md: its commands, on small files in the layouts of their owners."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.documents import BLOCK, ROOT, commands, section
from tests.paper_world import write_world
from tests.warm import run_python
from uwm.models import MAE_PRESETS

PAGE = ROOT / "docs" / "paper-scale.md"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has after the page's first section, small: SSV2, EGO4D, ROBOSUITE.hdf5 and the weights."""
    folder = tmp_path_factory.mktemp("paper")
    write_world(folder, MAE_PRESETS["base"])  # Figures 4 and 5 take 2,000 pairs
    return folder


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "UWM_CACHE": str(folder / "cache"),
        "UWM_RUNS": str(folder / "runs"),
        "UWM_WEIGHTS": str(folder / "weights"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("UWM_SITE", None)
    return run_python(words, folder, environment, timeout=300)


def words_of(*titles: str) -> list[str]:
    return [
        shlex.join(words)
        for title in titles
        for language, text in BLOCK.findall(section(PAGE, title))
        if language == "sh"
        for words in commands(text)
    ]


@pytest.mark.parametrize("line", words_of("Look", "Decode once", "Count", "Plan"))
def test_a_command_of_the_page(world: Path, line: str):
    words = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID/32", "0/1"))[1:]
    words = [str(ROOT / word) if word.startswith("experiments/") else word for word in words]
    done = run(words, world)
    assert done.returncode == 0, done.stderr[-1500:]
    if words[0].endswith(".py"):
        assert "pretrain" in done.stdout  # which all three share


def test_what_is_missing_is_named_before_anything_is_computed(world: Path, tmp_path: Path):
    shutil.copytree(world / "SSV2", tmp_path / "SSV2")
    (tmp_path / "weights").mkdir()
    words = [str(ROOT / "experiments" / "table1.py"), "--scale", "paper", "--dry-run"]
    done = run([*words, "--data", "ssv2=SSV2"], tmp_path)
    assert done.returncode == 2
    assert "mae_visualize_vit_base.pth" in done.stderr or "ego4d" in done.stderr
