"""A cell of each experiment at scale smoke by slurm/job.sbatch, here by bash: two processes of torchrun train
everything anew, and find the numbers of one.

What the experiments share, such as the MAE, is trained once by two processes and once by one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from uwm.data.corpora import IN_DOMAIN
from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment
from uwm.stages.trained import WEIGHTS

ROOT = Path(__file__).resolve().parents[2]
# Sums in another order; with a model of a few steps LPIPS to O_t is next to zero, and the ratio to it shakes.
TOLERANCE = 5e-3
# Of all weights' norm. Where a gradient is rounding alone, Adam makes whole steps of it.
WEIGHTS_TOLERANCE = 2e-3
TIMES = {"seconds_per_decision"}
CELLS = {
    "table1": f"uwm/{IN_DOMAIN}",  # a robot's, and nothing is trained on it
    "figure4": f"w_ft-no-codebook/{IN_DOMAIN}/s0",
    "figure5": f"r_gt/{IN_DOMAIN}/s0",
    "families": f"ours/{IN_DOMAIN}/s0",
    "ablations": f"codes-12/{IN_DOMAIN}",
    "planning": "r_gt-8/reach/s0",
}
MORE = {"table1": ["--set", f"corpora={IN_DOMAIN}"]}
FOREIGN = ("UWM_WEIGHTS", "UWM_SITE", "RANK", "WORLD_SIZE")  # what whoever runs the tests may have set


def words(name: str, folder: Path) -> list[str]:
    return ["--scale", "smoke", "--only", CELLS[name], *MORE.get(name, []), "--out", f"{folder}/out"]


def batch_file(name: str, folder: Path) -> list[str]:
    """The batch file and what it is given."""
    return ["slurm/job.sbatch", f"experiments/{name}.py", *words(name, folder)]


def places(folder: Path) -> dict[str, str]:
    """Runs and cache of its own: nothing that another run has measured or played is taken."""
    return {"UWM_RUNS": f"{folder}/runs", "UWM_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}


def variables(folder: Path) -> dict[str, str]:
    """The environment of a command in a process of its own."""
    own = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    path = f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"
    return {**own, **places(folder), "PATH": path, "PYTHONPATH": str(ROOT)}


def run(name: str, folder: Path, *arguments: str) -> int:
    """The command line in this process, which is one of no others."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in FOREIGN:
            patch.delenv(variable, raising=False)
        for variable, value in places(folder).items():
            patch.setenv(variable, value)
        experiment = load_experiment(ROOT / "experiments" / f"{name}.py")
        return main(experiment, [*arguments, *words(name, folder)])


def record(folder: Path, name: str) -> dict:
    return json.loads((folder / "out" / f"{CELLS[name].replace('/', '__')}.json").read_text())


def assert_same_numbers(name: str, one: Path, several: Path) -> None:
    alone, together = record(one, name), record(several, name)
    assert together["config_digest"] == alone["config_digest"]
    assert together["metrics"].keys() == alone["metrics"].keys()
    for metric in alone["metrics"].keys() - TIMES:
        found, wanted = together["metrics"][metric], alone["metrics"][metric]
        assert found["n"] == wanted["n"]
        if name != "planning":  # it chooses among actions, and a difference in rounding may turn a choice
            assert found["value"] == pytest.approx(wanted["value"], rel=TOLERANCE, abs=1e-4), metric
    assert_same_weights(one / "cache", several / "cache")


def assert_same_weights(one: Path, several: Path) -> None:
    """What several have trained one has too, with weights as near as the rounding of sums leaves them."""
    alone, together = trained(one), trained(several)
    assert together.keys() <= alone.keys()
    assert together
    for stage, weights in together.items():
        assert (weights - alone[stage]).norm() <= WEIGHTS_TOLERANCE * alone[stage].norm(), stage


def trained(cache: Path) -> dict[str, Tensor]:
    """The weights of each stage of a cache by its recipe; the digests of what it read differ by rounding."""
    found = {}
    for path in cache.glob(f"*/{WEIGHTS}"):
        stage = json.loads(path.with_name("stage.json").read_text())
        key = json.dumps([stage["name"], stage["fields"], [*stage["inputs"]]])
        assert key not in found
        found[key] = flat(load_file(path))
    return found


def flat(weights: dict[str, Tensor]) -> Tensor:
    return torch.cat([weights[name].double().flatten() for name in sorted(weights)])


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of the runs by one process, and of those by two."""
    return tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_two_ranks_give_the_numbers_of_one(name: str, folders: tuple[Path, Path]):
    one, two = folders
    before = trained(two / "cache").keys()
    assert run(name, one) == 0
    gpus = {"SLURM_GPUS_ON_NODE": "2", "SLURM_CPUS_PER_TASK": "2"}
    command = ["bash", *batch_file(name, two)]
    done = subprocess.run(
        command, cwd=ROOT, env=variables(two) | gpus, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same_numbers(name, one, two)
    assert trained(two / "cache").keys() > before  # each has trainings of its own
