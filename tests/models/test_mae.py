"""The masked autoencoder: states, masked training, decoding, warm start."""

import pytest
import torch

from uwm.errors import UserError
from uwm.models.mae import (
    MAE_PRESETS,
    MAEConfig,
    MaskedAutoencoder,
)
from uwm.models.mae_init import warm_start
from uwm.models.patches import patch_statistics, patchify

TINY = MAEConfig(
    image_size=24,
    patch_size=8,
    encoder_width=32,
    encoder_depth=2,
    encoder_heads=4,
    decoder_width=16,
    decoder_depth=1,
    decoder_heads=2,
)


def make(norm_pix_loss: bool = False) -> MaskedAutoencoder:
    return MaskedAutoencoder(MAEConfig(**{**vars(TINY), "norm_pix_loss": norm_pix_loss}), seed=3).eval()


def pictures(count: int = 2, size: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_states_are_in_raster_order() -> None:
    """Without blocks a token depends on its own patch alone, so only a shuffle could move the change."""
    mae = make()
    mae.blocks = torch.nn.ModuleList()
    before = pictures(1)
    after = before.clone()
    after[:, :, 8:16, 16:24] = 0  # row 1, column 2: patch 5, token 6
    changed = (mae.encode(before) - mae.encode(after)).abs().amax(dim=-1)[0] > 0
    assert changed.nonzero().flatten().tolist() == [6]


def test_encoding_is_the_same_every_time_and_per_image() -> None:
    mae, images = make(), pictures(3)
    states = mae.encode(images)
    assert states.shape == (3, 10, 32)
    assert torch.equal(states, mae.encode(images))
    assert torch.allclose(states[1:2], mae.encode(images[1:2]), atol=1e-5)


def test_swapped_patches_are_not_swapped_tokens() -> None:
    mae, images = make(), pictures(1)
    swapped = images.clone()
    swapped[..., :8, :8], swapped[..., 16:, 16:] = images[..., 16:, 16:], images[..., :8, :8]
    states, other = mae.encode(images), mae.encode(swapped)
    assert (states[:, 1] - other[:, 9]).abs().max() > 0.1  # positions belong to places, not to contents


def test_decode_gives_rgb_in_range() -> None:
    mae = make()
    shown = mae.decode(5 * mae.encode(pictures()))
    assert shown.shape == (2, 3, 24, 24)
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_decode_undoes_the_imagenet_normalisation() -> None:
    mae = make()
    torch.nn.init.zeros_(mae.decoder_pred.weight)
    torch.nn.init.zeros_(mae.decoder_pred.bias)
    shown = mae.decode(mae.encode(pictures(1)))
    assert shown[0, :, 0, 0].tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_forward_loss_is_the_error_of_its_prediction() -> None:
    mae, images = make(), pictures()
    out = mae(images, 0.75, seeded())
    target = patchify((images - mae.mean) / mae.std, 8)
    expected = ((out.prediction - target) ** 2)[out.mask.bool()].mean()
    assert out.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert out.mask.sum(dim=1).tolist() == [7, 7]  # int(9 * 0.25) = 2 stay


def test_hidden_patches_do_not_reach_the_prediction() -> None:
    mae, images = make(), pictures(1)
    noise = torch.arange(9.0)[None]  # patches 0 and 1 stay
    other = images.clone()
    other[:, :, 8:] = 0
    assert torch.equal(mae(images, 0.75, noise=noise).prediction, mae(other, 0.75, noise=noise).prediction)


def test_mask_ratio_zero_is_encode_and_predict_of_all_patches() -> None:
    mae, images = make(), pictures()
    out = mae(images, 0.0, seeded())
    assert not out.mask.any()
    shown = mae.denormalise_patches(out.prediction).clamp(0, 1)
    assert torch.allclose(shown, mae.decode(mae.encode(images)), atol=1e-6)


def test_masking_follows_the_generator() -> None:
    mae, images = make(), pictures()
    first, second, third = (mae(images, 0.5, seeded(seed)).mask for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_normalised_targets_have_mean_zero_and_variance_one() -> None:
    mae, images = make(norm_pix_loss=True), pictures()
    target = mae.target_patches(mae.normalise(images))
    assert target.mean(dim=-1).abs().max() < 1e-5
    assert torch.allclose(target.var(dim=-1), torch.ones(2, 9), atol=1e-4)


def test_normalised_model_decodes_with_the_statistics_of_like() -> None:
    mae, images = make(norm_pix_loss=True), pictures()
    shown = mae.decode(mae.encode(images), like=images)
    mean, deviation = patch_statistics(patchify(mae.normalise(images), 8))
    prediction = mae(images, 0.0, seeded()).prediction
    expected = mae.denormalise_patches(prediction * deviation + mean).clamp(0, 1)
    assert torch.allclose(shown, expected, atol=1e-6)


def test_normalised_model_refuses_to_decode_without_like() -> None:
    mae = make(norm_pix_loss=True)
    with pytest.raises(UserError, match="norm_pix_loss") as caught:
        mae.decode(mae.encode(pictures()))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 3, 24, 32), (3, 24, 24), (1, 1, 24, 24)])
