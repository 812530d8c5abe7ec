"""Faults around a job rather than in it: signals at its start, a controller away at the wrong time, set-up
lines that fail, stages that fail beside others, jobs packed together."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.test_slurm_faults import SLOW, STEPS, attempts, finish, job_of, start

pytestmark = pytest.mark.slurm
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scontrol(project, monkeypatch):
    """An `scontrol` of the jobs that fails as long as the returned file is there."""
    folder, broken = project.root / "bin", project.root / "controller-away"
    folder.mkdir()
    real = project.cluster.call("which", "scontrol")[1].strip()
    path = folder / "scontrol"
    path.write_text(f'#!/bin/sh\n[ -e {broken} ] && exit 1\nexec {real} "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return broken


@pytest.mark.slow
def test_a_requeue_that_fails_is_asked_for_again(project, scontrol):
    start(project, *SLOW, at_step=13)
    scontrol.touch()
    project.cluster.call("scancel", "--signal=USR2", job_of(project))
    project.cluster.wait_for(lambda: "scontrol requeue failed" in logs(project), what="the failing requeue")
    assert set(project.states(*SLOW).values()) == {"running"}
    scontrol.unlink()
    assert finish(project, *SLOW, fault="scontrol fails at the warning") == 0
    assert attempts(project, *SLOW) == 2


@pytest.mark.slow
def test_without_scontrol_the_job_waits_for_its_preemption(project, scontrol):
    start(project, *SLOW, at_step=13)
    scontrol.touch()
    job = job_of(project)
    project.cluster.call("scancel", "--signal=USR2", job)
    project.cluster.wait_for(lambda: "scontrol requeue failed" in logs(project), what="the failing requeue")
    os.rename(scontrol, scontrol.with_name("gone"))
    project.cluster.call("scontrol", "requeue", job)  # as Slurm itself does at a preemption
    assert finish(project, *SLOW, fault="no scontrol on the node, preemption") == 0


@pytest.mark.slow
def test_in_a_container_without_scontrol_the_batch_script_requeues_its_task_alone(project):
    """Of an array of two: the task whose id is that of the whole array."""
    project.site.write_text('partition = "low"\nhours = 1\nlauncher = "env PATH=/nowhere"\n')
    settings = (*SLOW, "chains=2")
    project.submit(*settings)
    taken = lambda: [path.read_text().split() for path in project.root.rglob("steps.log")]  # noqa: E731
    project.cluster.wait_for(lambda: sum(len(steps) >= 13 for steps in taken()) == 2, what="step 13")
    rows = [
        line.split() for line in project.cluster.call("squeue", "-h", "-r", "-o", "%i %A %F")[1].splitlines()
    ]
    (task,) = (name for name, job, array in rows if job == array)
    project.cluster.call("scancel", "--signal=USR2", task)
    project.finish(*settings)
    assert taken() == [[str(step) for step in range(1, STEPS + 1)]] * 2
    assert {row["job"]: row["attempts"] for row in project.rows(*settings)} == {
        name: 1 + (name == task) for name, _, _ in rows
    }


@pytest.mark.slow
def test_signals_before_python_listens_are_kept(project):
    slow, mark = project.root / "slow.py", project.root / "started"
    slow.write_text(f"import os, sys, time; open({str(mark)!r}, 'w'); time.sleep(2)\n"
                    "os.execv(sys.argv[1], sys.argv[1:])\n")  # fmt: skip
    project.site.write_text(f'partition = "low"\nhours = 1\nlauncher = "{sys.executable} {slow}"\n')
    project.submit(*SLOW)
    project.cluster.wait_for(mark.exists, what="the launcher")
    project.cluster.call("scancel", "--signal=USR2", job_of(project))
    assert finish(project, *SLOW, fault="a warning before Python listens") == 0
    assert attempts(project, *SLOW) == 2


def logs(project):
    return "".join(path.read_text() for path in project.root.rglob("*_log.out"))


def test_a_failing_set_up_line_ends_the_job_and_is_shown(project):
    project.site.write_text('partition = "low"\nmodules = ["cuda/99"]\nsetup = ["echo not reached"]\n')
    project.submit()
    project.cluster.wait_until_empty()
    rows = {row["item"]: row for row in project.rows()}
    assert (rows["stage:chain"]["state"], rows["stage:chain"]["exit_code"]) == ("lost", "127:0")
    out = project.run("--logs")[1]
    assert "== stage:chain: lost, exit code 127:0; log " in out
    assert "no result; Slurm says FAILED (NonZeroExitCode), exit code 127:0" in out
    assert "uwm: set-up failed with code 127 at: module load cuda/99" in out
    assert "not reached" not in out
    assert "a job that it waited for failed" in out


def test_a_job_that_was_killed_before_python_began_has_a_log(project):
    project.site.write_text('partition = "low"\nlauncher = "sh -c \'echo about to die; kill -9 $$\'"\n')
    project.submit()
    project.cluster.wait_until_empty()
    out = project.run("--logs")[1]
    assert "stage:chain: lost, exit code" in out
    assert "about to die" in out


def test_a_failed_stage_takes_down_only_what_needs_it(project):
    settings = ("--set", "chains=3", "fail_chain=1", "seeds=1")
    project.submit(*settings)
    project.cluster.wait_until_empty()
    rows = {row["item"]: row for row in project.rows(*settings)}
    assert {item: row["state"] for item, row in rows.items()} == {
        "stage:chain-0": "done", "stage:chain-1": "failed", "stage:chain-2": "done",
        "chain/numbers-0/s0": "done", "chain/numbers-1/s0": "cancelled", "chain/numbers-2/s0": "done",
    }  # fmt: skip
    assert rows["stage:chain-1"]["error"] == "ValueError: the stage was told to fail"
    assert rows["chain/numbers-1/s0"]["error"] == "a job that it waited for failed"
    code, _, error = project.run("--submit", "--site", str(project.site), *settings)
    assert code == 0
    sent = [line.partition(": ")[2] for line in error.splitlines() if "items)" in line]
    assert sent == ["toy-chain-1 (1 items)", "toy-cells (1 items)"]  # exactly what is missing


def test_only_what_is_asked_for_waits_for_its_stages(project):
    settings = ("--set", "chains=3", "fail_chain=1", "seeds=1", "--only", "*/numbers-2")
    assert project.run("--submit", "--wait", "--site", str(project.site), *settings)[0] == 0
    assert project.states(*settings) == {"stage:chain-2": "done", "chain/numbers-2/s0": "done"}


def test_a_submit_limit_is_met_in_waves(project):
    project.site.write_text('partition = "low"\nmax_submit = 2\n')
    settings = ("--set", "seeds=4")
    code, _, error = project.run("--submit", "--wait", "--site", str(project.site), *settings)
    assert code == 0
    assert "3 items remain, for the site takes no more jobs now" in error
    assert set(project.states(*settings).values()) == {"done"}
    assert project.steps() == list(range(1, 41))


def test_two_submits_at_once_send_everything_once(project):
    command = [
        sys.executable,
        str(project.file),
        "--submit",
        "--site",
        str(project.site),
        "--set",
        "step_s=0.1",
    ]
    pair = [subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}) for _ in range(2)]
    assert [process.wait(120) for process in pair] == [0, 0]
    assert len(project.cluster.jobs()) == 3  # the stage and two cells
    project.finish("--set", "step_s=0.1")
    assert project.steps() == list(range(1, 41))


def test_jobs_of_a_deleted_run_folder_are_found_and_ended(project):
    start(project, *SLOW, at_step=3)
    shutil.rmtree(project.root / "runs")
    code, _, error = project.run("--submit", "--site", str(project.site), *SLOW)
    assert code == 2
    assert "does not know them (was it deleted?)" in error
    assert "does not know them (was it deleted?)" in project.run("--status", *SLOW)[2]
    assert project.run("--cancel", *SLOW)[2] == "cancelled 1 jobs\n"
    project.cluster.wait_until_empty()


def test_packed_cells_share_a_job_and_a_failed_one_stops_no_other(project):
    project.site.write_text('partition = "low"\n[cells]\ncells_per_job = 3\n')
    settings = ("--set", "seeds=5", "fail=cell")
    project.submit(*settings)
    assert project.run("--wait", *settings)[0] == 1
    states = project.states(*settings)
    assert states.pop("chain/numbers/s1") == "failed"
    assert set(states.values()) == {"done"}
    jobs = [json.loads(line) for line in next(project.root.rglob("jobs.jsonl")).read_text().splitlines()]
    assert len({line["job"] for line in jobs if line["item"].startswith("chain/")}) == 2
    assert project.run("--submit", "--site", str(project.site), *settings)[2].count("(1 items)") == 1


@pytest.mark.slow
def test_a_packed_job_goes_on_where_its_attempt_ended(project):
    project.site.write_text('partition = "low"\n[cells]\ncells_per_job = 10\n')
    settings = ("--set", "seeds=10", "cell_s=0.3")
    project.submit(*settings)
    done = lambda: len([*project.root.glob("runs/mini/*/results/*.json")])  # noqa: E731
    project.cluster.wait_for(lambda: done() >= 3, what="three cells")
    job = [json.loads(line) for line in next(project.root.rglob("jobs.jsonl")).read_text().splitlines()][-1]
    project.cluster.call("scancel", "--signal=USR2", job["job"])
    project.finish(*settings)
    attempts = {row["item"]: row["attempts"] for row in project.rows(*settings)}
    assert set(attempts.values()) == {1}  # no cell twice


def test_follow_prints_each_change_after_a_submission_too(project):
    words = ("--follow", "--set", "seeds=1")
    for arguments in (("--submit", "--site", str(project.site), *words), words):
        code, out, _ = project.run(*arguments)
        assert code == 0
        assert [line.split()[1:3] for line in out.splitlines()][-1] == ["chain/numbers/s0", "done"]
