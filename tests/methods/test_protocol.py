"""The boundary of a model of others, and how frames of another size are resized."""

import pytest
import torch
from torch.nn.functional import interpolate

from tests.methods import models
from uwm.errors import BadInput
from uwm.methods.protocol import CheckedModel, LatentActionModel, resize_frames


def frames(count: int = 3, size: int = models.SIZE) -> torch.Tensor:
    return torch.rand((count, 3, size, size), generator=torch.Generator().manual_seed(0))


def test_what_is_right_goes_through_as_it_is() -> None:
    model: LatentActionModel = models.Perfect()
    checked = CheckedModel(model, "mine")
    now, then = frames(), frames().flip(0)
    actions = checked.infer(now, then)
    assert torch.equal(actions, then)
    assert torch.equal(checked.predict(now, actions), then)
    assert checked.embed(actions).shape == (3, 3 * 32 * 32)
    assert checked.parameters is None


def test_parameters_of_a_module_are_counted() -> None:
    class Network(torch.nn.Linear, models.Perfect):
        pass

    assert CheckedModel(Network(4, 5), "mine").parameters == 25


@pytest.mark.parametrize("name", ["List", "OneAction", "NotFinite", "Complex", "Negative"])
def test_a_wrong_action_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="method mine: infer gave"):
        CheckedModel(getattr(models, name)(), "mine").infer(frames(), frames())


@pytest.mark.parametrize("name", ["Small", "Bytes", "Signed", "NaNs", "Elsewhere"])
def test_a_wrong_frame_is_refused(name: str) -> None:
    model = CheckedModel(getattr(models, name)(), "mine")
    with pytest.raises(BadInput, match="method mine: predict gave"):
        model.predict(frames(), frames())


@pytest.mark.parametrize("name", ["NoBits", "NoSize", "NoPredict"])
def test_a_wrong_declaration_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="method mine: "):
        CheckedModel(getattr(models, name)(), "mine")


def test_frames_are_resized_bicubically_with_antialias_and_clipped() -> None:
    large = frames(size=48).round()  # black and white: bicubic overshoots
    small = resize_frames(large, 20)
    plain = interpolate(large, size=(20, 20), mode="bicubic", antialias=True)
    assert plain.min() < 0
    assert plain.max() > 1
    assert torch.equal(small, plain.clamp(0, 1))
    assert resize_frames(large, 48) is large
