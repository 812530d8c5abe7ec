"""Faults of the machine and of the user: no good record is lost, and one line says it."""

import json
import sys

import pytest

from uwm.runs.experiment import load_experiment
from uwm.runs.plan import make_plan
from uwm.runs.queries import answer_early
from uwm.runs.state import root_cause
from uwm.runs.stopping import Stop
from uwm.runs.task import CellFailed, Task
from uwm.runs.workers import Worker

FAULTS = ["error", "input", "skip", "disk", "memory", "pipe", "interrupt"]


def break_cell(project, fault):
    """The toy fails from now on, with an unchanged config and so with the digests that it had."""
    text = project.file.read_text()
    text = text.replace("context.config.fault in faults", f'"{fault}" in faults')
    project.file.write_text(text.replace("faults[context.config.fault]", f'faults["{fault}"]'))


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_no_fault_replaces_a_good_record(project, fault, jobs):
    project.run()
    before = bytes_of(project.results)
    break_cell(project, fault)
    code, _, error = project.run("--only", "copy", "--jobs", jobs)
    assert code in (
        {"error": {1}, "skip": {0}, "interrupt": {130, 2, 1}, "pipe": {141, 2, 1}}.get(fault, {2})
    )
    assert "Traceback" not in error
    assert bytes_of(project.results) == before


@pytest.mark.parametrize("fault", ["disk", "memory", "pipe", "interrupt"])
def test_a_fault_of_the_machine_leaves_no_record(project, fault):
    code, _, error = project.run("--set", f"fault={fault}", "--only", "copy")
    assert code == {"interrupt": 130, "pipe": 141}.get(fault, 2)
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == (fault != "pipe")
    if fault == "disk":
        assert lines == ["error: /cache/weights: No space left on device; free some space and start again"]
    assert not list(project.root.glob("r*/**/copy__ours.json"))


def test_other_data_under_a_known_name_leaves_the_results_alone(project, tmp_path):
    project.run()
    before = bytes_of(project.results)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert project.run("--data", f"ours={tmp_path / name}")[0] == 0
    assert bytes_of(project.results) == before
    assert len(list(project.root.glob("runs/mini/toy-*/results/copy__ours.json"))) == 2


@pytest.mark.parametrize("flag", ["--out", "--site", "--data", "--set", "--only", "--pretrain-on", "--scale"])
def test_an_empty_value_is_refused(project, flag):
    project.run()
    before = bytes_of(project.results)
    code, out, error = project.run(flag, "")
    assert (code, out, error.count("\n")) == (2, "", 1), error
    assert bytes_of(project.results) == before


