"""Cells that are measured again: what is older than its job counts for nothing; stages that are lost."""

import json
import time
from types import SimpleNamespace

import pytest

from tests.runs.fake_slurm import SITE, fake_slurm, items, rows, site  # noqa: F401 (two fixtures)
from uwm.runs import state
from uwm.runs.record import file_stem


def test_current_records_are_named_and_can_be_measured_again(project, fake_slurm, site):  # noqa: F811
    assert project.run()[0] == 0
    code, _, error = project.run("--submit", "--site", str(site))
    assert code == 0
    assert "3 of 3 cells are already in results/mini/toy; --rerun measures them again" in error
    assert fake_slurm.scripts == []
    planned = project.run("--dry-run", "--site", str(site))[2]
    assert planned == error
    assert "that would be 1 jobs" in planned
    code, out, told = project.run("--dry-run", "--json", "--site", str(site))
    assert (code, json.loads(out)["jobs"], told) == (0, [], error)
    assert "--rerun" not in project.run("--dry-run", "--rerun", "--site", str(site))[2]
    assert {row["state"] for row in rows(project)} == {"done"}
    assert project.run("--submit", "--rerun", "--site", str(site))[0] == 0
    assert items(project) == ["copy/ours", "uwm/ours/s0", "uwm/ours/s1"]


@pytest.fixture
def measured(project, fake_slurm, site):  # noqa: F811
    """A project whose records and stage are an hour old."""
    assert project.run()[0] == 0
    for path in project.results.glob("*.json"):
        content = json.loads(path.read_text())
        path.write_text(
            json.dumps(content | {"run": content["run"] | {"started_utc": "2020-01-01T00:00:00Z"}})
        )
    return project


def at_the_end(project, fake_slurm, monkeypatch, then, *words):  # noqa: F811
    """The code and last line of `--submit --wait`. `then()` is done in place of the first waiting."""
    todo = [then]

    def sleep(_):
        (todo.pop() if todo else fake_slurm.finish)()

    monkeypatch.setattr("uwm.runs.report.time", SimpleNamespace(sleep=sleep))
    code, _, error = project.run("--submit", "--wait", *words)
    return code, error.splitlines()[-1]


def test_jobs_that_vanish_leave_old_records_that_count_for_nothing(measured, fake_slurm, site, monkeypatch):  # noqa: F811
    words = ("--rerun", "--site", str(site))
    assert at_the_end(measured, fake_slurm, monkeypatch, fake_slurm.finish, *words) == (1, "3 lost")
    assert {row["state"] for row in rows(measured)} == {"lost"}
    assert {row["error"] for row in rows(measured)} == {"lost; its record is older than this job"}
    assert measured.run("--wait")[0] == 1
    assert measured.run()[0] == 0  # here, and so newer than the jobs
    assert {row["state"] for row in rows(measured)} == {"done"}


def test_old_traces_count_for_nothing_either(measured, fake_slurm, site):  # noqa: F811
    """A stage whose artifact's name is not known, and a cell's traceback, from before their jobs."""
    assert measured.run("--submit", "--rerun", "--site", str(site))[0] == 0
    fake_slurm.finish()
    (work,) = measured.root.glob("runs/mini/toy-*")
    now, copy = time.time(), {"job": "1_0", "machine": "m", "pid": 1, "node": "n1"}
    job = {"item": "stage:other", "job": "7", "folder": str(work / "jobs"), "time": now, "gpus": 0}
    state.append_line(work / "jobs.jsonl", job)

    def trace(item, age, job, outcome):
        start = {"event": "start", "time": now - age, **copy, "job": job}
        state.append_line(work / "state" / f"{file_stem(item)}.jsonl", start)
        end = {"event": "end", "time": now - age, "outcome": outcome, "error": None}
        state.append_line(work / "state" / f"{file_stem(item)}.jsonl", end)

    def told(item):
        (row,) = (row for row in rows(measured) if row["item"] == item)
        return row["state"], row["error"]

    (work / "logs").mkdir()
    log = work / "logs" / "copy__ours.rank0.txt"
    for item, outcome in (("stage:other", "ok"), ("uwm/ours/s0", "ok"), ("uwm/ours/s1", "skipped")):
        trace(item, 60, "3", outcome)
    log.write_text(f"{now - 60:.6f} 3 rank 0 on n1\nValueError: old\n")
    assert told("stage:other")[0] == told("uwm/ours/s0")[0] == told("uwm/ours/s1")[0] == "lost"
    assert told("copy/ours")[0] == "lost"
    assert "ValueError: old" not in measured.run("--logs")[1]
    # What the jobs themselves left counts, though their node's clock is a minute behind.
    for item, job, outcome in (
        ("stage:other", "7", "ok"),
        ("uwm/ours/s0", "1_1", "ok"),
        ("uwm/ours/s1", "1_2", "skipped"),
    ):
        trace(item, 60, job, outcome)
    log.write_text(f"{now - 60:.6f} 1_0 rank 0 on n1\nValueError: new\n")
    assert (told("stage:other")[0], told("uwm/ours/s0")[0]) == ("done", "done")
    assert told("uwm/ours/s1")[0] == "skipped"
    assert told("copy/ours") == ("failed", "ValueError: new; its record is older than this job")


