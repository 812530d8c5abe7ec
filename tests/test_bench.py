"""The measuring tool for GPUs, on the CPU at scale smoke: one process, and two that exchange gradients."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.documents import ROOT
from uwm import bench
from uwm.errors import run_cli
from uwm.training.distributed import Ranks

CPU = torch.device("cpu")


def test_a_record_says_what_it_measured(tmp_path, capsys):
    out = tmp_path / "record.json"
    assert bench.main(["--scale", "smoke", "--steps", "2", "--out", str(out)]) == 0
    record = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == record
    assert (record["processes"], record["mfu"], record["nccl"]) == (1, None, None)
    per_step = record["milliseconds_per_step"] / 1e3
    assert record["pairs_per_second"] == pytest.approx(record["batch_size"] / per_step, rel=0.01)
    assert record["exchange"]["backend"] == "gloo"


@pytest.mark.slow
def test_two_processes_exchange_the_gradients_of_the_model(tmp_path):
    """By the command for the batch file, as slurm/README.md has it."""
    readme = (ROOT / "slurm" / "README.md").read_text()
    ((batch_file, words),) = re.findall(r"`sbatch (slurm/job\.sbatch) (-m uwm\.bench[^`]*)`", readme)
    small = ["--scale", "smoke", "--steps", "2", "--out", str(tmp_path / "record.json")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SLURM_GPUS_ON_NODE": "2"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = ["bash", batch_file, *words.split(), *small]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["processes"] == 2
    assert record["exchange"]["bus_gb_per_second"] > 0


def test_a_wrong_sum_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(bench.dist, "all_reduce", lambda values: values.add_(1))
    with pytest.raises(RuntimeError, match="gloo: rank 0 holds a wrong sum"):
        bench.time_exchange(8, Ranks(), CPU, tmp_path)
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_scale_paper_without_a_gpu_is_one_line(capsys):
    assert run_cli(lambda: bench.main([])) == 2
    assert capsys.readouterr().err == "error: no GPU here for scale paper; --scale smoke runs on a CPU\n"
