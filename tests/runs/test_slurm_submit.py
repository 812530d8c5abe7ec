"""What is sent to `sbatch`, with Slurm's commands replaced by scripts that note what they are asked."""

import gc
import json
import shlex
import shutil
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from tests.runs.fake_slurm import fake_slurm  # noqa: F401 (a fixture)
from uwm.runs import state
from uwm.runs.queries import answer_early
from uwm.runs.record import file_stem

EARLY = "from uwm.runs.queries import answer_early\nif __name__ == '__main__':\n    answer_early(__file__)\n"
SITE = 'partition = "gpu"\nhours = 2\n'


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return path


@pytest.mark.parametrize("refused", [False, True])
def test_the_sites_verdicts_are_part_of_the_json(project, fake_slurm, site, refused):  # noqa: F811
    answer = "sbatch: error: no such partition" if refused else "sbatch: Job 1 to start at noon"
    fake_slurm.program("sbatch", f"#!/bin/sh\necho '{answer}' >&2; exit {int(refused)}\n")
    words = ("--dry-run", "--check", "--site", str(site))
    code, out, _ = project.run(*words, "--json")
    verdict = {"verdict": "refused" if refused else "accepted", "answer": answer.removeprefix("sbatch: ")}
    assert code == (2 if refused else 0)
    assert json.loads(out)["verdicts"] == {"toy-weights": verdict, "toy-cells": verdict}
    code, out, _ = project.run(*words)
    assert code == (2 if refused else 0)
    assert out.splitlines()[-2:] == [f"{verdict['verdict']}: {name}: {verdict['answer']}"
                                     for name in ("toy-weights", "toy-cells")]  # fmt: skip
    assert "verdicts" not in json.loads(project.run("--dry-run", "--json", "--site", str(site))[1])


def items(project):
    (path,) = project.root.rglob("jobs.jsonl")
    return [json.loads(line)["item"] for line in path.read_text().splitlines()]


def test_the_dry_run_shows_byte_for_byte_what_is_sent(project, fake_slurm, site):  # noqa: F811
    launcher = "launcher = \"apptainer exec --nv 'my image.sif'\"\n"
    site.write_text(SITE + launcher + 'python = "/opt/bin/python"\n')
    shown = json.loads(project.run("--dry-run", "--json", "--site", str(site))[1])["scripts"]
    text = project.run("--dry-run", "--site", str(site))[1]
    assert project.run("--submit", "--site", str(site))[0] == 0
    assert fake_slurm.scripts == [*shown.values()]
    assert len(fake_slurm.scripts) == 2
    for script in fake_slurm.scripts:
        assert script.rstrip() in text
        assert "\"${hold[@]}\" apptainer exec --nv 'my image.sif' /opt/bin/python -u -m" in script
    assert fake_slurm.options[1] == ["--parsable", "--dependency=afterok:1", "--kill-on-invalid-dep=yes"]


OLD_ENV = """#!/bin/sh
case "$1" in --*) echo "env: unrecognized option '$1'" >&2; exit 125;; esac
exec {env} "$@"
"""
IN_A_CONTAINER = """#!{python}
import os, sys
words = sys.argv[sys.argv.index("sh"):]
os.environ["PATH"] = "{folder}/container:" + os.environ["PATH"]
os.execvp(words[0], words)
"""
TELL = "import signal, sys; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), sys.argv[1:])"


@pytest.mark.parametrize("held", [True, False])
def test_env_is_asked_where_it_starts_python(project, fake_slurm, site, tmp_path, held):  # noqa: F811
    """That of the batch host knows the option; in the container, where srun runs it, maybe not."""
    (tmp_path / "tell.py").write_text(TELL)
    site.write_text(f'launcher = "{sys.executable} {tmp_path}/tell.py"\npython = "/opt/python"\n')
    assert project.run("--submit", "--only", "copy", "--site", str(site))[0] == 0
    fake_slurm.program("srun", IN_A_CONTAINER)
    (fake_slurm.folder / "container").mkdir()
    if not held:
        fake_slurm.program("container/env", OLD_ENV.replace("{env}", shutil.which("env")))
    script = fake_slurm.scripts[0]
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    blocked, words = done.stdout.strip().removesuffix("]").split("] [")
    assert words.startswith("'/opt/python', '-u', '-m', 'submitit.core._submit', ")
    assert ("SIGUSR2" in blocked, "SIGTERM" in blocked) == (held, held)


