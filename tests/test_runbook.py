"""docs/paper-scale.md from end to end at toy size: small networks, and the steps of scale `smoke`.

Everything else is as the page says: the owners' layouts, a published MAE's file, places of the data from
SITE.toml, shards of the pairs that scale `paper` asks for, records in results/paper, figures and check.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import BLOCK, ROOT, commands, section
from tests.paper_world import TINY, write_lpips, write_world
from tests.runs.fake_slurm import FakeSlurm, fake_slurm  # noqa: F401 (a fixture)
from tests.warm import run_python
from uwm.runs.settings import plain

PAGE = ROOT / "docs" / "paper-scale.md"
EXPERIMENTS = ("table1", "figure4", "figure5")
CORPORA = {"table1": ("ssv2", "ego4d"), "figure4": ("robosuite",), "figure5": ("robosuite",)}
# Put into a copy of an experiment's file in the place of its scale `paper`. What is read is that scale's own.
TOY = """
from dataclasses import replace as _replace
from uwm.models import MAEConfig
CONFIGS["paper"] = _replace(
    CONFIGS["smoke"],
    corpora={corpora!r},
    pretrain_on=("ssv2", "ego4d"),
    mae=_replace(MAE["paper"], model=MAEConfig(**{sizes!r})),
    pretrain=_replace(PRETRAIN["paper"], train=PRETRAIN["smoke"].train),
    {others}
)
"""
NO_ACTION = 'no_action=_replace(PRETRAIN["paper-no-action"], train=PRETRAIN["smoke"].train), high_rate=None,'
# No claim is about the cells of a curve.
OTHERS = {"table1": NO_ACTION, "figure4": "curve=(),", "figure5": "curve=(),"}
COPIED = ("Makefile", "README.md", "experiments", "paper", "results", "slurm", "uwm")


def lines_of(title: str) -> list[str]:
    """The commands of a section of the page."""
    found = [text for language, text in BLOCK.findall(section(PAGE, title)) if language == "sh"]
    return [shlex.join(words) for text in found for words in commands(text)]


def toy_experiments(folder: Path) -> None:
    """Make scale `paper` of the copied experiments small."""
    for name in EXPERIMENTS:
        path = folder / f"{name}.py"
        text = path.read_text(encoding="utf-8")
        declared = '    "paper": Config(),\n}\n'
        assert text.count(declared) == 1
        toy = TOY.format(corpora=CORPORA[name], sizes=plain(TINY), others=OTHERS[name])
        path.write_text(text.replace(declared, "}\n" + toy), encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository, data, weights and shards, as on the disk of somebody who followed the page to "Run"."""
    folder = tmp_path_factory.mktemp("runbook")
    without = shutil.ignore_patterns("assets", "out", "__pycache__")
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name, **({"ignore": without} if copy is shutil.copytree else {}))
    (folder / "uwm" / "assets").symlink_to(ROOT / "uwm" / "assets")
    toy_experiments(folder / "experiments")
    write_world(folder, TINY, demos=16, seed=0)
    write_lpips(folder / "weights")
    for line in lines_of("Decode once"):
        words = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID/32", "0/1"))
        done = run(words[1:], folder)
        assert done.returncode == 0, done.stderr[-2000:]
    return folder


def environment_of(folder: Path, runs: str = "runs") -> dict[str, str]:
    """Where the page's reader has put things."""
    places = {f"UWM_{name.upper()}": str(folder / name) for name in ("cache", "weights")}
    places["UWM_RUNS"] = str(folder / runs)
    found = os.environ | places | {"UWM_SHARDS": str(folder / "SHARDS")}
    found.pop("UWM_SITE", None)
    return found | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def run(words: list[str], folder: Path, runs: str = "runs") -> subprocess.CompletedProcess[str]:
    return run_python(words, folder, environment_of(folder, runs), timeout=600)


