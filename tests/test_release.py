"""The released weights: they are the current recipe's, small, documented, and they work."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from uwm.data.corpora import BUNDLED, bundled
from uwm.data.crops import center_crop
from uwm.data.manifest import build_manifest
from uwm.data.pairs import load_pairs
from uwm.errors import UserError
from uwm.models.storage import read_metadata
from uwm.models.world import World
from uwm.release import FILES, LARGEST, release
from uwm.runs.artifacts import RELEASED, Artifacts
from uwm.runs.experiment import load_experiment
from uwm.stages.mae import reconstruction_psnr
from uwm.stages.trained import WEIGHTS
from uwm.stages.world_model import obtain_world
from uwm.training.objectives import action_gap

ROOT = Path(__file__).resolve().parents[1]
MINI = load_experiment(ROOT / "experiments" / "table1.py").configs["mini"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world of scale mini; an empty cache, so that only released weights can be found at once."""
    artifacts = Artifacts(tmp_path_factory.mktemp("cache"))
    corpora = {name: bundled(name) for name in MINI.pretrain_on}

    def stop() -> bool:
        raise AssertionError("a released stage was not found: its recipe or what it reads has changed")

    world = obtain_world(MINI.mae, MINI.pretrain, corpora, artifacts, stop)
    assert {artifact.origin for artifact in artifacts.obtained.values()} == {"released"}
    return world


def test_each_has_its_weights_curve_and_recipe() -> None:
    folders = [path for path in RELEASED.iterdir() if path.is_dir()]
    assert {folder.name.rpartition("-")[0] for folder in folders} == {"mae", "world-model"}
    for folder in folders:
        assert {path.name for path in folder.iterdir()} == set(FILES)
        assert (folder / WEIGHTS).stat().st_size <= LARGEST
        assert json.loads((folder / "stage.json").read_text())["digest"] in folder.name
        assert read_metadata(folder / WEIGHTS)["card"]["recipe"]
        assert pd.read_csv(folder / "curve.csv").filter(like="val/").notna().any().all()


def test_the_mae_shows_pictures_that_it_has_not_seen(world: World) -> None:
    frames = {}
    for name in BUNDLED:
        manifest = build_manifest(bundled(name), "test", pairs=40)
        images = load_pairs(bundled(name), manifest, MINI.pretrain.short_side)
        frames[name] = center_crop(images[:, 0], world.image_size, world.image_size)
    assert all(value > 28 for value in reconstruction_psnr(world.mae, frames).values())  # dB


def test_the_dynamics_use_the_actions(world: World) -> None:
    for name in BUNDLED:
        manifest = build_manifest(bundled(name), "test", pairs=60)
        images = load_pairs(bundled(name), manifest, MINI.pretrain.short_side)
        states = world.encode(center_crop(images, world.image_size, world.image_size))
        gaps = action_gap(world.world_model, [states], torch.Generator().manual_seed(0))
        assert gaps["state_mse"] < 0.4 * gaps["state_mse_copy"]
        assert gaps["state_mse_shuffled"] > 1.3 * gaps["state_mse"]
        assert gaps["perplexity"] > 100


def test_an_unfinished_stage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mae-0").mkdir()
    with pytest.raises(UserError, match="no finished training stage") as caught:
        release(tmp_path / "mae-0", tmp_path / "released")
    assert "\n" not in str(caught.value)


def test_a_release_replaces_the_one_before(tmp_path: Path) -> None:
    for digest in ("1", "2"):
        folder = tmp_path / "cache" / f"world-model-{digest}"
        folder.mkdir(parents=True)
        for name in FILES:
            (folder / name).write_text(digest)
        (folder / "run").mkdir()
        release(folder, tmp_path / "released")
    assert [path.name for path in (tmp_path / "released").iterdir()] == ["world-model-2"]
    assert sorted(path.name for path in (tmp_path / "released" / "world-model-2").iterdir()) == sorted(FILES)