def test_options_of_sbatch_and_srun_are_passed_through(project, fake_slurm, site):  # noqa: F811
    site.write_text("""
gpus_per_node = "h100:2"
srun_args = ["--container-image=nvcr.io#nvidia/pytorch", "--mpi=pmix"]
[sbatch]
reservation = "week 12"
exclusive = true
mail_user = "someone@example.org"
mem_per_gpu = "64G"
[cells.sbatch]
exclusive = false
nodelist = "n1"
[cells."copy/*"]
hours = 0.5
[stages.weights]
nodes = 3
""")
    assert project.run("--submit", "--site", str(site))[0] == 0
    stage, copies, others = fake_slurm.scripts
    for line in ("--gpus-per-node=h100:2", "--reservation='week 12'", "--exclusive", "--nodes=3",
                 "--mail-user=someone@example.org", "--mem-per-gpu=64G", "--ntasks-per-node=2"):  # fmt: skip
        assert f"#SBATCH {line}\n" in stage
    assert "--container-image=nvcr.io#nvidia/pytorch' --mpi=pmix" in stage
    assert "#SBATCH --time=30\n" in copies
    assert "#SBATCH --time=60\n" in others
    assert "#SBATCH --nodelist=n1\n" in others
    assert "--exclusive" not in others


def test_a_submit_limit_cuts_an_array_and_the_rest_is_sent_later(project, fake_slurm, site):  # noqa: F811
    fake_slurm.limit(3)  # a stage and two of three cells
    code, _, error = project.run("--submit", "--site", str(site))
    assert code == 0
    sent = items(project)
    assert len(sent) == 2  # half of the array of three
    assert "2 items remain, for the site takes no more jobs now (QOSMaxSubmitJobPerUserLimit)" in error
    fake_slurm.limit(5)
    assert project.run("--submit", "--site", str(site))[0] == 0
    assert sorted(items(project)) == ["copy/ours", "stage:weights", "uwm/ours/s0", "uwm/ours/s1"]


def test_a_site_may_name_its_limit(project, fake_slurm, site):  # noqa: F811
    site.write_text(SITE + "max_submit = 3\n")
    error = project.run("--submit", "--site", str(site))[2]
    assert items(project) == ["stage:weights", "copy/ours", "uwm/ours/s0"]
    assert "1 items remain" in error
    assert "max_submit = 3" in error


def test_two_submits_at_once_send_everything_once(project, fake_slurm, site):  # noqa: F811
    first, second = (project.start("--submit", "--site", str(site)) for _ in range(2))
    assert (first.wait(60), second.wait(60)) == (0, 0)
    assert len(fake_slurm.scripts) == 2
    assert len(items(project)) == 4


def test_jobs_of_a_deleted_run_folder_are_found_by_their_comment(project, fake_slurm, site):  # noqa: F811
    project.run("--submit", "--site", str(site))
    shutil.rmtree(project.root / "runs")
    code, _, error = project.run("--submit", "--site", str(site))
    assert code == 2
    assert "does not know them (was it deleted?); they would fail: --cancel without --only ends them" in error
    assert project.run("--cancel")[2] == "cancelled 4 jobs\n"
    assert project.run("--submit", "--site", str(site))[0] == 0


def test_cancel_then_submit_at_once(project, fake_slurm, site):  # noqa: F811
    project.run("--submit", "--site", str(site))
    queue = fake_slurm.folder / "queue"
    kept = queue.read_text().replace("PENDING", "COMPLETING")
    assert project.run("--cancel")[0] == 0
    queue.write_text(kept)  # Slurm still shows them for a while
    assert {row["state"] for row in rows(project)} == {"cancelled"}
    assert project.run("--submit", "--site", str(site))[0] == 0
    assert len(fake_slurm.scripts) == 4


def rows(project):
    return json.loads(project.run("--status", "--json")[1])


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


def test_status_before_any_job_shows_no_phantom(project):
    assert {row["item"]: row["state"] for row in rows(project)} == {
        "copy/ours": "missing", "uwm/ours/s0": "missing", "uwm/ours/s1": "missing",
    }  # fmt: skip


