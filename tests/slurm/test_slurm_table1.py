"""Table 1 at scale `smoke` on a cluster, by one process and by 2 nodes x 2: the numbers of a local run."""

import json
import shutil
from pathlib import Path

import pytest

from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]
TABLE1 = ROOT / "experiments" / "table1.py"
FOREIGN = ("UWM_WEIGHTS", "UWM_SITE")  # what whoever runs the tests may have set
OPTIONS = ("--scale", "smoke")
# The evaluation on two nodes, too: one rank measures, and the other waits.
SITE = """
partition = "low"
nodes = 2
[stages]
tasks_per_node = 2
[stages."pretrain-*"]
nodes = 1
tasks_per_node = 1
"""


def records(folder):
    return {path.name: {**json.loads(path.read_text()), "run": None} for path in folder.glob("*__*.json")}


def run(folder, *arguments, only="uwm/sim-ego"):
    """The command line with runs and cache in `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(folder).items():
            patch.setenv(name, value)
        for name in FOREIGN:
            patch.delenv(name, raising=False)
        return main(
            load_experiment(TABLE1), [*arguments, *OPTIONS, "--only", only, "--out", str(folder / "out")]
        )


def environment(folder):
    return {"UWM_RUNS": f"{folder}/runs", "UWM_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    assert run(folder) == 0
    assert len(records(folder / "out")) == 1
    return folder


@pytest.fixture(scope="module")
def submitted(cluster, tmp_path_factory):
    """The folder of the same run by the cluster."""
    folder = tmp_path_factory.mktemp("submitted")
    assert run(folder, "--submit") == 0
    cluster.wait_until_empty(500)
    return folder


@pytest.mark.slow
def test_collected_equals_the_local_run(submitted, local, capsys):
    folder = submitted
    assert run(folder, "--collect") == 0, capsys.readouterr()
    assert records(folder / "out") == records(local / "out")
    samples = [path for path in (local / "out/samples").rglob("*") if path.is_file()]
    assert {path.suffix for path in samples} == {".csv"}
    for path in samples:
        assert path.read_bytes() == (folder / "out" / path.relative_to(local / "out")).read_bytes()


def sent(folder, capsys, *arguments, only):
    """The jobs that a command line submits."""
    capsys.readouterr()
    assert run(folder, "--submit", *arguments, only=only) == 0
    error = capsys.readouterr().err
    return [line.partition(": ")[2] for line in error.splitlines() if line.endswith(" items)")]


@pytest.mark.slow
def test_a_finished_evaluation_is_not_sent_again(submitted, cluster, capsys):
    """Another cell of the same corpus is read off it; of another corpus the evaluation alone is missing."""
    folder = submitted
    assert sent(folder, capsys, only="uwm/sim-ego") == []
    (evaluation,) = folder.glob("cache/evaluation-sim-ego-*")
    before = (evaluation / "stage.json").stat().st_mtime_ns
    assert sent(folder, capsys, only="copy/sim-ego") == ["table1-cells (1 items)"]
    cluster.wait_until_empty(500)
    assert run(folder, "--collect", only="copy/sim-ego") == 0
    assert (evaluation / "stage.json").stat().st_mtime_ns == before
    cluster.call("scontrol", "update", "partitionname=low", "state=DOWN")
    try:
        again = "table1-evaluate-sim-ego (1 items)"
        other = "table1-evaluate-sim-third-person (1 items)"
        assert sent(folder, capsys, only="oracle/*") == [
            other,
            "table1-cells-0 (1 items)",
            "table1-cells-1 (1 items)",
        ]
        shutil.rmtree(evaluation)
        assert sent(folder, capsys, "--rerun", only="uwm/sim-ego") == [again, "table1-cells (1 items)"]
        assert run(folder, "--cancel", only="*") == 0
    finally:
        cluster.call("scontrol", "update", "partitionname=low", "state=UP")
    cluster.wait_until_empty()


def values(folder):
    (record,) = records(folder / "out").values()
    return {name: metric["value"] for name, metric in record["metrics"].items()}


@pytest.mark.slow
def test_two_nodes_of_two_processes_train_and_measure_the_same(cluster, local, tmp_path, capsys):
    site = tmp_path / "site.toml"
    site.write_text(SITE)
    assert run(tmp_path, "--submit", "--site", str(site)) == 0
    cluster.wait_until_empty(500)
    logs = "".join(path.read_text()[-2000:] for path in tmp_path.rglob("*_log.out"))
    assert run(tmp_path, "--collect") == 0, (capsys.readouterr(), logs)
    assert [*tmp_path.glob("cache/world-model-*")]
    assert values(tmp_path) == pytest.approx(values(local), rel=1e-3, abs=1e-5)
