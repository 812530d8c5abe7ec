"""Action adapter: shapes, masks, targets, and that fitting it leaves the world model's bytes alone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uwm.bounds import OutOfBounds, identity_fields
from uwm.data.draws import Draws
from uwm.errors import UserError
from uwm.models import (
    ActionAdapter,
    ActionAdapterConfig,
    ControllerConfig,
    TokenConfig,
    WorldModel,
    WorldModelConfig,
)
from uwm.models.action_extractor import ActionExtractorConfig
from uwm.models.blocks import ModulatedConvolution
from uwm.models.dynamics import DynamicsConfig
from uwm.models.quantizer import QuantizerConfig
from uwm.training.adaptation import AdapterRegression
from uwm.training.loop import TrainConfig, train

SIZES: dict[str, Any] = {"heads": 2, "depth": 1}
WORLD = WorldModelConfig(
    TokenConfig(16, 5, 8, 8, "regions", codes_per_region=2),
    ActionExtractorConfig(**SIZES),
    QuantizerConfig(codes=32, width=8, codebook_update="ema", data_init=False),
    DynamicsConfig(**SIZES, output="state", residual=True),
)
LOW, HIGH = torch.tensor([-1.0, -2.0, 0.0]), torch.tensor([1.0, 2.0, 10.0])
CONTROLLER = ControllerConfig(tuple(LOW.tolist()), tuple(HIGH.tolist()), 4)
ADAPTER = ActionAdapterConfig(depth=1).fitted(WORLD, CONTROLLER)


QUERIES = replace(WORLD.tokens, action_source="queries", codes_per_region=1)


def labelled(count: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(count, 4, generator=generator) < 0.7
    mask[:, 0] = True
    return {
        "states": torch.randn(count, 2, 5, 16, generator=generator),
        "actions": LOW + (HIGH - LOW) * torch.rand(count, 4, 3, generator=generator),
        "mask": mask,
    }


def test_the_config_is_that_of_the_world_model() -> None:
    assert (ADAPTER.tokens, ADAPTER.codes, ADAPTER.heads) == (WORLD.tokens, 32, 2)
    controller = ADAPTER.controller
    assert (controller.low, controller.high) == ((-1.0, -2.0, 0.0), (1.0, 2.0, 10.0))
    with pytest.raises(ValueError, match="fitted"):
        ActionAdapter(ActionAdapterConfig())


@pytest.mark.parametrize("target", ["continuous", "quantized", "codes", "prediction"])
@pytest.mark.parametrize("use_state", [True, False])
@pytest.mark.parametrize(
    ("source", "blocks"), [("regions", "attention"), ("queries", "attention"), ("regions", "convolutions")]
)
def test_every_variant_has_the_shapes_of_the_contract(
    target: Any, use_state: bool, source: Any, blocks: Any
) -> None:
    per_region = 2 if source == "regions" else 1
    tokens = replace(WORLD.tokens, action_source=source, codes_per_region=per_region)
    world = WorldModel(replace(WORLD, tokens=tokens)).eval()
    variant = ActionAdapterConfig(depth=1, target=target, use_state=use_state, blocks=blocks)
    config = variant.fitted(world.config, CONTROLLER)
    adapter, batch = ActionAdapter(config), labelled(3)
    out = AdapterRegression(adapter, world)(batch, Draws(torch.Generator()))
    out["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in adapter.parameters())
    assert all(p.grad is None for p in world.parameters())
    s_t = batch["states"][:, 0]
    assert adapter(s_t, batch["actions"], batch["mask"]).shape == (3, 8, 32 if target == "codes" else 8)
    actions = adapter.infer_actions(s_t, batch["actions"], batch["mask"], world.quantizer)
    assert actions.continuous.shape == actions.quantized.shape == (3, 8, 8)
    assert torch.equal(actions.quantized, world.quantizer.codebook[actions.codes])
    assert world.predict(s_t, actions.quantized).shape == s_t.shape


def test_the_mean_of_the_codes_is_weighed_by_their_probabilities() -> None:
    codes = replace(ADAPTER, target="codes")
    adapter, batch, world = mixed(replace(codes, decode="mean")), labelled(2), WorldModel(WORLD).eval()
    given = (batch["states"][:, 0], batch["actions"], batch["mask"])
    found = adapter.infer_actions(*given, world.quantizer)
    odds = adapter(*given).double().exp()  # (B, L, codes)
    rows = world.quantizer.codebook.double()
    expected = sum(odds[..., [k]] * rows[k] for k in range(len(rows))) / odds.sum(-1, keepdim=True)
    torch.testing.assert_close(found.quantized.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(found.continuous, found.quantized)
    likeliest = mixed(codes).infer_actions(*given, world.quantizer)
    assert torch.equal(found.codes, likeliest.codes)
    assert not torch.allclose(found.quantized, likeliest.quantized)


def test_only_codes_have_a_mean_by_their_probabilities() -> None:
    with pytest.raises(OutOfBounds, match="decode=likeliest"):
        replace(ADAPTER, target="continuous", decode="mean")


def test_how_codes_are_read_is_part_of_an_adapters_identity_only_where_it_differs() -> None:
    assert "decode" not in identity_fields(ADAPTER)
    assert identity_fields(replace(ADAPTER, target="codes", decode="mean"))["decode"] == "mean"


def mixed(config: ActionAdapterConfig) -> ActionAdapter:
    """An adapter in eval mode whose blocks are not the identity, as those of convolutions are at first."""
    adapter = ActionAdapter(config).eval()
    for block in adapter.blocks if config.blocks == "convolutions" else []:
        torch.nn.init.normal_(block.back.weight, generator=torch.Generator().manual_seed(0))
    return adapter


@pytest.mark.parametrize("blocks", ["attention", "convolutions"])
def test_masked_actions_change_nothing(blocks: Any) -> None:
    adapter, batch = mixed(replace(ADAPTER, blocks=blocks)), labelled(6)
    s_t, actions, mask = batch["states"][:, 0], batch["actions"], batch["mask"]
    expected = adapter(s_t, actions, mask)
    garbage = torch.where(mask[..., None], actions, torch.full_like(actions, 1e6))
    assert torch.equal(adapter(s_t, garbage, mask), expected)
    nan = torch.where(mask[..., None], actions, torch.full_like(actions, torch.nan))
    assert torch.equal(adapter(s_t, nan, mask), expected)
    first = mask & (torch.arange(4) < 2)
    short = adapter(s_t, actions[:, :2], first[:, :2])  # two steps, or four of which two are masked
    torch.testing.assert_close(adapter(s_t, actions, first), short, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(adapter(s_t, actions + 0.5, mask), expected)


def test_convolutions_see_neighbours_and_multiply_them_with_the_action() -> None:
    """By hand, for a block whose norm, kernel and ends are simple: x + gelu((1 + g) mean of 3 x 3 + 0)."""
    block = ModulatedConvolution(2)
    block.norm = torch.nn.Identity()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
        block.neighbours.weight[0, 0] = 1 / 9  # hidden channel 0: the mean of channel 0
        block.modulate.weight[0, 1] = 1.0  # scaled by 1 + the action's second number
        block.back.weight[1, 0] = 1.0  # into channel 1
    patches = torch.zeros(1, 9, 2)
    patches[0, 4, 0] = 9.0  # the middle of 3 x 3
    patches[0, 0, 0] = 18.0  # a corner
    means = torch.tensor([[3.0, 3, 1], [3, 3, 1], [1, 1, 1]])  # out of the picture there are zeros
    out = block(patches, torch.tensor([[[7.0, 0.5]]]))
    assert torch.equal(out[..., 0], patches[..., 0])
    torch.testing.assert_close(out[0, :, 1], F.gelu(1.5 * means).flatten())


def test_convolutions_need_slots_with_a_place() -> None:
    with pytest.raises(ValueError, match="action_source=regions"):
        ActionAdapter(replace(ADAPTER, blocks="convolutions", tokens=QUERIES))


def test_actions_are_scaled_by_the_controllers_range() -> None:
    controls = ActionAdapter(ADAPTER).controls
    assert controls.scale(LOW).tolist() == [-1, -1, -1]
    assert controls.scale(HIGH).tolist() == [1, 1, 1]
    assert controls.scale(torch.tensor([0.5, 1.0, 5.0])).tolist() == [0.5, 0.5, 0.0]
    still = replace(ADAPTER, controller=ControllerConfig((0.0, -1.0), (0.0, 1.0), 4))
    assert ActionAdapter(still).controls.scale(torch.tensor([0.0, 0.5])).tolist() == [0.0, 0.5]


def test_without_state_the_state_does_not_matter() -> None:
    batch = labelled(4)
    s_t, other = batch["states"].unbind(1)
    for use_state in (True, False):
        adapter = ActionAdapter(replace(ADAPTER, use_state=use_state)).eval()
        outputs = [adapter(s, batch["actions"], batch["mask"]) for s in (s_t, other)]
        assert torch.equal(*outputs) is not use_state


@pytest.mark.parametrize(
    ("actions", "mask"),
    [((2, 4, 2), (2, 4)), ((2, 5, 3), (2, 5)), ((2, 0, 3), (2, 0)), ((2, 4, 3), (2, 3)), ((2, 3), (2,))],
)
def test_wrong_sizes_are_refused(actions: tuple[int, ...], mask: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="give"):
        ActionAdapter(ADAPTER)(torch.zeros(2, 5, 16), torch.zeros(actions), torch.ones(mask).bool())
    with pytest.raises(ValueError, match="give bool"):
        ActionAdapter(ADAPTER)(torch.zeros(2, 5, 16), torch.zeros(2, 4, 3), torch.ones(2, 4))


def test_wrong_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="as many"):
        ControllerConfig(low=(0.0,), high=(1.0, 1.0))
    for low, high in ((1.0, 0.0), (0.0, float("inf")), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="must"):
            ControllerConfig(low=(low,), high=(high,))


class Repeated:
    """The same labelled pairs at every step."""

    def batches(self, start_step: int, rank: int, world_size: int) -> Iterator[dict[str, Tensor]]:
        while True:
            yield labelled(16)


@pytest.mark.parametrize("target", ["continuous", "quantized", "codes", "prediction"])
def test_fitting_leaves_the_world_model_alone(target: str, tmp_path: Path) -> None:
    """The adapter is the only trainable module (section 4.2): no byte of the others changes."""
    world = WorldModel(WORLD)
    torch.nn.init.normal_(world.dynamics.head.weight, generator=torch.Generator().manual_seed(0))
    world.save(tmp_path / "before.safetensors")
    adapter = ActionAdapter(replace(ADAPTER, target=target), seed=1)
    objective = AdapterRegression(adapter, world)
    config = TrainConfig(steps=40, batch_size=16, learning_rate=3e-3, weight_decay=0.0)
    before = float(objective(labelled(16), Draws(torch.Generator()))["loss"].detach())
    result = train(objective, Repeated(), config, tmp_path / "run", tensorboard=False)
    assert result.metrics["loss"] < 0.8 * before
    world.save(tmp_path / "after.safetensors")
    assert (tmp_path / "after.safetensors").read_bytes() == (tmp_path / "before.safetensors").read_bytes()


def test_slots_whose_region_changes_count_more() -> None:
    """By hand: only the first of four patches changes, so its two slots weigh 1 + 3 sqrt(4) = 7, others 1."""
    world, adapter, batch = WorldModel(WORLD).eval(), ActionAdapter(ADAPTER).eval(), labelled(2)
    s_t = batch["states"][:, 0]
    batch["states"] = torch.stack([s_t, s_t], dim=1)
    batch["states"][:, 1, 0] += 5.0  # the CLS token has no place
    batch["states"][:, 1, 1] += 0.5
    latents = world.infer_actions(*batch["states"].unbind(1)).continuous
    error = (adapter(s_t, batch["actions"], batch["mask"]) - latents).square().mean(-1)  # (B, 8)
    alike = AdapterRegression(adapter, world)(batch, Draws(torch.Generator()))["loss"]
    torch.testing.assert_close(alike, error.mean())
    weighted = AdapterRegression(adapter, world, change_weight=3.0)(batch, Draws(torch.Generator()))["loss"]
    weights = torch.tensor([7.0, 7, 1, 1, 1, 1, 1, 1]) / 2.5
    torch.testing.assert_close(weighted, (error * weights).mean())


def test_slots_without_a_place_have_no_change() -> None:
    queries = replace(ADAPTER, tokens=QUERIES)
    with pytest.raises(UserError, match="change_weight=0"):
        AdapterRegression(ActionAdapter(queries), WorldModel(WORLD), change_weight=1.0)


def test_the_target_prediction_is_the_dynamics_error_straight_through_the_codes() -> None:
    world = WorldModel(WORLD).eval()
    torch.nn.init.normal_(world.dynamics.head.weight, generator=torch.Generator().manual_seed(0))
    adapter, batch = ActionAdapter(replace(ADAPTER, target="prediction"), seed=2).eval(), labelled(4)
    s_t, s_next = batch["states"].unbind(1)
    found = adapter.infer_actions(s_t, batch["actions"], batch["mask"], world.quantizer)
    out = AdapterRegression(adapter, world, commitment=0.5)(batch, Draws(torch.Generator()))
    torch.testing.assert_close(
        out["state_mse"], (world.predict(s_t, found.quantized) - s_next).square().mean()
    )
    torch.testing.assert_close(out["commitment"], (found.continuous - found.quantized).square().mean())
    torch.testing.assert_close(out["loss"], out["state_mse"] + 0.5 * out["commitment"])
    codes = found.quantized.detach().requires_grad_()
    (at_codes,) = torch.autograd.grad((world.predict(s_t, codes) - s_next).square().mean(), codes)
    (bias,) = torch.autograd.grad(out["state_mse"], [adapter.head.bias])
    torch.testing.assert_close(bias, at_codes.unflatten(1, (-1, 2)).flatten(2).sum((0, 1)))


def test_a_seed_fixes_the_weights_and_leaves_torch_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (ActionAdapter(ADAPTER, seed=s).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


def test_save_and_load(tmp_path: Path) -> None:
    adapter, batch = ActionAdapter(ADAPTER, seed=3).eval(), labelled(2)
    adapter.save(tmp_path / "a.safetensors", card={"seed": 3})
    loaded = ActionAdapter.load(tmp_path / "a.safetensors")
    assert loaded.config == ADAPTER
    arguments = (batch["states"][:, 0], batch["actions"], batch["mask"])
    assert torch.equal(loaded(*arguments), adapter(*arguments))
    WorldModel(WORLD).save(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="holds WorldModel"):
        ActionAdapter.load(tmp_path / "w.safetensors")