def test_what_a_limit_left_of_a_rerun_is_sent_in_the_next_wave(measured, fake_slurm, site, monkeypatch):  # noqa: F811
    site.write_text(SITE + "max_submit = 2\n")
    words = ("--rerun", "--site", str(site))
    assert at_the_end(measured, fake_slurm, monkeypatch, fake_slurm.finish, *words) == (1, "3 lost")
    assert items(measured) == ["copy/ours", "uwm/ours/s0", "uwm/ours/s1"]


OTHER = 'StageJob("other", train, lambda context: Stage("other", 1, {}), cells=("uwm/*",))'


def declare_stages(project, *jobs):
    """Other stages in the experiment's file."""
    text = project.file.read_text()
    start, end = text.index('        StageJob("weights"'), text.index("    ],\n)")
    project.file.write_text(text[:start] + ", ".join(jobs) + text[end:])


def test_to_wait_for_some_cells_is_not_to_wait_for_others_stages(project, fake_slurm, site, monkeypatch):  # noqa: F811
    declare_stages(project, 'StageJob("weights", train, weights_stage, cells=("copy",))', OTHER)
    assert project.run("--submit", "--only", "uwm", "--site", str(site))[0] == 0
    fake_slurm.finish()  # `other` is lost

    def measure():
        fake_slurm.finish()
        assert project.run("--only", "copy")[0] == 0

    words = ("--only", "copy", "--site", str(site))
    assert at_the_end(project, fake_slurm, monkeypatch, measure, *words) == (0, "2 done")
    assert items(project)[-2:] == ["stage:weights", "copy/ours"]


def test_a_lost_stage_concerns_the_cells_that_read_it(project, fake_slurm, site, tmp_path):  # noqa: F811
    """`copy` reads the stages `weights` and, through it, `root`; `other` is read by `uwm` alone."""
    declare_stages(
        project,
        'StageJob("root", train, cells=())',
        'StageJob("weights", train, weights_stage, needs=("root",), cells=("copy",))',
        OTHER,
    )
    assert project.run("--submit", "--site", str(site))[0] == 0
    fake_slurm.finish()
    assert project.run()[0] == 0  # the cells are done here, after the jobs, and so is `weights`

    def seen(*words):
        code, out, _ = project.run("--status", "--json", *words)
        assert code == 0
        return {row["item"]: row["state"] for row in json.loads(out)}

    every = {"stage:root": "lost", "stage:weights": "done", "stage:other": "lost"}
    assert seen() == every | dict.fromkeys(("copy/ours", "uwm/ours/s0", "uwm/ours/s1"), "done")
    assert seen("--only", "copy") == {"stage:root": "lost", "stage:weights": "done", "copy/ours": "done"}
    assert seen("--only", "uwm/ours/s0") == {"stage:other": "lost", "uwm/ours/s0": "done"}
    (listing,) = project.root.glob("runs/mini/toy-*/run.json")
    content = json.loads(listing.read_text())
    assert content["readers"] == {"root": ["copy"], "weights": ["copy"], "other": ["uwm/*"]}
    done = content | {"readers": content["readers"] | {"root": ["uwm/*"]}}
    listing.write_text(json.dumps(done))
    assert project.run("--wait", "--only", "copy")[0] == 0
    listing.write_text(json.dumps({key: value for key, value in content.items() if key != "readers"}))
    assert seen("--only", "copy").keys() == {*every, "copy/ours"}  # an older listing does not tell
