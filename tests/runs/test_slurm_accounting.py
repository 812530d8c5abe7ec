"""GPU hours as Slurm's accounting tells them, on what `sacct` printed."""

import pytest

from uwm.runs.slurm import queue

# sacct -n -X -P -D -o JobID,ElapsedRaw,AllocTRES: a training that was requeued once, an array of two tasks, a
# job on CPUs, one that waits, one of another run.
RECORDED = """\
41|1800|billing=8,cpu=96,gres/gpu=8,gres/gpu:h100=8,mem=512G,node=1
41|5400|billing=8,cpu=96,gres/gpu=8,gres/gpu:h100=8,mem=512G,node=1
42_0|900|billing=1,cpu=12,gres/gpu=1,mem=64G,node=1
42_1|2700|billing=1,cpu=12,gres/gpu=1,mem=64G,node=1
43|3600|billing=4,cpu=4,mem=8G,node=1
44_[2-9%4]|0|
45|36000|billing=8,cpu=96,gres/gpu=8,node=1
"""


@pytest.fixture
def asked(monkeypatch):
    found = []

    def ask(*command, timeout_s=5.0):
        found.append(command)
        return RECORDED

    monkeypatch.setattr(queue, "ask", ask)
    return found


def test_every_attempt_of_the_runs_own_jobs_counts(asked):
    jobs = ["41", "42_0", "42_1", "43", "44_2"]
    assert queue.gpu_hours(jobs) == pytest.approx((1800 + 5400) * 8 / 3600 + (900 + 2700) / 3600)
    assert asked[0][0] == "sacct"
    assert asked[0][-1] == "41,42,43,44"


def test_tasks_of_an_array_that_are_not_ours_do_not_count(asked):
    assert queue.gpu_hours(["42_1"]) == pytest.approx(0.75)


def test_a_site_without_accounting_is_not_taken_for_zero(monkeypatch):
    monkeypatch.setattr(queue, "ask", lambda *_, **__: None)
    assert queue.gpu_hours(["41"]) is None
    assert queue.gpu_hours([]) is None


# The same where slurmdbd does not keep gres/gpu: AccountingStorageTRES names it at no such site.
UNTRACKED = """\
41|1800|billing=96,cpu=96,mem=512G,node=1
41|5400|billing=96,cpu=96,mem=512G,node=1
"""


def test_a_site_that_counts_no_gpus_is_not_taken_for_zero(project, monkeypatch):
    monkeypatch.setattr(queue, "ask", lambda *_, **__: UNTRACKED)
    assert queue.gpu_hours(["41"]) is None
    monkeypatch.setattr("uwm.runs.state.all_submitted", lambda folder: {"41"})
    assert "GPU hours" not in project.run("--status")[2]


def test_status_says_it(project, asked, monkeypatch):
    monkeypatch.setattr("uwm.runs.state.all_submitted", lambda folder: {"41"})
    assert "16.00 GPU hours so far, says sacct" in project.run("--status")[2]
