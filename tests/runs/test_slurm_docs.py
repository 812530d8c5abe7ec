"""The commands of slurm/README.md and of the site files, as they are written there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs.fake_slurm import fake_slurm  # noqa: F401 (a fixture)

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "slurm" / "README.md").read_text()
SITES = sorted(path.name for path in (ROOT / "slurm").glob("*.toml"))
PYTHON = re.compile(r"^python (.*?)(?: +#.*)?$", re.M)


def commands(text):
    """Command lines `python ...` of the code blocks."""
    return [line for block in re.findall(r"```\n(.*?)```", text, re.S) for line in PYTHON.findall(block)]


def test_the_readmes_commands_run_one_after_the_other(fake_slurm, tmp_path):  # noqa: F811
    tree = tmp_path / "tree"  # results/ of this checkout stay as they are
    tree.mkdir()
    for name in ("uwm", "slurm", "pyproject.toml", "requirements.lock"):
        (tree / name).symlink_to(ROOT / name)
    for name in ("experiments", "results"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(tree / name)], check=True)
    places = {"UWM_RUNS": f"{tmp_path}/runs", "UWM_CACHE": f"{tmp_path}/cache", "PYTHONPATH": str(tree)}
    lines = commands(README)
    assert len(lines) >= 9
    for line in lines:
        done = subprocess.run(
            [sys.executable, *line.split()],
            cwd=tree,
            env=os.environ | places | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        missing = "--collect" in line  # the fake cluster measures nothing
        assert done.returncode == int(missing), (line, done.stdout, done.stderr)
    assert len(fake_slurm.scripts) == 5  # pre-training, two evaluations, two packs of cells


@pytest.mark.parametrize("name", SITES)
def test_a_site_file_and_its_command(project, fake_slurm, name):  # noqa: F811
    text = (ROOT / "slurm" / name).read_text()
    (command,) = re.findall(r"^#\s+python experiments/table1.py (.*)$", text, re.M)
    words = command.split()
    assert words[words.index("--site") + 1] == f"slurm/{name}"
    assert f"[{name}]({name})" in README
    code, _, error = project.run("--submit", "--site", str(ROOT / "slurm" / name))
    assert code == 0, error
    assert len(fake_slurm.scripts) == 2
    assert "_submit" in fake_slurm.scripts[0]


def test_container_sites_ask_for_what_they_say(project, fake_slurm):  # noqa: F811
    project.run("--submit", "--site", str(ROOT / "slurm" / "h100-pyxis.toml"))
    stage, cells = fake_slurm.scripts
    assert "#SBATCH --gres=gpu:h100:8\n" in stage
    assert "#SBATCH --exclusive\n" in stage
    assert "#SBATCH --ntasks-per-node=8\n" in stage
    assert "--container-image=/shared/images/uwm.sqsh" in stage
    assert "#SBATCH --gres=gpu:h100:1\n" in cells
    assert "--exclusive" not in cells
