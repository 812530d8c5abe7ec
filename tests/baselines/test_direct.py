"""Direct and action-free dynamics: shapes, masks, sizes, and what each can learn."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from uwm.baselines.direct import DirectDynamics, DirectDynamicsConfig, direct_config
from uwm.data.draws import Draws
from uwm.models import ActionAdapter, ActionAdapterConfig, ControllerConfig, Dynamics, TokenConfig
from uwm.models.dynamics import DynamicsConfig
from uwm.training.adaptation import NextState

TOKENS = TokenConfig(16, 5, 8, 8, "regions", codes_per_region=2)
WORLD = DynamicsConfig(depth=1, heads=2, output="state", residual=True)
CONTROLLER = ControllerConfig((-2.0,) * 3, (2.0,) * 3, 4)
ADAPTER = ActionAdapterConfig(depth=1, heads=2, tokens=TOKENS, codes=32, controller=CONTROLLER)
DIRECT, NONE = direct_config(ADAPTER, WORLD), direct_config(ADAPTER, WORLD, use_action=False)


def moves(count: int, seed: int) -> dict[str, Tensor]:
    """The next state is this one plus a linear map of the mean action: nothing else tells it."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(9))
    s_t = torch.randn(count, 5, 16, generator=generator)
    actions = 4 * torch.rand(count, 1, 3, generator=generator).expand(-1, 4, -1) - 2
    s_next = s_t + torch.einsum("ba,and->bnd", actions[:, 0], kernel)
    mask = torch.ones(count, 4, dtype=torch.bool)
    return {"states": torch.stack([s_t, s_next], 1), "actions": actions, "mask": mask}


def fitted(model: nn.Module, steps: int = 250) -> float:
    """Error on unseen pairs, as a share of the copy's."""
    objective = NextState(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        objective(moves(64, step), Draws(torch.Generator()))["loss"].backward()
        optimizer.step()
    test = moves(128, 10_000)
    s_t, s_next = test["states"].unbind(1)
    with torch.no_grad():
        return float(objective(test, Draws(torch.Generator()))["loss"] / (s_t - s_next).square().mean())


def test_only_the_direct_dynamics_learn_what_an_action_does() -> None:
    assert fitted(DirectDynamics(DIRECT)) < 0.2
    assert 0.9 < fitted(DirectDynamics(NONE)) < 1.2


def test_masked_actions_change_nothing() -> None:
    model, batch = DirectDynamics(DIRECT).eval(), moves(4, 0)
    nn.init.normal_(model.dynamics.head.weight)
    s_t, actions = batch["states"][:, 0], batch["actions"]
    mask = torch.tensor([[True, True, False, False]]).expand(4, -1)
    expected = model(s_t, actions, mask)
    spoiled = torch.where(mask[..., None], actions, torch.nan)
    assert torch.equal(model(s_t, spoiled, mask), expected)
    torch.testing.assert_close(model(s_t, actions[:, :2], mask[:, :2]), expected)
    assert not torch.allclose(model(s_t, actions, torch.ones(4, 4, dtype=torch.bool)), expected)


def test_without_action_no_action_matters() -> None:
    model, batch = DirectDynamics(NONE).eval(), moves(4, 0)
    nn.init.normal_(model.dynamics.head.weight)
    first = model(batch["states"][:, 0], batch["actions"], batch["mask"])
    assert torch.equal(model(batch["states"][:, 0], -batch["actions"], batch["mask"]), first)


def test_sizes_are_those_of_adapter_and_dynamics_together() -> None:
    def size(*modules: nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    whole = size(ActionAdapter(ADAPTER), Dynamics(WORLD, TOKENS))
    assert size(DirectDynamics(DIRECT)) == size(DirectDynamics(NONE)) == whole


@pytest.mark.parametrize("config", [DIRECT, NONE])
def test_save_and_load(config: DirectDynamicsConfig, tmp_path: Path) -> None:
    model, batch = DirectDynamics(config, seed=1).eval(), moves(2, 0)
    nn.init.normal_(model.dynamics.head.weight)
    model.save(tmp_path / "m.safetensors")
    arguments = (batch["states"][:, 0], batch["actions"], batch["mask"])
    loaded = DirectDynamics.load(tmp_path / "m.safetensors")
    assert loaded.config == config
    assert torch.equal(loaded(*arguments), model(*arguments))
