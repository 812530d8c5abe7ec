"""The commands of slurm/README.md and of the site files, as they are written there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.models import alexnet

from tests.documents import section
from tests.experiments.test_two_ranks import CELLS
from tests.paper_world import write_ego4d, write_published, write_ssv2
from tests.runs.fake_slurm import fake_slurm  # noqa: F401 (a fixture)
from tests.slurm.test_slurm_experiments import ANEW
from tests.warm import run_python
from uwm.models import MAE_PRESETS
from uwm.runs.slurm.site import load_site
from uwm.stages.trained import WEIGHTS
from uwm.verified import sha256_of

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "slurm" / "README.md").read_text()
SITES = sorted(path.name for path in (ROOT / "slurm").glob("*.toml"))
COMMAND = re.compile(r"^(python|torchrun) (.*?)(?: +#.*)?$", re.M)
STARTED = {"python": [], "torchrun": ["-m", "torch.distributed.run"]}


def commands(text):
    """What Python is to run of the command lines `python ...` and `torchrun ...` in the code blocks."""
    found = (line for block in re.findall(r"```\n(.*?)```", text, re.S) for line in COMMAND.findall(block))
    return [[*STARTED[program], *words.split()] for program, words in found]


@pytest.mark.slow
def test_the_readmes_commands_run_one_after_the_other(fake_slurm, tmp_path):  # noqa: F811
    tree = tmp_path / "tree"  # results/ of this checkout stay as they are
    tree.mkdir()
    for name in ("uwm", "slurm", "pyproject.toml", "requirements.lock"):
        (tree / name).symlink_to(ROOT / name)
    for name in ("experiments", "results"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(tree / name)], check=True)
    places = {"UWM_RUNS": f"{tmp_path}/runs", "UWM_CACHE": f"{tmp_path}/cache", "PYTHONPATH": str(tree)}
    lines = commands(README)
    assert len(lines) >= 10
    trained = lambda: {path.parent.name for path in tmp_path.glob(f"cache/*/{WEIGHTS}")}  # noqa: E731
    for line in lines:
        before = trained()
        done = run_python(line, tree, os.environ | places | {"OMP_NUM_THREADS": "1"})
        missing = "--collect" in line  # the fake cluster measures nothing
        assert trained() == before or "torch.distributed.run" in line
        assert done.returncode == int(missing), (line, done.stdout, done.stderr)
    assert len(trained()) >= 3  # by torchrun, before --jobs measures all
    names = [re.search(r"--job-name=(\S+)", script)[1] for script in fake_slurm.scripts]
    trainings = ["pretrain", "pretrain-uwm-1960", "pretrain-no-action"]
    measured = ["evaluate-sim-third-person", "evaluate-sim-ego", "cells-0", "cells-1"]
    assert names == [f"table1-{name}" for name in (*trainings, *measured)]


def test_each_experiment_is_run_by_several_processes():
    """As the README claims: by the batch file, and by --submit (Table 1 in a file of its own)."""
    assert (
        "for a cell of each experiment with two processes by `job.sbatch` and on two nodes by `--submit`"
        in README
    )
    experiments = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    assert set(CELLS) == experiments
    assert {*ANEW, "table1"} == experiments


def test_the_measured_memory_is_as_the_readme_says():
    """Of a step with the whole batch on one GPU, so that nothing need be computed twice."""
    assert "it is below 24 GB" in README
    records = [json.loads(path.read_text()) for path in (ROOT / "results" / "bench").glob("*.json")]
    whole = [record for record in records if record["processes"] == 1]
    assert whole
    assert all(record["peak_memory_gb"] < 24 for record in whole)


def test_rows_of_faults_that_no_cluster_tests_say_where_they_are_tested():
    rows = [
        line for line in section(ROOT / "slurm" / "README.md", "What may happen").splitlines() if "|" in line
    ]
    elsewhere = {
        row.split(" | ")[0]: found[1] for row in rows if (found := re.search(r"`(tests/[\w/.]+)`", row))
    }
    assert all((ROOT / place).exists() for place in elsewhere.values())
    assert {"| a cell finds bad input", "| ranks take different ways", "| rank 0 alone needs a training"} <= {
        fault.partition(",")[0] for fault in elsewhere
    }


@pytest.mark.parametrize("name", SITES)
def test_a_site_file_and_its_command(project, fake_slurm, name):  # noqa: F811
    text = (ROOT / "slurm" / name).read_text()
    (command,) = re.findall(r"^#\s+python experiments/table1.py (.*)$", text, re.M)
    words = command.split()
    assert words[words.index("--site") + 1] == f"slurm/{name}"
    assert f"[{name}]({name})" in README
    code, _, error = project.run("--submit", "--site", str(ROOT / "slurm" / name))
    assert code == 0, error
    assert len(fake_slurm.scripts) == 2
    assert "_submit" in fake_slurm.scripts[0]


@pytest.mark.parametrize("name", SITES)
def test_what_a_site_file_has_in_comments_can_be_read(tmp_path, name):
    text, count = re.subn(r"^# (?=\w+ = |\[)", "", (ROOT / "slurm" / name).read_text(), flags=re.M)
    assert (count > 20) == (name == "gpu-8.toml")
    (tmp_path / name).write_text(text)
    site = load_site(tmp_path / name)
    if name == "gpu-8.toml":
        assert (site.stages.sbatch["reservation"], site.tflops, site.wckey) == ("week12", 280, "project")
        assert [rule.pattern for rule in (*site.stage_rules, *site.cell_rules)] == [
            "evaluate-*", "manifests*", "w_tfs/*", "random/*"
        ]  # fmt: skip


@pytest.fixture(scope="module")
def at_the_site(tmp_path_factory):
    """A login node where /datasets, /shared and /scratch lie below a folder: the site files name these."""
    folder = tmp_path_factory.mktemp("site")
    write_ssv2(folder / "datasets" / "something-something-v2")
    (folder / "datasets" / "ssv2").symlink_to("something-something-v2")  # as the batch file calls it
    write_ego4d(folder / "datasets" / "ego4d")
    write_published(folder / "shared" / "weights" / "mae_visualize_vit_base.pth", MAE_PRESETS["base"])
    features = {f"features.{name}": value for name, value in alexnet().features.state_dict().items()}
    kept = folder / "shared" / "weights" / "alexnet_features.pth"
    torch.save(features, kept)  # random ones, with their digest beside them as `uwm.prefetch` leaves it
    kept.with_name(f"{kept.name}.sha256").write_text(f"{sha256_of(kept)}  {kept.name}\n")
    (folder / "scratch").symlink_to(folder / "shared")
    for name in ("uwm", "results", "experiments", "pyproject.toml", "requirements.lock"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "slurm").mkdir()
    for name in SITES:
        text = re.sub(r"/(datasets|shared|scratch)\b", rf"{folder}/\1", (ROOT / "slurm" / name).read_text())
        (folder / "slurm" / name).write_text(text)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SITES)
def test_the_commands_of_a_site_file_as_they_are_written(at_the_site, fake_slurm, tmp_path, name):  # noqa: F811
    """All of them, in their order; then each script that was sent, up to what `srun` is given."""
    environment = os.environ | {"PYTHONPATH": str(at_the_site), "OMP_NUM_THREADS": "1"}
    environment |= {"UWM_RUNS": f"{tmp_path}/runs", "UWM_CACHE": f"{tmp_path}/cache"}
    environment |= {"UWM_WEIGHTS": f"{at_the_site}/shared/weights"}
    environment.pop("UWM_SITE", None)
    lines = re.findall(r"^#   (.*)$", (at_the_site / "slurm" / name).read_text(), re.M)
    assert lines[-1].endswith(f"--submit --site slurm/{name}")
    for line in lines:
        program, *words = line.split()
        if program == "export":
            environment |= [words[0].split("=")]
            continue
        assert program == "python"
        done = run_python(words, at_the_site, environment)
        assert done.returncode == 0, (line, done.stderr[-2000:])
    if "--scale paper" not in lines[-1]:
        assert "--rerun measures them again" in done.stderr
        return
    lists = ("manifests", "manifests-ssv2", "manifests-ego4d")
    stages = (*lists, "pretrain", "pretrain-no-action", "evaluate-ssv2", "evaluate-ego4d")
    for stage in stages:
        assert f": table1-{stage} (1 items)" in done.stderr
    fake_slurm.program("srun", '#!/bin/sh\necho "$@" >> {folder}/started\n')
    for script in fake_slurm.scripts:
        assert subprocess.run(["bash", "-c", script], env=environment).returncode == 0
    site = load_site(at_the_site / "slurm" / name)
    started = (fake_slurm.folder / "started").read_text().splitlines()
    assert len(started) == len(fake_slurm.scripts) == len(stages) + 2
    for line in started:
        assert f"{site.launcher} {site.python or sys.executable} -u -m submitit.core._submit" in line
        assert all(argument in line for argument in site.stages.srun_args)


def test_the_command_of_the_batch_file(at_the_site, tmp_path):
    """What it gives to torchrun, on a node with 8 GPUs, is a run of the experiment."""
    file = ROOT / "slurm" / "job.sbatch"
    (line,) = re.findall(r"^#   sbatch slurm/job.sbatch (.*)$", file.read_text(), re.M)
    told = tmp_path / "told"
    (tmp_path / "torchrun").write_text(f'#!/bin/sh\necho "$OMP_NUM_THREADS $@" > {told}\n')
    (tmp_path / "torchrun").chmod(0o755)
    places = {"UWM_RUNS": f"{tmp_path}/runs", "UWM_CACHE": f"{tmp_path}/cache"}
    node = {
        "SLURM_GPUS_ON_NODE": "8",
        "SLURM_CPUS_PER_TASK": "96",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    words = line.replace("/datasets/", f"{at_the_site}/datasets/").split()
    subprocess.run(["bash", str(file), *words], env=os.environ | node, check=True)
    threads, *ranks, experiment = told.read_text().strip().split(" ", 3)
    assert (threads, ranks) == ("12", ["--standalone", "--nproc-per-node=8"])
    environment = os.environ | places | {"PYTHONPATH": str(at_the_site)}
    environment |= {"UWM_WEIGHTS": f"{at_the_site}/shared/weights"}
    environment.pop("UWM_SITE", None)
    done = run_python([*experiment.split(), "--dry-run"], at_the_site, environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "cell uwm/ssv2\n" in done.stdout


def test_container_sites_ask_for_what_they_say(project, fake_slurm):  # noqa: F811
    project.run("--submit", "--site", str(ROOT / "slurm" / "h100-pyxis.toml"))
    stage, cells = fake_slurm.scripts
    assert "#SBATCH --gres=gpu:h100:8\n" in stage
    assert "#SBATCH --exclusive\n" in stage
    assert "#SBATCH --ntasks-per-node=8\n" in stage
    assert "--container-image=/shared/images/uwm.sqsh" in stage
    assert "#SBATCH --gres=gpu:h100:1\n" in cells
    assert "--exclusive" not in cells
