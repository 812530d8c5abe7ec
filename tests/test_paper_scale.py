"""docs/paper-scale.md: its commands, on small files in the layouts of their owners."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.data.video_files import write_video
from tests.documents import BLOCK, ROOT, commands, section
from tests.robot_toy import write_toy
from uwm.models import MAE_PRESETS, MaskedAutoencoder

PAGE = ROOT / "docs" / "paper-scale.md"
DATA = ("SSV2", "EGO4D", "ROBOSUITE.hdf5")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has after the page's first section, small: SSV2, EGO4D, ROBOSUITE.hdf5 and the weights."""
    folder = tmp_path_factory.mktemp("paper")
    labels = {"train": range(1, 7), "validation": range(7, 10), "test": range(10, 13)}
    (folder / "SSV2" / "labels").mkdir(parents=True)
    for split, numbers in labels.items():
        rows = [{"id": str(number), "label": "x"} for number in numbers]
        (folder / "SSV2" / "labels" / f"{split}.json").write_text(json.dumps(rows))
        for number in numbers:
            write_video(folder / "SSV2" / "20bn-something-something-v2" / f"{number}.webm", 24)
    uids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(24)]
    for uid in uids:
        write_video(folder / "EGO4D" / "v2" / "video_540ss" / f"{uid}.mp4", 40)
    table = {"videos": [{"video_uid": uid, "duration_sec": 1.3, "video_components": []} for uid in uids]}
    (folder / "EGO4D" / "v2" / "ego4d.json").write_text(json.dumps(table | {"clips": []}))
    write_toy(folder / "ROBOSUITE.hdf5", demos=90)  # Figures 4 and 5 take 2,000 pairs
    places = "\n".join(f'{name.lower().partition(".")[0]} = "{folder / name}"' for name in DATA)
    (folder / "SITE.toml").write_text(f"[data]\n{places}\n")
    weights = folder / "weights"
    weights.mkdir()
    save_published(weights / "mae_visualize_vit_base.pth")
    torch.save({}, weights / "alexnet_features.pth")  # a plan asks only whether it is there
    return folder


def save_published(path: Path) -> None:
    """A fresh ViT-B under the file's own keys: `model`, positions included."""
    config = MAE_PRESETS["base"]
    with torch.device("meta"):
        names = MaskedAutoencoder(config).state_dict()  # ours are those of the file
    torch.save({"model": {name: torch.zeros(tensor.shape) for name, tensor in names.items()}}, path)
    assert MaskedAutoencoder.load(path).config == config


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "UWM_CACHE": str(folder / "cache"),
        "UWM_RUNS": str(folder / "runs"),
        "UWM_WEIGHTS": str(folder / "weights"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("UWM_SITE", None)
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def words_of(*titles: str) -> list[str]:
    return [
        shlex.join(words)
        for title in titles
        for language, text in BLOCK.findall(section(PAGE, title))
        if language == "sh"
        for words in commands(text)
    ]


@pytest.mark.parametrize("line", words_of("Look", "Count", "Plan"))
def test_a_command_of_the_page(world: Path, line: str):
    words = shlex.split(line)[1:]
    words = [str(ROOT / word) if word.startswith("experiments/") else word for word in words]
    done = run(words, world)
    assert done.returncode == 0, done.stderr[-1500:]
    if words[0].endswith(".py"):
        assert "pretrain" in done.stdout  # which all three share


def test_what_is_missing_is_named_before_anything_is_computed(world: Path, tmp_path: Path):
    shutil.copytree(world / "SSV2", tmp_path / "SSV2")
    (tmp_path / "weights").mkdir()
    words = [str(ROOT / "experiments" / "table1.py"), "--scale", "paper", "--dry-run"]
    done = run([*words, "--data", "ssv2=SSV2"], tmp_path)
    assert done.returncode == 2
    assert "mae_visualize_vit_base.pth" in done.stderr or "ego4d" in done.stderr
