"""Objectives: what is minimised, the action gap, and the perplexity of codes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uwm.data.draws import Draws
from uwm.errors import UserError
from uwm.metrics.statistics import perplexity
from uwm.models import MAE_PRESETS, MaskedAutoencoder, WorldModel
from uwm.models.patches import patchify
from uwm.stages.world_model import high_rate
from uwm.training.objectives import (
    LatentActionPrediction,
    MaskedReconstruction,
    PictureLoss,
    action_gap,
    code_counts,
    derangement,
    pair_batches,
    structure_loss,
)

MAE = MAE_PRESETS["tiny"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_masked_reconstruction_is_the_mean_of_its_ratios() -> None:
    mae = MaskedAutoencoder(MAE)
    batch = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=generator())
    out = MaskedReconstruction(mae, (0.75, 0.0))(batch, Draws(generator(1)))
    assert out["loss"].item() == pytest.approx((out["loss_mask_0.75"] + out["loss_mask_0"]).item() / 2)
    whole = mae(batch[4:].float() / 255, 0.0, generator(2)).loss  # ratio 0 sees the second half of the batch
    assert out["loss_mask_0"].item() == pytest.approx(whole.item(), rel=1e-5)


def test_every_mask_ratio_has_images() -> None:
    objective = MaskedReconstruction(MaskedAutoencoder(MAE), (0.75, 0.5, 0.0))
    batch = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=generator())
    assert set(objective(batch, Draws(generator(1)))) == {
        "loss",
        *(f"loss_mask_{r}" for r in ("0.75", "0.5", "0")),
    }
    with pytest.raises(UserError, match="2 of the MAE's images at a time, fewer than the 3 mask_ratios"):
        objective(batch[:2], Draws(generator(1)))


def test_live_encoding_equals_cached_states_and_leaves_the_mae_alone() -> None:
    mae = MaskedAutoencoder(MAE)
    before = {k: v.clone() for k, v in mae.state_dict().items()}
    images = torch.randint(0, 256, (4, 2, 3, 64, 64), dtype=torch.uint8, generator=generator())
    config = high_rate(64).fitted(MAE)
    live = LatentActionPrediction(WorldModel(config), mae)
    cached = LatentActionPrediction(WorldModel(config))
    with torch.no_grad():
        states = mae.encode(images.flatten(0, 1).float() / 255).unflatten(0, (4, 2))
    losses = live(images, Draws(generator()))["loss"], cached(states, Draws(generator()))["loss"]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    losses[0].backward()
    assert set(live.state_dict()) == set(cached.state_dict())  # the MAE is no part of a checkpoint
    assert not any(p.requires_grad or p.grad is not None for p in mae.parameters())
    assert all(torch.equal(before[k], v) for k, v in mae.state_dict().items())


def test_action_gap_is_zero_where_the_action_is_ignored() -> None:
    model = WorldModel(high_rate(64).fitted(MAE))  # its residual head is zero: it copies
    states = torch.randn(16, 2, 17, 48, generator=generator())
    gaps = action_gap(model, states.split(8), generator())
    assert model.training
    expected = (states[:, 1] - states[:, 0]).square().mean().item()
    assert gaps["state_mse"] == pytest.approx(expected, rel=1e-5)
    assert gaps["state_mse_copy"] == pytest.approx(expected, rel=1e-5)
    assert gaps["action_gap"] == pytest.approx(0, abs=1e-6)
    torch.nn.init.normal_(model.dynamics.head.weight, generator=generator())
    assert action_gap(model, states.split(8), generator())["action_gap"] != pytest.approx(0, abs=1e-6)


@given(st.integers(2, 50), st.integers(0, 1000))
def test_a_derangement_moves_everyone(n: int, seed: int) -> None:
    order = derangement(n, generator(seed))
    assert sorted(order.tolist()) == list(range(n))
    assert (order != torch.arange(n)).all()


def test_a_single_pair_has_no_other_action() -> None:
    with pytest.raises(ValueError, match="at least two pairs, and there are 1"):
        derangement(1, generator())


@pytest.mark.parametrize(("pairs", "sizes"), [(65, [65]), (129, [64, 65]), (130, [64, 64, 2]), (64, [64])])
def test_no_batch_is_of_a_single_pair(pairs: int, sizes: list[int]) -> None:
    batches = pair_batches(torch.arange(pairs))
    assert [len(batch) for batch in batches] == sizes
    assert torch.cat(batches).tolist() == list(range(pairs))


def test_perplexity_by_hand() -> None:
    assert perplexity(np.array([0, 7, 0])) == pytest.approx(1)
    assert perplexity(np.array([3, 3, 3, 3])) == pytest.approx(4)
    assert perplexity(np.array([2, 1, 1])) == pytest.approx(2**1.5)  # 1.5 bits
    assert code_counts(torch.tensor([[0, 2], [2, 2]]), 4).tolist() == [1, 0, 3, 0]


def test_structure_loss_by_hand() -> None:
    """A cell of 2 x 2 pixels of one colour, twice as bright, without its contrast, and turned round."""
    target = torch.tensor([1.0, -1, -1, 1]).repeat_interleave(3).reshape(1, 1, 12)  # mean 0, variance 1
    assert structure_loss(target, target, 2, (2,)).item() == pytest.approx(0, abs=1e-6)
    # covariance 2, variances 1 and 4: 1 - 4 / 5
    assert structure_loss(2 * target, target, 2, (2,)).item() == pytest.approx(0.2, abs=1e-3)
    assert structure_loss(0 * target, target, 2, (2,)).item() == pytest.approx(1, abs=1e-2)
    assert structure_loss(-target, target, 2, (2,)).item() == pytest.approx(2, abs=1e-2)


def test_structure_loss_is_the_mean_ssim_of_a_pictures_cells() -> None:
    x, y = torch.rand(2, 1, 3, 16, 16, generator=generator())
    values = []
    for color in range(3):
        for top in range(0, 16, 4):
            for left in range(0, 16, 4):
                a, b = (z[0, color, top : top + 4, left : left + 4].flatten() for z in (x, y))
                light = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
                covariance = ((a - a.mean()) * (b - b.mean())).mean()
                spread = a.var(correction=0) + b.var(correction=0)
                values.append(light * (2 * covariance + 9e-4) / (spread + 9e-4))
    found = structure_loss(patchify(x, 8), patchify(y, 8), 8, (4,))
    assert found.item() == pytest.approx(1 - torch.stack(values).mean().item(), rel=1e-4)


def test_structure_loss_in_bf16_is_nearly_that_in_fp32() -> None:
    """Value and gradient, of low contrast on a bright ground: by how the picture was rounded, no more."""
    target = 1 + 0.1 * torch.randn(2, 4, 16 * 16 * 3, generator=generator())
    rounded = (target + 0.05 * torch.randn(target.shape, generator=generator(1))).bfloat16()
    gradients, values = [], []
    for patches in (rounded.float().requires_grad_(), rounded.clone().requires_grad_()):
        with torch.autocast("cpu", torch.bfloat16, enabled=patches.dtype == torch.bfloat16):
            loss = structure_loss(patches, target, 16)
        loss.backward()
        assert patches.grad is not None
        gradients.append(patches.grad.float().flatten())
        values.append(loss.item())
    assert values[1] == pytest.approx(values[0], rel=1e-6)
    assert torch.cosine_similarity(*gradients, dim=0).item() > 0.999


def test_the_picture_loss_trains_the_world_model_alone() -> None:
    mae, model = MaskedAutoencoder(MAE), WorldModel(high_rate(64).fitted(MAE))
    states = torch.randn(4, 2, 17, 48, generator=generator())
    plain = LatentActionPrediction(model)(states, Draws(generator()))
    with_picture = LatentActionPrediction(model, picture=PictureLoss(mae, 0.5))
    losses = with_picture(states, Draws(generator()))
    assert losses["loss"].item() == pytest.approx((plain["loss"] + 0.5 * losses["picture_loss"]).item())
    shown = structure_loss(mae.decode_patches(states[:, 0]), mae.decode_patches(states[:, 1]), 16)
    assert losses["picture_loss"].item() == pytest.approx(shown.item())  # an untrained model copies
    losses["picture_loss"].backward()
    assert model.dynamics.head.weight.grad is not None
    assert all(p.grad is None for p in mae.parameters())
    assert set(with_picture.state_dict()) == set(LatentActionPrediction(model).state_dict())
