"""`python experiments/table1.py --submit --scale smoke`, collected, equals the local run."""

import json
from pathlib import Path

import pytest

from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment

pytestmark = pytest.mark.slurm
TABLE1 = Path(__file__).resolve().parents[2] / "experiments" / "table1.py"


def records(folder):
    return {path.name: {**json.loads(path.read_text()), "run": None} for path in folder.glob("*__*.json")}


def test_table1_collected_equals_the_local_run(cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("UWM_WEIGHTS", raising=False)
    monkeypatch.delenv("UWM_SITE", raising=False)
    experiment = load_experiment(TABLE1)
    options = ("--scale", "smoke", "--only", "uwm")
    for name in ("local", "collected"):
        monkeypatch.setenv("UWM_RUNS", str(tmp_path / name / "runs"))
        monkeypatch.setenv("UWM_CACHE", str(tmp_path / name / "cache"))
        out = ("--out", str(tmp_path / name / "out"))
        if name == "local":
            assert main(experiment, [*options, *out]) == 0
            continue
        assert main(experiment, ["--submit", *options, *out]) == 0
        cluster.wait_until_empty(500)
        assert main(experiment, ["--collect", *options, *out]) == 0, capsys.readouterr()
    local, collected = records(tmp_path / "local/out"), records(tmp_path / "collected/out")
    assert len(local) == 2
    assert local == collected
    for path in (tmp_path / "local/out/samples").iterdir():
        assert path.read_bytes() == (tmp_path / "collected/out/samples" / path.name).read_bytes()