def test_questions_need_neither_torch_nor_the_experiments_imports(project, fake_slurm, site):  # noqa: F811
    text = project.file.read_text()
    project.file.write_text(text.replace("import os\n", f"{EARLY}import os\nimport torch\n", 1))
    code = "import sys, runpy; sys.argv = sys.argv[1:]\n"
    code += "try: runpy.run_path(sys.argv[0], run_name='__main__')\nfinally: print('torch' in sys.modules)"

    def ask(*question):
        command = [sys.executable, "-c", code, str(project.file), *question]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith("False\n")
        return done.stdout + done.stderr

    for question in ("--status", "--logs"):
        assert "no run of toy at scale mini with these options was started from here" in ask(question)
    assert "records" not in ask("--status")
    started = project.start("--submit", "--site", str(site))
    assert started.wait(120) == 0, started.stderr.read()
    for question, answer in {"--status": "pending", "--logs": "", "--cancel": ""}.items():
        assert answer in ask(question)
    assert project.start("--submit", "--site", str(site)).wait(120) == 0
    (work,) = project.root.glob("runs/mini/toy-*")
    shutil.rmtree(work)
    project.results.mkdir(parents=True)
    (project.results / "copy__ours.json").write_text('{"status": "ok"}')
    (project.results / "uwm__ours__s0.json").write_text('{"status": "failed"}')
    told = ask("--status")
    assert "jobs 3, 4_0, 4_1, 4_2 are queued or running, and their run folder is gone: --cancel" in told
    assert f"{project.results} holds 2 records, 1 of them ok" in told
    stopped = project.start("--cancel")
    assert stopped.wait(120) == 0, stopped.stderr.read()
    assert "are queued or running" not in ask("--status")


def test_a_scale_that_nobody_knows_is_refused_by_every_question(project):
    project.file.write_text(project.file.read_text().replace("import os\n", f"{EARLY}import os\n", 1))
    for question in ("--status", "--logs"):
        asked = project.start(question, "--scale", "mni")
        assert asked.wait(120) == 2
        assert "did you mean 'mini'?" in asked.stderr.read()


def test_a_cut_line_of_the_jobs_does_not_hide_the_next_submission(project, fake_slurm, site):  # noqa: F811
    assert project.run("--submit", "--only", "copy", "--site", str(site))[0] == 0
    (path,) = project.root.rglob("jobs.jsonl")
    path.write_bytes(path.read_bytes() + b'{"item": "uwm/ou')  # a full disk
    assert project.run("--submit", "--site", str(site))[0] == 0
    assert {row["state"] for row in rows(project)} == {"pending"}
    code, _, error = project.run("--submit", "--site", str(site))
    assert code == 0, error
    assert "nothing to submit" in error


NO_CELLS = [
    ([""], "--only names no cell"),
    (["copy", "nosuch"], "--only nosuch: no such cell; there are"),
    (["copy,uwm/s3"], "--only uwm/s3: no such cell"),
    ([",", ""], "--only names no cell"),
]


@pytest.mark.parametrize("early", [True, False], ids=["early", "late"])
def test_a_question_about_no_cell_is_refused(project, fake_slurm, site, capsys, monkeypatch, early):  # noqa: F811
    """An empty shell variable behind --only must not mean the whole run, least of all to --cancel."""
    assert project.run("--submit", "--site", str(site))[0] == 0

    def asked(*words):
        if not early:
            return project.run(*words)
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["toy.py", *words])
        with pytest.raises(SystemExit) as end:
            answer_early(str(project.file))
        return end.value.code, *capsys.readouterr()

    for only, told in NO_CELLS:
        for question in ("--status", "--logs", "--wait", "--follow", "--cancel"):
            code, out, error = asked(question, "--only", *only)
            assert (code, out, error.count("\n")) == (2, "", 1), error
            assert error.startswith("error: ")
            assert told in error
    assert len((fake_slurm.folder / "queue").read_text().splitlines()) == 4  # nothing was cancelled


def test_garbage_is_not_looked_for_while_libraries_are_imported(project):
    seen = "import gc\nprint('imported', gc.isenabled())\n"
    text = project.file.read_text().replace("import os\n", f"{EARLY}{seen}import os\n", 1)
    project.file.write_text(text + "    print('run', gc.isenabled())\n")
    text = project.file.read_text().replace("raise SystemExit(main(EXPERIMENT))", "main(EXPERIMENT)")
    project.file.write_text(text)
    out, error = project.start("--dry-run").communicate(timeout=120)
    told = [line for line in out.splitlines() if line.startswith(("imported", "run"))]
    assert told == ["imported False", "run True"], error
    assert "imported False" in project.run("--dry-run")[1]  # as a job loads the file
    assert gc.isenabled()


