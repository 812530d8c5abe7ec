"""docs/paper-scale.md: its commands, on small files in the layouts of their owners."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tests.data.robot_simulator import needs_robosuite
from tests.documents import BLOCK, ROOT, commands, section
from tests.paper_world import write_world
from tests.test_cost import SHOWN
from tests.warm import run_python
from uwm import prefetch
from uwm.data import prepare
from uwm.data.corpora import open_corpus
from uwm.data.prepared_list import drawn_by, given_options
from uwm.data.shards import find_shards
from uwm.metrics.backbones import DOWNLOADS
from uwm.models import MAE_PRESETS, MaskedAutoencoder
from uwm.stages.mae import MAE
from uwm.stages.pair_training import training_manifest
from uwm.stages.world_model import PRETRAIN

PAGE = ROOT / "docs" / "paper-scale.md"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has after the page's first section, small: SSV2, EGO4D, ROBOSUITE.hdf5 and the weights."""
    folder = tmp_path_factory.mktemp("paper")
    write_world(folder, MAE_PRESETS["base"])  # Figures 4 and 5 take 2,000 pairs
    return folder


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "UWM_CACHE": str(folder / "cache"),
        "UWM_RUNS": str(folder / "runs"),
        "UWM_WEIGHTS": str(folder / "weights"),
        "UWM_SHARDS": str(folder / "SHARDS"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("UWM_SITE", None)
    return run_python(words, folder, environment, timeout=300)


def words_of(*titles: str) -> list[str]:
    return [
        shlex.join(words)
        for title in titles
        for language, text in BLOCK.findall(section(PAGE, title))
        if language == "sh"
        for words in commands(text)
    ]


COMMANDS = words_of("Decode once", "Count", "Plan")  # tests/test_runbook.py has those of "Look" too
COUNTING = "python -m uwm.cost"  # the same command, with what it prints, is run by tests/test_cost.py


def test_the_sizes_of_the_weights_on_the_page():
    """The MAE's by its tensors, in fp32; AlexNet's as torchvision states it, in MiB."""
    with torch.device("meta"):
        state = MaskedAutoencoder(MAE["paper"].model).state_dict()
    mae = round(4e-6 * sum(tensor.numel() for tensor in state.values()))
    alexnet = round(DOWNLOADS["alex"].meta["_file_size"] * 2**20 / 1e6)
    rows = {
        row.split("|")[1].strip(): row.split("|")[2]
        for row in section(PAGE, "Fetch").splitlines()
        if "|" in row
    }
    assert f" {mae} MB, counted" in rows["`mae_visualize_vit_base.pth`"]
    assert f" {alexnet} MB, as torchvision" in rows["LPIPS: AlexNet, the network that it rests on"]
    assert prefetch.__doc__ is not None
    assert f"about {round(mae + alexnet, -1)} MB" in prefetch.__doc__


def test_what_is_counted_elsewhere_is():
    left_out = [line for line in COMMANDS if line.startswith(COUNTING)]
    shown = [text.splitlines()[0].removeprefix("$ ") for text in SHOWN]
    assert left_out
    assert {line.split("#")[0].strip() for line in left_out} <= {*shown}


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in COMMANDS if not line.startswith(COUNTING)])
def test_a_command_of_the_page(world: Path, line: str):
    words = shlex.split(line.replace("$SLURM_ARRAY_TASK_ID/32", "0/1"))[1:]
    words = [str(ROOT / word) if word.startswith("experiments/") else word for word in words]
    done = run(words, world)
    assert done.returncode == 0, done.stderr[-1500:]
    if words[0].endswith(".py"):
        assert "pretrain" in done.stdout  # which all three share
        assert "warning" not in done.stderr


@pytest.mark.slow
@needs_robosuite
@pytest.mark.robosuite
def test_the_array_tasks_of_the_page_make_the_in_domain_set(tmp_path: Path):
    """As two tasks, of few episodes and small pictures; the second one joins the file."""
    [line] = [line for line in words_of("Fetch") if line.startswith("sbatch")]
    words = shlex.split(line)
    task = words[words.index("--wrap") + 1]
    for number in range(2):
        told = shlex.split(task.replace("$SLURM_ARRAY_TASK_ID/32", f"{number}/2"))
        assert told[0] == "python"
        done = run([*told[1:], "--episodes", "3", "--size", "32"], tmp_path)
        assert done.returncode == 0, done.stderr[-1500:]
    corpus = open_corpus("robosuite", tmp_path / "ROBOSUITE.hdf5")
    assert {clip.split for clip in corpus.clips} == {"train", "validation", "test"}


@pytest.mark.slow
def test_the_shards_of_the_page_are_of_the_pairs_that_the_training_reads(
    world: Path, monkeypatch: pytest.MonkeyPatch
):
    """Toy corpora have fewer pairs than are asked for, so what is asked for is compared too."""
    monkeypatch.setenv("UWM_CACHE", str(world / "cache"))
    recipe = PRETRAIN["paper"]
    assert recipe.shards is not None
    for name in ("ssv2", "ego4d"):
        lines = [line for line in words_of("Decode once") if f" {name}=" in line]
        for line in lines:
            assert run(shlex.split(line.replace("$SLURM_ARRAY_TASK_ID/32", "0/1"))[1:], world).returncode == 0
        asked = prepare._parser().parse_args(shlex.split(lines[0])[3:])
        drawn = drawn_by(given_options(asked))
        assert (drawn.pairs, drawn.pairs_per_visit) == (recipe.pairs, recipe.pairs_per_visit)
        assert (drawn.gap, drawn.seed, drawn.split) == (recipe.gap, recipe.train.seed, "train")
        manifest = training_manifest(open_corpus(name, world / name.upper()), recipe)
        assert find_shards(world / "SHARDS", manifest, recipe.short_side, recipe.shards).name == name


def test_what_is_missing_is_named_before_anything_is_computed(world: Path, tmp_path: Path):
    shutil.copytree(world / "SSV2", tmp_path / "SSV2")
    (tmp_path / "weights").mkdir()
    words = [str(ROOT / "experiments" / "table1.py"), "--scale", "paper", "--dry-run"]
    done = run([*words, "--data", "ssv2=SSV2"], tmp_path)
    assert done.returncode == 2
    assert "mae_visualize_vit_base.pth" in done.stderr or "ego4d" in done.stderr
