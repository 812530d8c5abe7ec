"""Trainings in a robot's domain with the picture in their loss: fine-tuning, and direct dynamics."""

from pathlib import Path

import pandas as pd
import pytest

from uwm.bounds import OutOfBounds
from uwm.metrics.perceptual import load_lpips
from uwm.runs.cli import run_experiment
from uwm.runs.experiment import load_experiment
from uwm.stages.baselines import DynamicsRecipe
from uwm.stages.finetune import FinetuneRecipe
from uwm.stages.world_model import PerceptualRecipe
from uwm.training.loop import TrainConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places of the test's own, and an untrained network, since weights may not be at hand."""
    monkeypatch.setenv("UWM_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    for stage in ("finetune", "baselines"):
        monkeypatch.setattr(f"uwm.stages.{stage}.published_lpips", lambda name: load_lpips("random"))


def curves(cache: Path, stage: str) -> list[pd.DataFrame]:
    return [pd.read_csv(path) for path in sorted(cache.glob(f"{stage}-*/curve.csv"))]


@pytest.mark.slow
def test_direct_dynamics_go_on_with_the_picture_in_their_loss(tmp_path: Path) -> None:
    settings = ["dynamics.picture_weight=0.5", "dynamics.perceptual.weight=1"]
    settings += ["dynamics.perceptual.train.steps=2", "dynamics.perceptual.train.batch_size=4"]
    settings += ["dynamics.perceptual.train.warmup_steps=0", "test_pairs=4"]
    words = ["--scale", "smoke", "--only", "direct/*", "--set", *settings]
    assert run_experiment(load_experiment(ROOT / "experiments" / "figure5.py"), words) == 0
    first, second = sorted(curves(tmp_path / "cache", "direct"), key=lambda curve: "lpips" in curve)
    assert first["step"].max() == 3
    assert second["step"].max() == 2
    assert (second["lpips"] > 0).all()
    assert "lpips" not in first
    assert "picture_loss" not in first
    assert (second["picture_loss"] > 0).all()
    assert curves(tmp_path / "cache", "finetune") == []  # no world model is needed


@pytest.mark.slow
def test_fine_tuning_has_it_in_every_step(tmp_path: Path) -> None:
    words = ["--scale", "smoke", "--only", "w_ft/*", "--set", "finetune.perceptual_weight=1", "test_pairs=4"]
    assert run_experiment(load_experiment(ROOT / "experiments" / "figure4.py"), words) == 0
    (curve,) = curves(tmp_path / "cache", "finetune")
    assert len(curve) == curve["step"].max() == 3
    assert (curve["lpips"] > 0).all()


def test_an_untrained_network_is_refused_in_a_loss() -> None:
    train = TrainConfig(steps=1, batch_size=4)
    with pytest.raises(OutOfBounds, match="trained network"):
        FinetuneRecipe(train, perceptual_lpips="random")
    with pytest.raises(OutOfBounds, match="trained network"):
        DynamicsRecipe(train, perceptual=PerceptualRecipe(lpips="random"))
