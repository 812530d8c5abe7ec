"""`--collect`: what a run folder holds never takes the place of something better."""

import json
import shutil

import pytest

CELL = "uwm__ours__s0"


@pytest.fixture
def twice(project):
    """Records that were measured here, and the same ones in the run folder, as its jobs leave them."""
    project.run()
    (work,) = project.root.glob("runs/mini/toy-*")
    shutil.copytree(project.results, work / "results")
    return project


def change(project, run=(), **fields):
    """Change the record of a cell in the run folder, and its samples."""
    (folder,) = project.root.glob("runs/mini/toy-*/results")
    path = folder / f"{CELL}.json"
    record = json.loads(path.read_text())
    record |= {**fields, "run": {**record["run"], **dict(run)}}
    path.write_text(json.dumps(record, indent=1) + "\n")
    (folder / f"{CELL}.csv").write_text("other\n")


NOTHING = {"measures": {}, "metrics": {}, "samples": None}
WORSE = {
    "failed": {**NOTHING, "status": "failed", "error": "ValueError: it broke"},
    "skipped": {**NOTHING, "status": "skipped", "error": "SkipCell: no GPU"},
    "older": {"run": {"started_utc": "2001-01-01T00:00:00Z"}},
    "of other settings": {"config_digest": "0" * 16},
}


@pytest.mark.parametrize("why", WORSE)
def test_a_worse_record_does_not_replace_a_current_one(twice, why):
    change(twice, **WORSE[why])
    before = {path.name: path.read_bytes() for path in twice.results.iterdir()}
    code, _, error = twice.run("--collect")
    assert {path.name: path.read_bytes() for path in twice.results.iterdir()} == before
    assert [line for line in error.splitlines() if line.startswith("kept ")] == [
        f"kept the record with status ok in {twice.results}, for this run's is no better: uwm/ours/s0 ({why})"
    ]
    assert code == 0


def test_a_newer_one_does_and_any_replaces_one_of_other_settings(twice):
    change(twice, run={"started_utc": "2999-01-01T00:00:00Z"})
    assert twice.run("--collect")[0] == 0
    assert twice.record(CELL)["run"]["started_utc"].startswith("2999")
    assert (twice.results / f"{CELL}.csv").read_text() == "other\n"
    stale = {**twice.record(CELL), "config_digest": "0" * 16}
    (twice.results / f"{CELL}.json").write_text(json.dumps(stale))
    change(twice, **WORSE["failed"])
    assert "kept" not in twice.run("--collect")[2]
    assert twice.record(CELL)["status"] == "failed"


def test_a_file_that_is_no_record_is_not_replaced_either(twice):
    path = twice.results / f"{CELL}.json"
    path.write_text("of mine\n")
    before = {path.name: path.read_bytes() for path in twice.results.iterdir()}
    code, _, error = twice.run("--collect")
    assert (code, error.count("\n")) == (2, 1)
    assert f"{path} is there already" in error
    assert {path.name: path.read_bytes() for path in twice.results.iterdir()} == before
