"""Submission, failure, status and collection on a real cluster."""

import json
import shutil
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slurm
CHAIN = "stage:chain"


def test_collected_records_equal_those_of_a_local_run(project, monkeypatch):
    local = project.root / "local"
    monkeypatch.setenv("UWM_CACHE", str(project.root / "another-cache"))
    assert project.run("--out", str(local))[0] == 0
    shutil.rmtree(project.root / "another-cache")
    monkeypatch.setenv("UWM_CACHE", str(project.root / "cache"))
    project.submit()
    project.finish()
    collected = project.root / "results" / "mini" / "toy"
    assert project.records(collected) == project.records(local)
    assert len(project.records(collected)) == 2
    assert (collected / "chain__numbers__s0.csv").read_bytes() == (
        local / "chain__numbers__s0.csv"
    ).read_bytes()


def test_cells_done_or_queued_are_not_submitted_again(project):
    again = ("--submit", "--site", str(project.site), "--set", "step_s=0.1")
    project.submit("--set", "step_s=0.1")
    assert "nothing to submit" in project.run(*again)[2]
    project.finish("--set", "step_s=0.1")
    assert "2 of 2 cells are already in " in project.run(*again)[2]
    assert project.steps() == list(range(1, 41))


def test_a_failed_cell_is_shown_with_its_traceback_and_the_others_go_on(project):
    settings = ("--set", "fail=cell")
    project.submit(*settings)
    project.cluster.wait_until_empty()
    assert project.states(*settings) == {
        CHAIN: "done",
        "chain/numbers/s0": "done",
        "chain/numbers/s1": "failed",
    }
    _, out, _ = project.run("--logs", "--json", *settings)
    (log,) = json.loads(out)
    assert log["item"] == "chain/numbers/s1"
    assert log["traceback"].rstrip().endswith("ValueError: this cell was told to fail")
    code, _, error = project.run("--collect", *settings)
    assert code == 1
    assert "missing: chain/numbers/s1: failed: ValueError: this cell was told to fail" in error


def test_two_jobs_on_one_stage_compute_it_once(project):
    settings = ("--set", "own_job=false", "step_s=0.05")
    project.submit(*settings)
    project.finish(*settings)
    assert project.steps() == list(range(1, 41))
    logs = "".join(path.read_text() for path in project.root.rglob("*_log.out"))
    assert "waiting for chain-" in logs


def test_jobs_run_the_code_that_was_submitted(project):
    project.cluster.call("scontrol", "update", "partitionname=low", "state=DOWN")
    try:
        project.submit()
        project.file.write_text("raise RuntimeError('edited after submission')\n")
    finally:
        project.cluster.call("scontrol", "update", "partitionname=low", "state=UP")
    project.cluster.wait_until_empty()
    shutil.copyfile(Path(__file__).with_name("toy.py"), project.file)
    assert set(project.states().values()) == {"done"}


def test_a_snapshot_that_was_changed_is_refused(project):
    project.cluster.call("scontrol", "update", "partitionname=low", "state=DOWN")
    try:
        project.submit("--set", "own_job=false", "seeds=1")
        (copy,) = project.root.glob("runs/mini/*/code-*/experiments/toy.py")
        copy.write_text(copy.read_text() + "# changed\n")
    finally:
        project.cluster.call("scontrol", "update", "partitionname=low", "state=UP")
    project.cluster.wait_until_empty()
    (row,) = project.rows("--set", "own_job=false", "seeds=1")
    assert row["state"] == "failed"
    assert "changed since submission" in row["error"]


def test_submission_from_inside_a_job(project):
    command = f"{sys.executable} {project.file} --submit --site {project.site}"
    script = project.root / "outer.sh"
    root = Path(__file__).resolve().parents[2]
    script.write_text(f"#!/bin/bash\nexport PYTHONPATH={root}\n{command} > {project.root}/outer.log 2>&1\n")
    project.cluster.call("sbatch", "--partition=low", "--ntasks=3", "--output=/dev/null", str(script))
    project.cluster.wait_until_empty()
    assert "toy-chain" in (project.root / "outer.log").read_text()
    project.finish()


def test_arrays_longer_than_the_site_allows_are_split(project):
    project.site.write_text('partition = "low"\nmax_array = 3\nmax_parallel = 2\n')
    settings = ("--set", "seeds=7")
    project.submit(*settings)
    lines = [
        json.loads(line)
        for path in project.root.rglob("jobs.jsonl")
        for line in path.read_text().splitlines()
    ]
    jobs = {line["job"].partition("_")[0] for line in lines if line["item"] != CHAIN}
    assert len(jobs) == 3  # 3 + 3 + 1 cells
    project.finish(*settings)
    assert len(project.records(next(project.root.glob("runs/mini/*/results")))) == 7


def test_the_site_is_asked_about_a_script(project):
    code, out, _ = project.run("--dry-run", "--check", "--site", str(project.site))
    assert code == 0
    assert "accepted: toy-chain" in out
    project.site.write_text('partition = "nowhere"\n')
    code, out, _ = project.run("--dry-run", "--check", "--site", str(project.site))
    assert code == 2
    assert "refused: toy-chain" in out
    assert "invalid partition" in out


def test_nothing_is_sent_where_the_site_refuses_a_later_job(project):
    project.site.write_text('partition = "low"\n[cells]\npartition = "nowhere"\n')
    code, _, error = project.run("--submit", "--site", str(project.site))
    assert code == 2
    assert error == "error: Slurm refused toy-cells: invalid partition specified: nowhere\n"
    assert project.cluster.call("squeue", "--noheader") == (0, "")
    assert not [*project.root.rglob("jobs.jsonl")]


def test_bad_input_is_one_line(project, monkeypatch):
    project.site.write_text('partition = "nowhere"\n')
    code, _, error = project.run("--submit", "--site", str(project.site))
    assert code == 2
    assert error == "error: Slurm refused toy-chain: invalid partition specified: nowhere\n"
    monkeypatch.setenv("UWM_RUNS", str(project.file))  # a file, not a folder
    code, _, error = project.run("--submit", "--site", str(project.site))
    assert code == 2
    assert error.startswith("error: cannot write into ")
    assert error.count("\n") == 1
    with monkeypatch.context() as patched:
        patched.setenv("PATH", "/nowhere")
        code, _, error = project.run("--submit", "--site", str(project.site))
    assert (code, error) == (
        2,
        "error: no sbatch on this machine: log in to the cluster, or leave out --submit\n",
    )
