"""Cycle, reversal and leak of latent actions, of models whose answers are known by hand."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from uwm.evaluation.actions import StatePairs, cycle_errors, reversal_errors, stitched_errors
from uwm.models import MAE_PRESETS, LatentActions, WorldModel, WorldModelConfig

CLIPS = ["a", "a", "b", "b", "c", "c"]


class Change:
    """The action is what changes: the same on any state, its negative on the way back."""

    def infer_actions(self, s_t: Tensor, s_next: Tensor) -> LatentActions:
        action = s_next - s_t
        return LatentActions(action, action, action.new_zeros((len(action), 0)).long())

    def predict(self, s_t: Tensor, quantized: Tensor) -> Tensor:
        return s_t + quantized


class NextState(Change):
    """The action is a code of the next state."""

    def infer_actions(self, s_t: Tensor, s_next: Tensor) -> LatentActions:
        return LatentActions(s_next, s_next, s_next.new_zeros((len(s_next), 0)).long())

    def predict(self, s_t: Tensor, quantized: Tensor) -> Tensor:
        return quantized


class Ignored(Change):
    def predict(self, s_t: Tensor, quantized: Tensor) -> Tensor:
        return s_t


class OfItsClip(Change):
    """An action that does twice as much where the state is positive."""

    def predict(self, s_t: Tensor, quantized: Tensor) -> Tensor:
        return s_t + quantized * (1 + (s_t > 0))


@pytest.fixture(scope="module")
def pairs() -> StatePairs:
    states = torch.randn(
        (2, len(CLIPS), 5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.double
    )
    return StatePairs(states[0], states[1], CLIPS, torch.empty(len(CLIPS), 0))


def over(found: dict[str, Tensor], above: str, below: Tensor) -> float:
    return float(found[above].mean() / below.mean())


def of_copy(pairs: StatePairs) -> Tensor:
    return (pairs.s_t - pairs.s_next).square().mean((1, 2))


@pytest.fixture(autouse=True)
def read_as_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StatePairs, "read_by", lambda self, model: (self.s_t, self.s_next))


def test_the_cycle_of_a_change_is_exact_and_that_of_an_ignored_action_is_the_copys_change(
    pairs: StatePairs,
) -> None:
    assert over(cycle_errors(Change(), pairs), "cycle_mse", of_copy(pairs)) == pytest.approx(0, abs=1e-12)
    # What was ignored elsewhere is read as nothing, and S_t stays as it is.
    assert over(cycle_errors(Ignored(), pairs), "cycle_mse", of_copy(pairs)) == pytest.approx(1)
    assert over(cycle_errors(OfItsClip(), pairs), "cycle_mse", of_copy(pairs)) > 0.5


def test_the_cycle_does_not_see_a_code_of_the_next_state(pairs: StatePairs) -> None:
    assert over(cycle_errors(NextState(), pairs), "cycle_mse", of_copy(pairs)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("model", "ratio"), [(Change(), 0.0), (NextState(), 1.0)])
def test_the_reversal_of_a_change_is_its_inverse(pairs: StatePairs, model: Change, ratio: float) -> None:
    found = reversal_errors(model, pairs)
    assert over(found, "reversal_sum", found["reversal_parts"]) == pytest.approx(ratio, abs=1e-12)


def test_codes_without_a_vector_have_no_reversal(pairs: StatePairs) -> None:
    class Coded(Change):
        def infer_actions(self, s_t: Tensor, s_next: Tensor) -> LatentActions:
            codes = (s_next > s_t).long().flatten(1)
            return LatentActions(codes, codes, codes)

    assert reversal_errors(Coded(), pairs) == {}


class SeesColours:
    """As an MAE whose state is the picture's mean colour, and which draws a state in that colour."""

    def encode(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))[:, None].double()  # (B, 1, 3)

    def decode(self, states: Tensor) -> Tensor:
        return states[:, 0, :, None, None].expand(-1, 3, 2, 2)


def test_an_action_that_told_the_mean_colour_would_leak_all_of_a_plain_picture() -> None:
    dark, bright = torch.full((3, 2, 2), 51), torch.full((3, 2, 2), 204)  # 0.2 and 0.8
    frames = torch.stack([dark, bright]).to(torch.uint8)
    mae: Any = SeesColours()
    states = mae.encode(frames / 255)
    seen = StatePairs(states, states, ["a", "b"], frames, frames)
    model: Any = WorldModel(WorldModelConfig().fitted(MAE_PRESETS["tiny"]))
    model.infer_actions = lambda now, then: LatentActions(now, now, now)
    model.predict = lambda now, actions: now
    world: Any = SimpleNamespace(mae=mae, world_model=model)
    network: Any = lambda a, b: (a - b).square().mean((1, 2, 3))  # noqa: E731
    found = stitched_errors(world, network, seen)
    assert found["stitched_mse_copy"].tolist() == pytest.approx([0.36, 0.36])
    assert found["stitched_mse_colour"].tolist() == pytest.approx([0, 0], abs=1e-9)
    without = stitched_errors(world, network, seen._replace(o_t=None))
    assert "stitched_mse_colour" not in without