def test_other_shapes_are_refused_with_both_sizes(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="24 x 24") as caught:
        make().encode(torch.zeros(shape))
    assert str(shape) in str(caught.value)


def test_seed_decides_the_initial_weights() -> None:
    one, same, other = (MaskedAutoencoder(TINY, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize(
    "change", [{"image_size": 20}, {"encoder_heads": 5}, {"decoder_width": 18, "decoder_heads": 1}]
)
def test_config_refuses_sizes_that_do_not_fit(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="multiple"):
        MAEConfig(**{**vars(TINY), **change})


def test_presets_have_the_published_sizes() -> None:
    base, mini = MAE_PRESETS["base"], MAE_PRESETS["mini"]
    assert (base.tokens, base.patch_values, base.encoder_depth, base.decoder_depth) == (196, 768, 12, 8)
    assert (mini.tokens, mini.image_size) == (49, 112)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in MaskedAutoencoder(base).parameters())
    assert parameters / 1e6 == pytest.approx(111.7, abs=0.1)  # He et al.'s, besides the fixed positions


def smooth_pictures(count: int, seed: int) -> torch.Tensor:
    coarse = torch.rand(count, 3, 6, 6, generator=seeded(seed))
    return torch.nn.functional.interpolate(coarse, size=24, mode="bicubic").clamp(0, 1)


def psnr(mae: MaskedAutoencoder, images: torch.Tensor) -> float:
    with torch.no_grad():
        return float(-10 * (mae.decode(mae.encode(images)) - images).square().mean().log10())


@pytest.mark.parametrize("decoder_width", [16, 32])
def test_warm_start_shows_unseen_pictures_of_the_kind(decoder_width: int) -> None:
    mae = MaskedAutoencoder(MAEConfig(**{**vars(TINY), "decoder_width": decoder_width})).eval()
    unseen = smooth_pictures(20, seed=2)
    before = psnr(mae, unseen)
    warm_start(mae, smooth_pictures(200, seed=1))
    assert before < 15
    assert psnr(mae, unseen) > {16: 20, 32: 25}[decoder_width]


def test_warm_start_sets_the_variances_that_it_documents() -> None:
    mae, images = make(), smooth_pictures(200, seed=1)
    warm_start(mae, images, spectrum_power=0.5, token_scale=0.4)
    tokens = mae.patch_embed(mae.normalise(images)).detach().flatten(0, 1).double()
    assert tokens.mean(dim=0).abs().max() < 1e-4
    variances = torch.linalg.eigvalsh(tokens.T.cov()).flip(0)
    assert variances.mean().sqrt().item() == pytest.approx(0.4, rel=0.01)
    patches = patchify(mae.normalise(images), 8).flatten(0, 1).double()
    spectrum = torch.linalg.eigvalsh(patches.T.cov()).flip(0)[:32].sqrt()
    assert torch.allclose(variances[:8] / variances[0], spectrum[:8] / spectrum[0], rtol=0.02)


def test_warm_start_makes_the_blocks_the_identity_that_still_learns() -> None:
    mae, images = make(), smooth_pictures(64, seed=1)
    warm_start(mae, images)
    tokens = torch.rand(1, 5, 32, generator=seeded())
    assert torch.equal(mae.blocks[0](tokens), tokens)
    mae(images, 0.0, seeded()).loss.backward()
    assert mae.blocks[0].mlp.fc2.weight.grad.abs().max() > 0


def test_warm_start_is_reproducible() -> None:
    one, other = make(), MaskedAutoencoder(TINY, seed=9)
    for mae in (one, other):
        warm_start(mae, smooth_pictures(64, seed=1))
    assert torch.equal(one.patch_embed.proj.weight, other.patch_embed.proj.weight)
    assert torch.equal(one.decoder_pred.weight, other.decoder_pred.weight)


def test_warm_start_refuses_an_encoder_wider_than_a_patch() -> None:
    config = MAEConfig(**{**vars(TINY), "patch_size": 2})
    with pytest.raises(ValueError, match="12"):
        warm_start(MaskedAutoencoder(config), pictures())
