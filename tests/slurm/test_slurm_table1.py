"""Table 1 at scale `smoke` by one process, and on a cluster by one, by two of torchrun and by 2 nodes x 2.

The two of torchrun take the trainings of the first run, and all else is equal; 2 nodes x 2 train themselves.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]
TABLE1 = ROOT / "experiments" / "table1.py"
FOREIGN = ("UWM_WEIGHTS", "UWM_SITE")  # what whoever runs the tests may have set
OPTIONS = ("--scale", "smoke", "--only", "uwm/sim-ego")


def records(folder):
    return {path.name: {**json.loads(path.read_text()), "run": None} for path in folder.glob("*__*.json")}


def run(folder, *arguments):
    """The command line with runs and cache in `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(folder).items():
            patch.setenv(name, value)
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        return main(load_experiment(TABLE1), [*arguments, *OPTIONS, "--out", str(folder / "out")])


def environment(folder):
    return {"UWM_RUNS": f"{folder}/runs", "UWM_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    assert run(folder) == 0
    assert len(records(folder / "out")) == 1
    return folder


@pytest.fixture
def trained(local, tmp_path):
    """A folder whose cache holds the trainings of the local run, not its evaluations."""
    shutil.copytree(local / "cache", tmp_path / "cache", ignore=shutil.ignore_patterns("evaluation-*"))
    return tmp_path


def assert_equal(folder, local):
    assert records(folder / "out") == records(local / "out")
    samples = [path for path in (local / "out/samples").rglob("*") if path.is_file()]
    assert {path.suffix for path in samples} == {".csv"}
    for path in samples:
        assert path.read_bytes() == (folder / "out" / path.relative_to(local / "out")).read_bytes()


def test_collected_equals_the_local_run(cluster, local, tmp_path, capsys):
    assert run(tmp_path, "--submit") == 0
    cluster.wait_until_empty(500)
    assert run(tmp_path, "--collect") == 0, capsys.readouterr()
    assert_equal(tmp_path, local)


def values(folder):
    (record,) = records(folder / "out").values()
    return {name: metric["value"] for name, metric in record["metrics"].items()}


def test_two_nodes_of_two_processes_train_and_measure_the_same(cluster, local, tmp_path, capsys):
    site = tmp_path / "site.toml"
    site.write_text('partition = "low"\nnodes = 2\ntasks_per_node = 2\n')
    assert run(tmp_path, "--submit", "--site", str(site)) == 0
    cluster.wait_until_empty(500)
    logs = "".join(path.read_text()[-2000:] for path in tmp_path.rglob("*_log.out"))
    assert run(tmp_path, "--collect") == 0, (capsys.readouterr(), logs)
    assert [*tmp_path.glob("cache/world-model-*")]
    assert values(tmp_path) == pytest.approx(values(local), rel=1e-3, abs=1e-5)


def test_two_processes_of_torchrun_by_the_batch_file(cluster, local, trained):
    command = [str(TABLE1), *OPTIONS, "--out", str(trained / "out")]
    asked = ("--partition=low", "--gpus-per-node=2", "--cpus-per-task=2", "--time=20", "--chdir", str(ROOT),
             f"--output={trained}/log.txt")  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {**os.environ, **environment(trained), "PATH": path, "PYTHONPATH": str(ROOT)}
    for name in FOREIGN:
        variables.pop(name, None)
    sent = subprocess.run(["sbatch", *asked, "slurm/job.sbatch", *command], cwd=ROOT, env=variables,
                          capture_output=True, text=True)  # fmt: skip
    assert sent.returncode == 0, sent.stderr
    cluster.wait_until_empty(500)
    assert len(records(trained / "out")) == 1, (trained / "log.txt").read_text()
    assert_equal(trained, local)
