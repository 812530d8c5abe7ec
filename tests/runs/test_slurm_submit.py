"""What is sent to `sbatch`, with Slurm's commands replaced by scripts that note what they are asked."""

import json
import shlex
import shutil
import subprocess
import sys

import pytest

from tests.runs.fake_slurm import SITE, fake_slurm, items, rows, site  # noqa: F401 (two fixtures)


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


@pytest.mark.parametrize(("table", "asked"), [("", 1), ("[cells]\nhours = 1\n", 2)])
def test_the_site_is_asked_once_for_each_set_of_resources(project, fake_slurm, site, table, asked):  # noqa: F811
    site.write_text(SITE + table)
    assert project.run("--submit", "--site", str(site))[0] == 0
    assert len(fake_slurm.scripts) == 2
    assert len((fake_slurm.folder / "asked").read_text()) == asked


@pytest.mark.parametrize(
    ("answer", "taken"),
    [
        ("allocation failure: Invalid qos specification", False),
        ("allocation failure: Requested nodes are busy", True),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", True),
    ],
)
def test_what_a_site_takes_later_is_sent(project, fake_slurm, site, answer, taken):  # noqa: F811
    (fake_slurm.folder / "answer").write_text(answer)
    code, _, error = project.run("--submit", "--site", str(site))
    assert (code, len(fake_slurm.scripts)) == ((0, 2) if taken else (2, 0))
    assert taken or error == f"error: Slurm refused toy-weights: {answer}\n"


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