def make(target: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`make TARGET` with this Python."""
    words = ["make", "--no-print-directory", target, f"PYTHON={sys.executable}"]
    return subprocess.run(
        words, cwd=folder, env=environment_of(folder), capture_output=True, text=True, timeout=600
    )


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for title in ("Look", "Count", "Plan") for line in lines_of(title)])
def test_the_data_are_looked_at_and_the_runs_counted_and_planned(tree: Path, line: str) -> None:
    """Over the same files as all that follows."""
    done = run(shlex.split(line)[1:], tree)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout
    assert not [*(tree / "cache").glob("world-model-*")]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figure4", "figure5"])
def test_the_figures_are_sent_asked_about_and_collected(
    tree: Path,
    fake_slurm: FakeSlurm,  # noqa: F811
    name: str,
) -> None:
    """With Slurm's commands replaced by scripts, in a run folder of their own; `tests/slurm` sends Table 1 to
    a cluster."""
    sent, asked, collected = (shlex.split(line)[1:] for line in lines_of("Run") if name in line)
    assert [words[-1] for words in (sent, asked, collected)] == ["--submit", "--status", "--collect"]
    [graph] = [shlex.split(line)[1:] for line in lines_of("Plan") if name in line and "--graph" in line]
    drawn = run(graph, tree, "sent")
    assert drawn.returncode == 0, drawn.stderr[-2000:]
    done = run(sent, tree, "sent")
    assert done.returncode == 0, done.stderr[-2000:]
    jobs = [re.search(r"--job-name='?([\w-]+)", script)[1] for script in fake_slurm.scripts]
    assert sorted(jobs) == sorted(re.findall(r"^ *([\w-]+):", drawn.stdout, re.MULTILINE))
    behind: dict[str, set[str]] = {}  # by a job's number: those that it waits for, and that these wait for
    for number, options in enumerate(fake_slurm.options, start=1):
        needed = re.findall(r"\d+", next((word for word in options if word.startswith("--dependency=")), ""))
        behind[str(number)] = {*needed}.union(*(behind[one] for one in needed))
    training = str(1 + jobs.index(f"{name}-pretrain"))
    waiting = {job for job, before in zip(jobs, behind.values(), strict=True) if training in before}
    lists = {job for job in jobs if "-manifests" in job}
    assert waiting == {*jobs} - lists - {f"{name}-pretrain"}
    state = json.loads(run([*asked, "--json"], tree, "sent").stdout)
    assert {row["state"] for row in state} == {"pending"}
    gathered = run(collected, tree, "sent")
    assert gathered.returncode == 1  # nothing is measured yet
    missing = re.findall("^missing: (.*): pending", gathered.stderr, re.MULTILINE)
    assert sorted(missing) == sorted(row["item"] for row in state if not row["item"].startswith("stage:"))
    assert not (tree / "results" / "paper" / name).exists()


@pytest.mark.slow
def test_from_data_to_the_figures(tree: Path) -> None:
    submits = [line for line in lines_of("Run") if "--submit" in line]
    assert len(submits) == len(EXPERIMENTS)
    for line in submits:
        words = [word for word in shlex.split(line)[1:] if word != "--submit"]  # all on this machine
        done = run(words, tree)
        assert done.returncode == 0, done.stderr[-2000:]
    records = sorted((tree / "results" / "paper").glob("*/*.json"))
    assert {path.parent.name for path in records} == set(EXPERIMENTS)
    assert {json.loads(path.read_text())["status"] for path in records} == {"ok"}
    configs = [json.loads(path.read_text())["config"] for path in records]
    read = [config[name] for config in configs for name in ("pretrain", "no_action") if config.get(name)]
    assert read
    assert {(recipe["shards"], recipe["pairs"]) for recipe in read} == {(90, 100_000)}  # as in scale paper


@pytest.mark.slow
def test_figures_and_check_are_complete(tree: Path) -> None:
    """By the page's commands, over the committed records of scale mini and those of the test above."""
    made, released = (shlex.split(line) for line in lines_of("Figures and check"))
    assert made == ["make", "figures", "check"]
    drawn = make("figures", tree)
    assert drawn.returncode == 0, drawn.stderr[-2000:]
    for name in ("figure3_ssv2", "figure3_ego4d", "figure4_robosuite", "figure5_robosuite"):
        assert (tree / "paper" / "out" / "paper" / f"{name}.png").is_file()
    assert released[:3] == ["python", "-m", "paper.check"]
    checked = run([*released[1:], "--json"], tree)
    found = json.loads(checked.stdout)
    verdicts = {item["id"]: item["verdict"] for item in found["items"]}
    assert found["problems"] == []
    assert {scale for scale, _, _ in (name.partition("/") for name in verdicts)} == {"mini", "paper"}
    assert not {"missing", "failed"} & set(verdicts.values())
    # Networks of four steps show few of the claims. What differs is to be named, as the page says.
    assert {verdicts[name] for name in found["failing"]} <= {"differs"}
    assert checked.returncode == bool(found["failing"])
    with (tree / "paper" / "deviations.md").open("a", encoding="utf-8") as ledger:
        ledger.writelines(f"`{name}`\n" for name in found["failing"])
    named = make("check", tree)
    assert named.returncode == 0, named.stdout[-2000:]
    assert run(released[1:], tree).returncode == 0
    (tree / "results" / "paper" / "table1" / "uwm__ssv2.json").unlink()
    checked = run(released[1:], tree)
    assert (checked.returncode, " missing" in checked.stdout) == (1, True)
