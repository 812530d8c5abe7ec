"""Trainings over 2 nodes x 2 ranks (gloo): the same numbers as one process, preemption, a rank that dies."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
SITE = 'partition = "low"\nhours = 1\n[stages]\nnodes = 2\ntasks_per_node = 2\n'


@pytest.fixture
def ddp(project):
    project.file = project.root / "experiments" / "ddp.py"
    shutil.copyfile(Path(__file__).with_name("ddp.py"), project.file)
    project.site.write_text(SITE)
    return project


def weights(folder):
    record = json.loads((folder / "regression__numbers.json").read_text())
    return [metric["value"] for metric in record["metrics"].values()]


@pytest.mark.slow
def test_two_nodes_with_a_preemption_and_a_cut_checkpoint_equal_one_process(ddp, monkeypatch):
    """The checkpoint of the preemption is cut short before the job is back, and the one before serves."""
    settings = ("--set", "step_s=0.1", "steps=40")
    ddp.submit(*settings)
    logs = lambda: [*ddp.root.glob("cache/regression-*.partial/log.jsonl")]  # noqa: E731
    ddp.cluster.wait_for(lambda: logs() and len(logs()[0].read_text().splitlines()) >= 12, what="12 steps")
    job = json.loads(next(ddp.root.rglob("jobs.jsonl")).read_text().splitlines()[0])["job"]
    running = {row["item"]: row for row in ddp.rows(*settings)}["stage:regression"]
    ddp.cluster.call("scontrol", "update", "partitionname=low", "state=DOWN")
    try:
        ddp.cluster.call("scancel", "--signal=USR2", job)
        ddp.cluster.wait_for(lambda: ddp.cluster.jobs()[job] == "PENDING", what="the requeued job")
        (earlier, newest) = sorted(ddp.root.glob("cache/regression-*.partial/checkpoints/*.pt"))
        assert int(earlier.name.split("-")[1]) % 10 == 0  # of the training itself
        os.truncate(newest, newest.stat().st_size // 2)
    finally:
        ddp.cluster.call("scontrol", "update", "partitionname=low", "state=UP")
    assert re.match(r"step \d+( of 40)?, loss \d", running["progress"])
    assert running["elapsed_s"] >= 0
    assert running["node"] == "n[1-2]"
    assert Path(running["log"]).is_file()
    ddp.finish(*settings)
    rows = {row["item"]: row for row in ddp.rows(*settings)}
    assert rows["stage:regression"]["attempts"] == 2
    (log,) = ddp.root.glob("cache/regression-*/log.jsonl")
    assert sum("loss" in json.loads(line) for line in log.read_text().splitlines()) == 40
    told = "".join(path.read_text() for path in ddp.root.rglob("*_0_log.out"))
    assert f"passing over checkpoint {newest}" in told
    monkeypatch.setenv("UWM_CACHE", str(ddp.root / "another-cache"))
    assert ddp.run("--set", "steps=40", "--out", str(ddp.root / "alone"))[0] == 0
    alone = weights(ddp.root / "alone")
    assert weights(next(ddp.root.glob("runs/mini/ddp-*/results"))) == pytest.approx(alone, abs=1e-5)


@pytest.mark.slow
def test_one_dead_rank_ends_the_job_and_its_traceback_is_shown(ddp):
    settings = ("--set", "fail_rank=1")
    ddp.site.write_text(SITE.replace("tasks_per_node = 2", "tasks_per_node = 1"))
    ddp.submit(*settings)
    ddp.cluster.wait_until_empty()
    rows = {row["item"]: row for row in ddp.rows(*settings)}
    assert rows["stage:regression"]["state"] == "failed"
    assert rows["stage:regression"]["error"] == "ArithmeticError: rank 1 was told to die"
    logs = json.loads(ddp.run("--logs", "--json", *settings)[1])
    assert "told to die" in logs[0]["traceback"]


@pytest.mark.slow
def test_the_batch_file_goes_on_after_its_warning(ddp):
    """slurm/job.sbatch, two processes of torchrun: warned as before its time limit, requeued, resumed."""
    words = ("--set", "step_s=0.1", "steps=20", "--out", str(ddp.root / "out"))
    asked = ("--partition=low", "--gpus-per-node=2", "--cpus-per-task=2", "--time=20", "--chdir", str(ROOT),
             f"--output={ddp.root}/log.txt", f"--export=ALL,PATH={PATH},PYTHONPATH={ROOT}")  # fmt: skip
    code, sent = ddp.cluster.call(
        "sbatch", "--parsable", *asked, f"{ROOT}/slurm/job.sbatch", str(ddp.file), *words
    )
    assert code == 0, sent
    logs = lambda: [*ddp.root.glob("cache/regression-*.partial/log.jsonl")]  # noqa: E731
    ddp.cluster.wait_for(lambda: logs() and len(logs()[0].read_text().splitlines()) >= 4, what="four steps")
    ddp.cluster.call("scancel", "--batch", "--signal=USR2", sent.strip())
    ddp.cluster.wait_until_empty()
    (log,) = ddp.root.glob("cache/regression-*/log.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 21))
    assert "Restarts=1" in ddp.cluster.call("scontrol", "show", "job", sent.strip())[1]
    assert [path.name for path in (ddp.root / "out").glob("*.json")] == ["regression__numbers.json"]
