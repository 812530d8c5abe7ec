"""A model's seed draws its weights, and touches no generator that is the user's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tests.models.tiny_world import TINY
from uwm.baselines.direct import DirectDynamics, DirectDynamicsConfig
from uwm.baselines.ficc import FICC, FICCConfig
from uwm.baselines.probe import fit_mlp
from uwm.baselines.reader import ReaderConfig, StateReader
from uwm.models import (
    MAE_PRESETS,
    ActionAdapter,
    ActionAdapterConfig,
    ControllerConfig,
    MaskedAutoencoder,
    WorldModel,
)

CONTROLLER = ControllerConfig((-1.0,), (1.0,), 2)
ADAPTER = ActionAdapterConfig(depth=1).fitted(TINY, CONTROLLER)
CONTINUOUS = ActionAdapterConfig(depth=1, target="continuous", decode="likeliest").fitted(TINY, CONTROLLER)
READINGS = torch.linspace(-1, 1, 24).view(8, 3)


def probe(seed: int) -> nn.Module:
    return fit_mlp(READINGS, READINGS, (READINGS, READINGS), width=4, epochs=1, seed=seed)


@pytest.mark.parametrize(
    "build",
    [
        lambda seed: WorldModel(TINY, seed),
        lambda seed: MaskedAutoencoder(MAE_PRESETS["tiny"], seed),
        lambda seed: ActionAdapter(ADAPTER, seed),
        lambda seed: DirectDynamics(DirectDynamicsConfig(CONTINUOUS, TINY.dynamics), seed),
        lambda seed: FICC(FICCConfig().fitted(64), seed),
        lambda seed: StateReader(ReaderConfig(tokens=TINY.tokens), seed),
        probe,
    ],
    ids=["world", "mae", "adapter", "direct", "ficc", "reader", "probe"],
)
def test_the_seed_draws_the_weights_alone(
    build: Callable[[int], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`torch.manual_seed`, which sets the generators of GPUs too, is not called."""

    def forbidden(seed: Any) -> None:
        pytest.fail(f"the generators of GPUs are set to {seed}")

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(7)
        monkeypatch.setattr(torch, "manual_seed", forbidden)
        before = torch.get_rng_state()
        one = build(0).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        again, other = build(0).state_dict(), build(1).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert any(not torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.gpu
def test_the_seed_draws_on_a_default_device_too() -> None:
    with torch.device("cuda"):
        before = torch.cuda.get_rng_state()
        one, again = (WorldModel(TINY, 0).state_dict() for _ in range(2))
        assert torch.equal(torch.cuda.get_rng_state(), before)
    assert all(torch.equal(value, again[name]) for name, value in one.items())
