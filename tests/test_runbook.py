"""docs/paper-scale.md from end to end at toy size: the networks and steps are those of scale `smoke`.

Everything else is as the page says: the owners' layouts, a published MAE's file, places of the data from
SITE.toml, records in results/paper, figures and check from them.
"""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.documents import BLOCK, ROOT, commands, section
from tests.paper_world import TINY, write_lpips, write_world
from tests.warm import run_python
from uwm.runs.settings import plain

PAGE = ROOT / "docs" / "paper-scale.md"
EXPERIMENTS = ("table1", "figure4", "figure5")
CORPORA = {"table1": ("ssv2", "ego4d"), "figure4": ("robosuite",), "figure5": ("robosuite",)}
FEWER = {"table1": "", "figure4": "curve=(),", "figure5": "curve=(),"}  # no claim is about these cells
# Put into a copy of an experiment's file in the place of its scale `paper`.
TOY = """
from dataclasses import replace as _replace
from uwm.models import MAEConfig
CONFIGS["paper"] = _replace(
    CONFIGS["smoke"],
    corpora={corpora!r},
    pretrain_on=("ssv2", "ego4d"),
    mae=_replace(MAE["paper"], model=MAEConfig(**{sizes!r})),
    {fewer}
)
"""


def lines_of(title: str) -> list[str]:
    """The commands of a section of the page."""
    found = [text for language, text in BLOCK.findall(section(PAGE, title)) if language == "sh"]
    return [shlex.join(words) for text in found for words in commands(text)]


def toy_experiments(folder: Path) -> None:
    """Copies of the experiments whose scale `paper` is small."""
    folder.mkdir()
    for name in EXPERIMENTS:
        text = (ROOT / "experiments" / f"{name}.py").read_text(encoding="utf-8")
        declared = '    "paper": Config(),\n}\n'
        assert text.count(declared) == 1
        toy = TOY.format(corpora=CORPORA[name], sizes=plain(TINY), fewer=FEWER[name])
        (folder / f"{name}.py").write_text(text.replace(declared, "}\n" + toy), encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Experiments, data and weights, as on the disk of somebody who followed the page."""
    folder = tmp_path_factory.mktemp("runbook")
    toy_experiments(folder / "experiments")
    write_world(folder, TINY, demos=16, seed=0)
    write_lpips(folder / "weights")
    return folder


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    places = {f"UWM_{name.upper()}": str(folder / name) for name in ("cache", "runs", "weights")}
    environment = os.environ | places | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("UWM_SITE", None)
    return run_python(words, folder, environment, timeout=600)


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
    chosen = ["--results", str(tree / "results"), "--scale", "paper"]
    drawn = run(["-m", "paper.figures", *chosen, "--out", str(tree / "out"), "--processes", "1"], tree)
    assert drawn.returncode == 0, drawn.stderr[-2000:]
    for name in ("figure3_ssv2", "figure3_ego4d", "figure4_robosuite", "figure5_robosuite"):
        assert (tree / "out" / "paper" / f"{name}.png").is_file()
    checked = run(
        ["-m", "paper.check", *chosen, "--experiments", str(tree / "experiments"), "--release", "--json"],
        tree,
    )
    found = json.loads(checked.stdout)
    assert found["problems"] == []
    assert [item["id"] for item in found["items"] if item["verdict"] in ("missing", "failed")] == []
    assert found["items"]
