"""The command line of an experiment, run locally."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uwm.data.bad_clips import allowed_bad_share
from uwm.runs.cli import choose
from uwm.runs.experiment import Cell
from uwm.runs.record import record_problems

ROOT = Path(__file__).resolve().parents[2]
MEASURED = [f"uwm/{corpus}/s{seed}" for corpus in ("ours", "own") for seed in (0, 1)]


def test_a_run_writes_valid_records_and_prints_the_table(project):
    code, out, _ = project.run()
    assert code == 0
    assert out == "copy/ours ok\nuwm/ours/s0 ok\nuwm/ours/s1 ok\n"
    paths = sorted(project.results.glob("*.json"))
    assert [path.stem for path in paths] == ["copy__ours", "uwm__ours__s0", "uwm__ours__s1"]
    assert [problem for path in paths for problem in record_problems(path)] == []
    record = project.record("uwm__ours__s0")
    assert record["metrics"]["error"] == {
        "value": 3.33333, "n": 3, "better": "lower", "ci": [1.66667, 6.66667], "protocol": "toy",
    }  # fmt: skip
    assert record["inputs"]["stages"]["weights"]["origin"] == "trained"
    assert str(project.root) not in json.dumps(record)


def test_the_same_command_gives_the_same_record_apart_from_run(project):
    project.run()
    first = project.record("uwm__ours__s0")
    project.run()
    second = project.record("uwm__ours__s0")
    assert first.pop("run").keys() == second.pop("run").keys()
    assert first == second
    assert list(first) == list(second)


def test_a_stage_and_the_records_that_rest_on_it_name_the_same_code(project):
    assert project.run()[0] == 0
    (path,) = project.root.glob("cache/weights-*/stage.json")
    codes = [json.loads(record.read_text())["code"] for record in project.results.glob("*.json")]
    assert json.loads(path.read_text())["code"]["experiment_blob"]
    assert all(code == json.loads(path.read_text())["code"] for code in codes)


def test_processes_give_the_same_records_as_one(project, tmp_path):
    project.run("--out", str(tmp_path / "one"))
    project.run("--out", str(tmp_path / "two"), "--jobs", "2")
    for name in ("copy__ours", "uwm__ours__s0"):
        one, two = project.record(name, tmp_path / "one"), project.record(name, tmp_path / "two")
        assert {**one, "run": None} == {**two, "run": None}


def test_a_process_takes_cell_after_cell(project):
    project.run("--jobs", "2")
    processes = [path.read_text() for path in project.root.glob("runs/mini/toy-*/process-of-*")]
    assert len(processes) == 3
    assert len(set(processes)) <= 2
    assert str(os.getpid()) not in processes


def test_processes_share_the_parts_of_a_cell_which_comes_after_them(project):
    """Also where one fails: the cell does itself what it does not find. One process needs no parts."""
    code, *_ = project.run("--only", "uwm/ours/s0", "--jobs", "3")
    (work,) = project.root.glob("runs/mini/toy-*")
    assert (code, (work / "parts-of-uwm__ours__s0").read_text()) == (0, "abc")
    processes = {path.read_text() for path in work.glob("part-*")}
    assert str(os.getpid()) not in processes
    code, *_ = project.run("--only", "uwm/ours/s1", "--jobs", "2", "--set", "fault=part")
    (found,) = project.root.glob("runs/mini/toy-*/parts-of-uwm__ours__s1")
    assert (code, found.read_text() in ("a", "ac")) == (0, True)  # another may have begun with c
    project.run("--only", "uwm/ours/s1")
    assert not list(work.glob("part-uwm__ours__s1-*"))


def test_the_cells_after_a_killed_one_go_on_in_another_process(project):
    code, _, error = project.run("--set", "fault=killed", "--jobs", "2")
    assert code == 1
    assert "failed: copy/ours: its process ended with code -9\n" in error
    (folder,) = project.root.glob("runs/mini/toy-*/results")
    assert [project.record(f"uwm__ours__s{seed}", folder)["status"] for seed in (0, 1)] == ["ok", "ok"]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_failed_cell_is_a_status_and_the_others_go_on(project, jobs):
    settings = ("--set", "fault=error")
    code, _, error = project.run(*settings, "--jobs", jobs)
    assert code == 1
    assert error.endswith("failed: copy/ours: ValueError: it broke\n")
    (folder,) = project.root.glob("runs/mini/toy-*/results")
    failed = project.record("copy__ours", folder)
    assert (failed["status"], failed["error"], failed["metrics"]) == ("failed", "ValueError: it broke", {})
    assert project.record("uwm__ours__s1", folder)["status"] == "ok"
    assert not project.results.exists()
    rows = {row["item"]: row for row in json.loads(project.run("--status", "--json", *settings)[1])}
    assert rows["copy/ours"]["state"] == "failed"
    assert rows["uwm/ours/s0"]["state"] == "done"
    assert "Traceback" in project.run("--logs", *settings)[1]


def test_a_number_that_is_none_is_a_failure(project):
    code, _, _ = project.run("--set", "fault=nan", "--only", "uwm/ours/s0")
    (folder,) = project.root.glob("runs/mini/toy-*/results")
    record = project.record("uwm__ours__s0", folder)
    assert (code, record["status"], record["metrics"]) == (1, "failed", {})


def test_a_skipped_cell_says_why(project):
    assert project.run("--set", "fault=skip")[0] == 0
    (folder,) = project.root.glob("runs/mini/toy-*/results")
    assert project.record("copy__ours", folder)["error"] == "SkipCell: no GPU"


@pytest.mark.parametrize("how", [["--dry-run"], ["--only", "uwm/ours/s0", "copy"]])
def test_what_lacks_and_what_will_be_skipped_is_said_first(project, how):
    code, out, err = project.run(*how, "--set", "fault=no weights")
    assert (code, out, err.splitlines()[-1]) == (2, "", "error: no weights")
    code, _, err = project.run(*how, "--set", "fault=other weights")
    assert (code, err.splitlines()[0]) == (0, "warning: other weights")
    code, _, err = project.run(*how, "--set", "fault=skip")
    assert (code, err.splitlines()[0]) == (0, "will be skipped, no GPU: copy/ours")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_bad_input_in_a_cell_takes_no_other_away(project, tmp_path, jobs):
    """Also where several cells find it: the table of the others, then one line."""
    (tmp_path / "own").mkdir()
    settings = ("--set", "fault=input", "--data", f"own={tmp_path / 'own'}")
    code, out, error = project.run(*settings, "--jobs", jobs)
    assert code == 2
    assert out.split() == [word for cell in MEASURED for word in (cell, "ok")]
    assert error.splitlines()[-1] == "error: copy/ours, copy/own: no video"
    rows = {row["item"]: row for row in json.loads(project.run("--status", "--json", *settings)[1])}
    assert rows["copy/ours"]["state"] == "failed"
    assert rows["copy/ours"]["error"] == "uwm.errors.UserError: no video"


def test_bad_input_in_every_cell_is_the_line_alone(project):
    code, _, error = project.run("--set", "fault=input", "--only", "copy")
    assert (code, error.splitlines()[-1]) == (2, "error: no video")
    assert error.count("error: ") == 1


@pytest.mark.slow
def test_bad_input_takes_no_other_cell_from_two_ranks(project):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [*command, str(project.file), "--set", "fault=input"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1  # torchrun's own
    assert done.stdout.split() == ["uwm/ours/s0", "ok", "uwm/ours/s1", "ok"]
    assert "error: copy/ours: no video\n" in done.stderr


def test_bad_input_leaves_an_unfinished_recompute(project):
    settings = ("--set", "fault=input", "--recompute")
    assert project.run(*settings)[0] == 2
    assert "going on with the unfinished --recompute" in project.run(*settings)[2]


def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_and_goes_on_later(project):
    settings = ("--set", "fault=slow", "--only", "uwm/ours/s0")
    process = project.start(*settings)
    while not list(project.root.glob("cache/*.partial/busy.txt")):
        time.sleep(0.05)
    (row,) = [
        row for row in json.loads(project.run("--status", "--json", *settings)[1]) if "/" in row["item"]
    ]
    assert row["state"] == "running"
    process.terminate()
    process.communicate()
    assert process.returncode == 143
    assert not list(project.root.glob("runs/mini/*/results/*.json"))
    assert project.run(*settings)[0] == 0
    (folder,) = project.root.glob("runs/mini/toy-*/results")
    assert project.record("uwm__ours__s0", folder)["status"] == "ok"
    assert len(list(project.root.glob("cache/weights-*/half.txt"))) == 1


def test_the_share_of_bad_clips_goes_with_the_plan_and_changes_no_identity(project, monkeypatch):
    monkeypatch.setenv("UWM_MAX_BAD_SHARE", "0.1")
    project.run("--only", "copy")
    digest = project.record("copy__ours")["config_digest"]
    code, _, _ = project.run("--only", "copy", "--max-bad-share", "0.5")
    assert code == 0
    assert allowed_bad_share() == 0.5
    assert project.record("copy__ours")["config_digest"] == digest
    assert project.run("--max-bad-share", "2")[0] == 2


def test_missing_runs_only_what_has_no_current_record(project):
    project.run("--only", "copy")
    assert [line for line in project.run("--missing")[2].splitlines() if line.startswith("[")] == [
        "[1/2] uwm/ours/s0",
        "[2/2] uwm/ours/s1",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "uvm/ours/s0"], "--only uvm/ours/s0: no such cell; did you mean 'uwm/ours/s0'?"),
        (["--set", "trainin.steps=3"], "Config has no field 'trainin'; did you mean 'training'?"),
        (["--set", "training.step=3"], "Training has no field 'step'; did you mean 'steps'?"),
        (["--set", "training.steps=many"], "--set training.steps=many: 'many' is not a whole number"),
        (["--set", "training.rates=1,x"], "'x' is not a number"),
        (["--set", "training=3"], "'training' is a group; there are training.steps, training.rates"),
        (["--set", "steps"], "--set steps: write --set NAME=VALUE"),
        (["--scale", "huge"], "--scale huge: toy has no such scale; there are smoke, mini"),
        (["--data", "wild=/nowhere"], "--data wild=/nowhere: no folder /nowhere"),
        (["--data", "lift=/nowhere.hdf5"], "--data lift=/nowhere.hdf5: no file /nowhere.hdf5"),
        (["--data", "wild="], "--data wild=: no folder after the equals sign"),
        (["--data", "a/b=/"], "the name may hold letters"),
        (["--site", "/nowhere.toml"], "--site /nowhere.toml: No such file or directory"),
        (["--jobs", "0"], "argument --jobs: 0 is too small; at least 1 is needed; see --help"),
        (["--nonsense"], "unrecognized arguments: --nonsense; see --help"),
    ],
)
def test_bad_input_is_one_line(project, arguments, message):
    code, out, error = project.run(*arguments)
    assert (code, out) == (2, "")
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(project):
    code, _, error = project.run("--out", str(project.file / "below-a-file"))
    assert code == 2
    assert error.startswith("error: cannot write into ")


def test_only_matches_patterns_and_prefixes():
    cells = [Cell("uwm", "a", 0), Cell("uwm", "b", 0), Cell("copy", "a")]
    assert [c.name for c in choose(cells, ["*/a", "*/a/s0"])] == ["uwm/a/s0", "copy/a"]
    assert [c.name for c in choose(cells, ["uwm"])] == ["uwm/a/s0", "uwm/b/s0"]
    assert [c.name for c in choose(cells, ["uwm/b,copy"])] == ["uwm/b/s0", "copy/a"]
    assert choose(cells, []) == cells


def test_dry_run_says_what_is_cached_and_writes_nothing(project):
    assert "stage weights: to be computed" in project.run("--dry-run")[1]
    assert not project.results.exists()
    project.run()
    assert "stage weights: cached" in project.run("--dry-run")[1]


def test_provenance_comes_from_git(project):
    git = ["git", "-C", str(project.root), "-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (project.root / ".gitignore").write_text("__pycache__/\n")
    subprocess.run([*git, "add", "experiments", ".gitignore"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    project.run("--only", "copy")
    code = project.record("copy__ours")["code"]
    blob = subprocess.run(
        [*git, "rev-parse", "HEAD:experiments/toy.py"], capture_output=True, text=True
    ).stdout
    assert (code["experiment_blob"], code["dirty"]) == (blob.strip(), False)
    assert len(code["commit"]) == 40
    project.file.write_text(project.file.read_text() + "# changed\n")
    project.run("--only", "copy")
    assert project.record("copy__ours")["code"]["dirty"] is True
