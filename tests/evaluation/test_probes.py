"""Real actions read off latent ones, and off the gripper's true movement in the picture."""

from pathlib import Path

import pytest
import torch

from tests.robot_toy import SIDE, write_toy
from uwm.data.corpora import open_corpus
from uwm.data.states import FrozenEncoder
from uwm.evaluation.eval_pairs import EvalSetting, load_eval_pairs
from uwm.evaluation.predictors import Prediction, Step
from uwm.evaluation.probes import action_probes
from uwm.models import LatentActions


def told(step: Step) -> Prediction:
    """A method whose latent actions are the real ones."""
    means = (step.actions * step.mask[..., None]).sum(1) / step.mask.sum(1, keepdim=True)
    return Prediction(step.s_t, LatentActions(means[:, None], means[:, None], torch.zeros(0)))


def setting(tmp_path: Path, hand: bool) -> EvalSetting:
    """Pairs of a toy robot: two of its three controls move the square, the third does nothing."""
    corpus = open_corpus("toy", write_toy(tmp_path / "toy.hdf5", demos=40, hand=hand))
    blind = FrozenEncoder("blind", SIDE, lambda images: torch.zeros(len(images), 2, 4))
    return EvalSetting(blind, corpus, SIDE, 0.2)


def test_the_true_movement_tells_what_moves(tmp_path: Path) -> None:
    seen = setting(tmp_path, hand=True)
    test = load_eval_pairs(seen, "test", 1000, 0)
    found = action_probes(told, torch.device("cpu"), seen, test, 1000).metrics
    assert found["probe_r2"].value == pytest.approx(1, abs=0.01)
    # Two of three numbers, but for the walls that the square runs into.
    assert 0.4 < found["probe_r2_movement"].value < 0.7


def test_without_the_gripper_s_place_there_is_no_reference(tmp_path: Path) -> None:
    unseen = setting(tmp_path, hand=False)
    test = load_eval_pairs(unseen, "test", 1000, 0)
    found = action_probes(told, torch.device("cpu"), unseen, test, 1000).metrics
    assert set(found) == {"probe_r2", "probe_r2_mlp"}