@pytest.mark.parametrize("flags", [[], ["--recompute"], ["--dry-run"]], ids=str)
@pytest.mark.parametrize("text", ["of mine\n", "", "{}", "[1]", '{"cell": "copy/sim-ego"}', "\xff"])
def test_a_file_that_is_no_record_is_not_replaced(project, text, flags, monkeypatch):
    project.run()
    path = min(project.results.glob("*.json"))
    whole = path.read_bytes()
    path.write_bytes(text.encode("latin-1"))
    before = bytes_of(project.results)
    code, _, error = project.run(*flags)
    assert (code, error.count("error: ")) == (2, 1), error
    assert f"{path} is there already" in error
    assert bytes_of(project.results) == before
    path.write_bytes(whole[: len(whole) // 2])  # a damaged record of ours is made again
    assert project.run("--recompute")[0] == 0
    assert json.loads(path.read_bytes())["status"] == "ok"


RANKS = [{"RANK": "1"}, {"RANK": "x"}, {"RANK": "-1"}, {"WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}]


@pytest.mark.parametrize("left_over", RANKS, ids=str)
@pytest.mark.parametrize("flags", [[], ["--status"], ["--dry-run"]], ids=str)
def test_ranks_left_in_the_shell_are_an_error(project, left_over, flags, monkeypatch):
    for name, value in left_over.items():
        monkeypatch.setenv(name, value)
    code, out, error = project.run(*flags)
    assert (code, out) == (2, "")
    assert "torchrun" in error


@pytest.mark.parametrize("rank", ["0", "1"])
def test_ranks_do_not_start_processes_of_their_own(project, monkeypatch, rank):
    """These would inherit the rank, and wait for ever."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(Worker, "__init__", lambda *_: pytest.fail("a process was started"))
    code, out, error = project.run("--jobs", "2")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: --jobs 2 under torchrun with 2 processes: leave out --jobs")
    assert not (project.root / "results").exists()
    assert not (project.root / "runs").exists()


def test_a_reader_that_leaves_is_no_error(project):
    project.run()
    process = project.start("--status")
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait() == 141
    assert "Traceback" not in error
    assert "Exception ignored" not in error


CONTRADICTIONS = [
    ("--status", "--recompute"),
    ("--status", "--logs"),
    ("--collect", "--missing"),
    ("--cancel", "--submit"),
    ("--logs", "--jobs", "2"),
    ("--status", "--dry-run"),
    ("--dry-run", "--json"),
    ("--dry-run", "--check"),
    ("--dry-run", "--graph"),
    ("--dry-run", "--max-parallel", "2"),
    ("--json",),
    ("--check",),
    ("--max-parallel", "2"),
    ("--submit", "--jobs", "2"),
    ("--follow", "--cancel"),
    ("--follow", "--status"),
    ("--wait", "--cancel"),
    ("--wait", "--logs"),
    ("--wait", "--recompute"),
    ("--dry-run", "--rerun"),
    ("--dry-run", "--graph", "--json", "--site", "SITE"),
    ("--dry-run", "--rerun", "--missing", "--site", "SITE"),
    ("--submit", "--dry-run", "--wait", "--site", "SITE"),
    ("--submit", "--dry-run", "--follow", "--site", "SITE"),
    ("--submit", "--rerun", "--missing"),
]


@pytest.mark.parametrize("flags", CONTRADICTIONS, ids=" ".join)
def test_flags_that_contradict_or_would_be_ignored_are_said(project, flags):
    site = project.root / "site.toml"
    site.write_text('partition = "gpu"\n')
    code, out, error = project.run(*(str(site) if flag == "SITE" else flag for flag in flags))
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert any(flag in error for flag in flags)


def test_flags_are_looked_at_also_where_a_finished_run_answers(project, monkeypatch, capsys):
    """A script answers from what a run wrote, before it loads the experiment."""

    def answered(*flags):
        monkeypatch.setattr(sys, "argv", ["toy.py", *flags])
        with pytest.raises(SystemExit) as end:
            answer_early(str(project.file))
        return end.value.code, *capsys.readouterr()

    project.run()
    assert answered("--status")[0] == 0
    for flags in (("--status", "--recompute"), ("--follow", "--cancel"), ("--status", "--jobs", "2")):
        code, out, error = answered(*flags)
        assert (code, out, error.count("\n")) == (2, "", 1)
        assert "ask for different things" in error


@pytest.mark.parametrize("flag", ["--jobs", "--max-parallel"])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "x", "", "99999999999999999999", "nan"])
def test_numbers_have_bounds(project, flag, value):
    code, out, error = project.run("--dry-run", f"{flag}={value}")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith(f"error: argument {flag}: ")


def test_bad_input_in_a_packed_cell_stops_no_other(project):
    experiment = load_experiment(project.file)
    plan = make_plan(
        experiment, [], scale="mini", settings=("fault=input",), data={}, out=None, recompute=False
    )
    context = plan.context(experiment)
    task = Task("", ("copy/ours", "uwm/ours/s0"), "", "", 0)
    with pytest.raises(CellFailed, match=r"^copy/ours: no video$"):
        task.run_all(context, Stop())
    assert [path.stem for path in context.out.glob("*.json")] == ["uwm__ours__s0"]
    assert "no video" in root_cause(context.work, "copy/ours")[1]
