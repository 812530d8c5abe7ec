"""Nothing is lost: what a cluster may do to a job, and that the result is that of an undisturbed run."""

import hashlib
import json

import pytest

pytestmark = pytest.mark.slurm
STEPS = 40
SLOW = ("--set", f"steps={STEPS}", "step_s=0.1", "checkpoint_every=10", "seeds=1", "own_job=false")


def undisturbed(steps):
    value = ""
    for step in range(steps):
        value = hashlib.sha256(f"{value}{step}".encode()).hexdigest()
    return int(value[:6], 16)


def start(project, *settings, at_step):
    """Submit, and wait until the stage has taken some steps."""
    project.submit(*settings)
    cluster = project.cluster
    cluster.wait_for(lambda: len(project.steps()) >= at_step or not cluster.jobs(), what=f"step {at_step}")
    assert len(project.steps()) >= at_step, project.rows(*settings)


def repeated(project):
    """Steps that were taken again after the fault; every step must have been taken."""
    taken = project.steps()
    assert sorted(set(taken)) == list(range(1, STEPS + 1))
    return len(taken) - STEPS


def finish(project, *settings, fault):
    project.finish(*settings)
    (record,) = project.records(next(project.root.glob("runs/mini/*/results"))).values()
    assert record["metrics"]["value"]["value"] == undisturbed(STEPS)
    lost = repeated(project)
    print(f"{fault}: {lost} steps repeated")
    return lost


def job_of(project):
    (path,) = project.root.rglob("jobs.jsonl")
    return json.loads(path.read_text().splitlines()[0])["job"]


def attempts(project, *settings):
    return project.rows(*settings)[0]["attempts"]


@pytest.mark.slow
def test_preemption(project):
    start(project, *SLOW, at_step=13)
    both = ("--nodes=2", "--exclusive", "--wrap=sleep 1", "--output=/dev/null")
    assert project.cluster.call("sbatch", "--partition=high", *both)[0] == 0
    assert finish(project, *SLOW, fault="preemption") == 0
    assert attempts(project, *SLOW) == 2


@pytest.mark.slow
def test_warning_before_the_time_limit(project):
    start(project, *SLOW, at_step=13)
    project.cluster.call("scancel", "--signal=USR2", job_of(project))
    assert finish(project, *SLOW, fault="time limit") == 0
    assert attempts(project, *SLOW) == 2


@pytest.mark.slow
def test_the_time_limit_itself(project):
    """Slurm looks every 30 s which limits come near, so that a job of a minute is warned within 30 s."""
    project.site.write_text('partition = "low"\nhours = 0.0167\nsignal_delay_s = 50\n')
    settings = [word.replace("step_s=0.1", "step_s=0.8") for word in SLOW]
    project.submit(*settings)
    assert finish(project, *settings, fault="a real time limit") == 0
    assert attempts(project, *settings) >= 2


def test_a_job_without_attempts_left_is_a_timeout(project):
    project.site.write_text('partition = "low"\nhours = 0.1\nmax_attempts = 0\n')  # each USR2 is a time-out
    start(project, *SLOW, at_step=3)
    project.cluster.call("scancel", "--signal=USR2", job_of(project))
    project.cluster.wait_until_empty()
    (row,) = project.rows(*SLOW)
    assert row["state"] == "timeout"
    (record,) = project.records(next(project.root.glob("runs/mini/*/results"))).values()
    assert record["status"] == "timeout"


@pytest.mark.slow
def test_preemption_at_a_site_without_the_user_signal(project):
    start(project, *SLOW, at_step=13)
    job = job_of(project)
    project.cluster.call("scancel", "--signal=TERM", job)
    count = len(project.steps())
    project.cluster.call("scontrol", "requeue", job)
    assert finish(project, *SLOW, fault="requeue after SIGTERM alone") <= 1
    assert count < STEPS
    assert attempts(project, *SLOW) == 2


@pytest.mark.slow
def test_node_crash(project):
    slower = [word.replace("step_s=0.1", "step_s=0.3") for word in SLOW]
    start(project, *slower, at_step=3)
    node = project.rows(*slower)[0]["node"]  # to ask takes as long as some steps
    behind = range(3, 6)  # steps since the last checkpoint
    project.cluster.wait_for(lambda: len(project.steps()) % 10 in behind, what="steps after a checkpoint")
    project.cluster.crash(node)
    try:
        lost = finish(project, *slower, fault="node crash")
    finally:
        project.cluster.revive(node)
    assert 0 < lost < 10  # at most what was done since the last checkpoint
    assert attempts(project, *slower) == 2


def test_cancel_then_submit_again(project):
    start(project, *SLOW, at_step=13)
    assert project.run("--cancel", *SLOW)[0] == 0
    assert set(project.states(*SLOW).values()) == {"cancelled"}
    project.submit(*SLOW)  # at once, while the cancelled job is still ending
    assert finish(project, *SLOW, fault="cancel, then submit") == 0


def test_controller_restart(project):
    start(project, *SLOW, at_step=13)
    project.cluster.restart_controller()
    assert finish(project, *SLOW, fault="controller restart") == 0
    assert attempts(project, *SLOW) == 1
