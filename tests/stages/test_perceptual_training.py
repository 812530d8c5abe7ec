"""A training of the world model that goes on with a perceptual loss."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.stages.mae_and_world import MAE, PRETRAIN, obtain_mae_and_world
from uwm.bounds import OutOfBounds
from uwm.data.corpora import Corpus
from uwm.errors import UserError
from uwm.metrics.backbones import DownloadError
from uwm.metrics.perceptual import load_lpips
from uwm.runs.artifacts import Artifacts
from uwm.stages.world_model import PerceptualRecipe, world_model_stage
from uwm.training.loop import TrainConfig

PERCEPTUAL = PerceptualRecipe(
    weight=1.0,
    train=TrainConfig(steps=6, batch_size=4, learning_rate=1e-3, checkpoint_every=3, validate_every=6),
)


@pytest.fixture
def untrained_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The perceptual loss by an untrained network, since weights may not be at hand."""
    monkeypatch.setattr("uwm.stages.world_model.published_lpips", lambda name: load_lpips("random"))


@pytest.mark.usefixtures("untrained_network")
def test_a_perceptual_loss_goes_on_where_the_training_without_it_ended(
    corpus: Corpus, tmp_path: Path
) -> None:
    artifacts = Artifacts(tmp_path / "cache", tmp_path / "released")
    plain = obtain_mae_and_world(MAE, PRETRAIN, {"made": corpus}, artifacts, lambda: False)
    recipe = replace(PRETRAIN, perceptual=PERCEPTUAL)
    world = obtain_mae_and_world(MAE, recipe, {"made": corpus}, artifacts, lambda: False)
    assert world.weights["mae"] == plain.weights["mae"]
    assert int(world.world_model.step) == int(plain.world_model.step) + PERCEPTUAL.train.steps
    curve = pd.read_csv(artifacts.obtained["world-model"].path / "curve.csv")
    assert curve["step"].max() == PERCEPTUAL.train.steps
    assert (curve["lpips"] > 0).all()
    # Found by its own digest, with nothing else trained.
    again = Artifacts(tmp_path / "cache", tmp_path / "released", find_only=True)
    assert obtain_mae_and_world(MAE, recipe, {"made": corpus}, again, lambda: False).weights == world.weights


def test_a_perceptual_loss_needs_the_weights_of_a_trained_network(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_download(backbone: str) -> None:
        raise DownloadError("no internet")

    monkeypatch.setattr("uwm.metrics.backbones.torchvision_state", no_download)
    monkeypatch.setenv("UWM_WEIGHTS", "")
    recipe = replace(PRETRAIN, perceptual=replace(PERCEPTUAL, lpips="vgg"))
    with pytest.raises(UserError, match=r"no weights for lpips-vgg.*UWM_WEIGHTS"):
        obtain_mae_and_world(
            MAE, recipe, {"made": corpus}, Artifacts(tmp_path / "c", tmp_path / "r"), lambda: False
        )
    with pytest.raises(OutOfBounds, match="random"):
        replace(PRETRAIN, perceptual=replace(PERCEPTUAL, lpips="random"))


def test_a_training_without_it_keeps_its_digest() -> None:
    mae = MAE.model
    stages = [
        world_model_stage(recipe, mae, {}) for recipe in (PRETRAIN, replace(PRETRAIN, perceptual=PERCEPTUAL))
    ]
    assert "perceptual" not in stages[0].fields
    assert stages[0].digest != stages[1].digest