def test_the_command_that_asks_can_be_copied(project, fake_slurm, site, tmp_path):  # noqa: F811
    (tmp_path / "my data").mkdir()
    what = ("--set", "training.steps=3", "--only", "copy/*", "--data", f"wild={tmp_path}/my data",
            "--out", f"{tmp_path}/my records")  # fmt: skip
    how = ("--recompute", "--max-parallel", "2", "--site", str(site))
    code, _, error = project.run("--submit", *what, *how)
    assert code == 0
    (work,) = project.root.glob("runs/mini/toy-*")
    assert f"at most 0 GPU hours per attempt; logs: {work}/jobs/ID_0_log.out\n" in error
    (line,) = (line for line in error.splitlines() if line.startswith("ask: "))
    words = shlex.split(line.removeprefix("ask: "))
    assert words[:2] == ["python", str(project.file)]
    code, out, _ = project.run(*words[2:])
    assert code == 0
    assert [row.split()[:2] for row in out.splitlines()] == [
        ["stage:weights", "pending"], ["copy/ours", "pending"], ["copy/wild", "pending"],
    ]  # fmt: skip


@pytest.mark.parametrize("asked_early", [True, False])
def test_a_run_whose_data_are_gone_can_be_asked_about_and_ended(
    project,
    fake_slurm,  # noqa: F811
    site,
    tmp_path,
    asked_early,
):
    if asked_early:
        project.file.write_text(project.file.read_text().replace("import os\n", f"{EARLY}import os\n", 1))
    wild = tmp_path / "wild"
    wild.mkdir()
    what = ("--data", f"wild={wild}")
    assert project.run("--submit", *what, "--site", str(site))[0] == 0
    wild.rmdir()
    started = project.start("--submit", *what, "--site", str(site))
    assert (started.wait(120), "no folder" in started.stderr.read()) == (2, True)
    for question, code in {"--status": 0, "--logs": 0, "--collect": 1, "--cancel": 0, "--wait": 1}.items():
        asked = project.start(question, *what)
        asked.wait(120)
        error = asked.stderr.read()
        assert (asked.returncode, "error:" in error) == (code, False), error
    assert (fake_slurm.folder / "queue").read_text() == ""


def test_the_range_of_actions_goes_into_the_plan_and_what_asks(project, fake_slurm, site, tmp_path):  # noqa: F811
    (tmp_path / "robot.hdf5").touch()
    what = ("--data", f"arm={tmp_path}/robot.hdf5", "--action-range", "measured")
    code, _, error = project.run("--submit", *what, "--site", str(site))
    assert code == 0
    (plan,) = project.root.glob("runs/mini/toy-*/plan-*.json")
    told = json.loads(plan.read_text())
    assert told["data"] == {"arm": f"actions-measured:{tmp_path}/robot.hdf5"}
    assert "--action-range measured" in told["command"]
    (line,) = (line for line in error.splitlines() if line.startswith("ask: "))
    code, out, _ = project.run(*shlex.split(line.removeprefix("ask: "))[2:])
    assert (code, "copy/arm" in out, "missing" in out) == (0, True, False)
    assert "missing" in project.run("--status", *what[:2])[1]  # another run


def test_jobs_that_their_folder_does_not_know_are_named_by_every_question(project, fake_slurm, site):  # noqa: F811
    project.file.write_text(project.file.read_text().replace("import os\n", f"{EARLY}import os\n", 1))
    sites = ("--site", str(site))
    assert project.run("--submit", *sites)[0] == 0
    (work,) = project.root.glob("runs/mini/toy-*")
    shutil.rmtree(work)
    assert project.run("--submit", *sites)[0] == 2  # refused; the folder is there again

    def told(*question):
        asked = project.start(*question)
        asked.wait(120)
        return asked.stderr.read()

    for _ in range(2):
        for question in (("--status",), ("--logs",), ("--cancel", "--only", "copy"), ("--wait",)):
            assert "jobs 1, 2_0, 2_1, 2_2 " in told(*question), question
        assert project.run()[0] == 0  # a run here leaves its listing
        assert (work / "run.json").is_file()
    assert "cancelled 4 jobs" in told("--cancel")
    assert "are queued or running" not in told("--status")


@pytest.mark.parametrize("question", ["--wait", "--follow"])
def test_to_wait_is_a_question_or_goes_with_a_submission(project, question):
    for starting in ("--dry-run", "--recompute", "--missing", "--jobs=2", "--status"):
        code, _, error = project.run(question, starting)
        assert code == 2
        assert f"{question} and {starting.partition('=')[0]} ask for different things" in error or (
            f"--status and {question} ask for different things" in error
        )
