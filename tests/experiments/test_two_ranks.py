"""Experiments at scale smoke by two processes of torchrun: the numbers of one.

What draws other numbers in several processes is taken from the first run: masks of the MAE, and trainings
whose codebook restarts. The rest is trained anew, with half of each batch in each process.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from uwm.data.corpora import IN_DOMAIN
from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment

ROOT = Path(__file__).resolve().parents[2]
# Sums in another order; with a model of a few steps LPIPS to O_t is next to zero, and the ratio to it shakes.
TOLERANCE = 5e-3
ANEW = {
    "table1": ("evaluation", "reader-hand-in-picture"),
    "figure4": ("finetune",),
    "figure5": ("decoder", "adapter"),
    "families": ("family", "reader-hand-in-picture", "adapter"),
    "ablations": ("ablation",),
    "planning": ("adapter",),
}
CELLS = {
    "table1": f"uwm/{IN_DOMAIN}",  # a robot's, and nothing is trained on it
    "figure4": f"w_ft-no-codebook/{IN_DOMAIN}/s0",
    "figure5": f"r_gt/{IN_DOMAIN}/s0",
    "families": f"ours/{IN_DOMAIN}/s0",
    "ablations": f"base/{IN_DOMAIN}",
    "planning": "r_gt-8/reach/s0",
}
MORE = {"table1": ["--set", f"corpora={IN_DOMAIN}"]}


def record(folder: Path, cell: str) -> dict:
    return json.loads((folder / "out" / f"{cell.replace('/', '__')}.json").read_text())


@pytest.mark.parametrize("name", CELLS)
def test_two_ranks_give_the_numbers_of_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    one, two = tmp_path / "one", tmp_path / "two"
    words = ["--scale", "smoke", "--only", CELLS[name], *MORE.get(name, [])]
    for variable in ("UWM_WEIGHTS", "UWM_SITE", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("UWM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("UWM_CACHE", str(one / "cache"))
    experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
    assert main(experiment, [*words, "--out", f"{one}/out"]) == 0
    anew = [f"{stage}-*" for stage in ANEW[name]]
    shutil.copytree(one / "cache", two / "cache", ignore=shutil.ignore_patterns(*anew))
    monkeypatch.setenv("UWM_CACHE", str(two / "cache"))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *torchrun, f"experiments/{name}.py", *words, "--out", f"{two}/out"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for stage in ANEW[name]:
        names = [sorted(path.name for path in folder.glob(f"cache/{stage}-*")) for folder in (one, two)]
        assert names[0] == names[1] != []
    alone, together = (record(folder, CELLS[name]) for folder in (one, two))
    assert together["config_digest"] == alone["config_digest"]
    assert together["metrics"].keys() == alone["metrics"].keys()
    for metric, entry in alone["metrics"].items():
        found = together["metrics"][metric]
        assert found["value"] == pytest.approx(entry["value"], rel=TOLERANCE, abs=1e-4), metric
        assert found["n"] == entry["n"]
