"""Questions about a run: answered early, of which cells, and where its folder or its data are gone."""

import gc
import shutil
import subprocess
import sys

import pytest

from tests.runs.fake_slurm import fake_slurm, rows, site  # noqa: F401 (two fixtures)
from uwm.runs.queries import answer_early

EARLY = "from uwm.runs.queries import answer_early\nif __name__ == '__main__':\n    answer_early(__file__)\n"


def test_status_before_any_job_shows_no_phantom(project):
    assert {row["item"]: row["state"] for row in rows(project)} == {
        "copy/ours": "missing", "uwm/ours/s0": "missing", "uwm/ours/s1": "missing",
    }  # fmt: skip


@pytest.mark.slow
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


@pytest.mark.parametrize("asked_early", [True, False])
def test_a_run_whose_data_are_gone_can_be_asked_about_and_ended(
    project,
    fake_slurm,  # noqa: F811
    site,  # noqa: F811
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
