"""Continuous bottlenecks: their rates against other computations, gradients, and that noise limits them."""

import math
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from uwm.bounds import OutOfBounds, identity_fields
from uwm.models import (
    ActionAdapterConfig,
    BottleneckConfig,
    ControllerConfig,
    QuantizerConfig,
    TokenConfig,
    WorldModelConfig,
)
from uwm.models.bottleneck import GaussianBottleneck, NoiseBottleneck, divergence, of_power_one
from uwm.models.world_model import WorldModel

TOKENS = TokenConfig(state_width=8, state_tokens=5, num_action_tokens=2, action_width=3)
SMALL = WorldModelConfig(TOKENS, quantizer=QuantizerConfig(width=3))
SMALL = replace(SMALL, extractor=replace(SMALL.extractor, heads=2, depth=1, standardize="none"))
SMALL = replace(SMALL, dynamics=replace(SMALL.dynamics, heads=2, depth=1))


def model(kind: str, **settings: float) -> WorldModel:
    return WorldModel(replace(SMALL, bottleneck=BottleneckConfig(kind, **settings)))  # type: ignore[arg-type]


@pytest.fixture
def states() -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, 6, 5, 8, generator=torch.Generator().manual_seed(0)))  # type: ignore[return-value]


def test_the_divergence_is_that_of_torch() -> None:
    mean, log_variance = torch.randn(2, 4, 2, 3, generator=torch.Generator().manual_seed(1)).double()
    wanted = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum((1, 2))
    torch.testing.assert_close(divergence(mean, log_variance), wanted)


def test_a_gaussian_action_costs_its_divergence(states: tuple[torch.Tensor, torch.Tensor]) -> None:
    world = model("gaussian", kl_weight=0.5).train()
    found = world(*states)
    moments = world.extractor(*states)
    assert moments.shape == (6, 2, 6)
    nats = divergence(*moments.chunk(2, -1))
    torch.testing.assert_close(found.quantizer_loss, 0.5 * nats.mean())
    torch.testing.assert_close(world.bits(*states), nats / math.log(2))
    assert world.config.bits is None
    found.loss.backward()
    for name, parameter in world.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_draw_has_the_moments_it_was_drawn_by() -> None:
    mean, deviation = 0.7, 0.3
    moments = torch.tensor([[mean, 2 * math.log(deviation)]]).expand(20_000, 1, 2)
    drawn = GaussianBottleneck(BottleneckConfig("gaussian")).eval().infer(moments)
    assert torch.all(drawn.continuous == torch.tensor(mean))
    assert drawn.quantized.mean() == pytest.approx(mean, abs=0.01)
    assert drawn.quantized.std() == pytest.approx(deviation, abs=0.01)
    assert drawn.codes.shape == (20_000, 0)


def test_noise_has_the_capacity_of_its_channel() -> None:
    """Gaussian numbers of that power through the channel carry it: -1/2 log2(1 - correlation^2) each."""
    config = BottleneckConfig("noise", noise=0.25)
    assert config.capacity(7) == pytest.approx(7 / 2 * math.log2(5))
    latents = 3 * torch.randn(1, 40, 500, generator=torch.Generator().manual_seed(2))
    read = NoiseBottleneck(config).eval().infer(latents).quantized
    signal = of_power_one(latents)
    assert signal.square().mean() == pytest.approx(1, abs=1e-4)
    assert (read - signal).square().mean() == pytest.approx(0.25, abs=0.01)
    correlation = float(torch.corrcoef(torch.stack([signal.flatten(), read.flatten()]))[0, 1])
    assert -0.5 * math.log2(1 - correlation**2) == pytest.approx(config.capacity(1), abs=0.02)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_an_action_cannot_shout_the_noise_down(scale: float) -> None:
    latents = scale * torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(3))
    assert of_power_one(latents).square().mean((1, 2)).max() <= 1 + 1e-5


def test_noisy_actions_have_gradients(states: tuple[torch.Tensor, torch.Tensor]) -> None:
    world = model("noise").train()
    world(*states).loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in world.extractor.parameters())
    assert world.config.bits == pytest.approx(2 * 3 / 2)
    assert torch.all(world.bits(*states) == world.config.bits)


@pytest.mark.parametrize("kind", ["gaussian", "noise"])
def test_noise_is_new_at_each_step_and_fixed_in_evaluation(
    kind: str, states: tuple[torch.Tensor, torch.Tensor]
) -> None:
    world = model(kind).train()
    first, second = world(*states).prediction, world(*states).prediction
    assert not torch.equal(first, second)
    again = model(kind).train()
    assert torch.equal(again(*states).prediction, first)  # a resumed training draws what it would have drawn
    world.eval()
    found, twice = (world.infer_actions(*states) for _ in range(2))
    assert torch.equal(found.quantized, twice.quantized)
    assert not torch.allclose(found.quantized, world.quantizer.settle(found.continuous).quantized)
    same = torch.stack([states[0][0]] * 6), torch.stack([states[1][0]] * 6)
    rows = world.infer_actions(*same).quantized
    assert not torch.allclose(rows[0], rows[1])  # of one pair, two places in a batch: other noise


@pytest.mark.parametrize("kind", ["gaussian", "noise"])
def test_a_saved_model_is_the_same(kind: str, tmp_path, states) -> None:  # type: ignore[no-untyped-def]
    world = model(kind).eval()
    world.save(tmp_path / "w.safetensors")
    again = WorldModel.load(tmp_path / "w.safetensors")
    assert again.config == world.config
    assert torch.equal(again.infer_actions(*states).quantized, world.infer_actions(*states).quantized)


def test_a_codebook_has_the_digest_that_it_had() -> None:
    assert "bottleneck" not in identity_fields(SMALL)
    assert identity_fields(replace(SMALL, bottleneck=BottleneckConfig("noise")))["bottleneck"]["noise"] == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"continuous_steps": 10}, "continuous_steps come before a codebook"),
        ({"extractor": replace(SMALL.extractor, standardize="batch")}, "set extractor.standardize=none"),
    ],
)
def test_settings_of_a_codebook_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(OutOfBounds, match=said):
        replace(SMALL, bottleneck=BottleneckConfig("gaussian"), **changes)


@pytest.mark.parametrize("target", ["codes", "quantized"])
def test_an_adapter_to_codes_needs_codes(target: str) -> None:
    config = ActionAdapterConfig(target=target)  # type: ignore[arg-type]
    with pytest.raises(OutOfBounds, match="needs a codebook, and the bottleneck is noise"):
        config.fitted(replace(SMALL, bottleneck=BottleneckConfig("noise")), ControllerConfig())
