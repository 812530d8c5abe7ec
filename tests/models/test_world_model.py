"""World model: shapes, gradients, presets, save and load, and that codes carry the transition."""

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from tests.models.tiny_world import TINY, states
from uwm.errors import UserError
from uwm.models import (
    MAE_PRESETS,
    WORLD_MODEL_PRESETS,
    BottleneckConfig,
    MaskedAutoencoder,
    WorldModel,
    WorldModelConfig,
)
from uwm.models.action_extractor import ActionExtractorConfig, ActionStandardizer
from uwm.models.storage import config_from_json
from uwm.models.tokens import patches_of_regions, region_grid, regions_of_patches
from uwm.models.world_model import token_distance


@pytest.mark.parametrize("preset", ["paper", "authors"])
def test_presets_have_the_papers_sizes(preset: str) -> None:
    config = WORLD_MODEL_PRESETS[preset].fitted(MAE_PRESETS["base"])
    assert (config.extractor.depth, config.dynamics.depth) == (4, 2)
    assert (config.quantizer.codes, config.quantizer.width) == (1024, 64)
    assert (config.tokens.num_action_tokens, config.bits) == (24, 240)
    assert config.tokens.state_size == (197, 768)
    assert (config.extractor.heads, config.dynamics.heads) == (12, 12)
    assert config_from_json(WorldModelConfig, asdict(config)) == config


def test_sizes_that_are_not_the_maes_are_refused() -> None:
    with pytest.raises(ValueError, match="state_width is 16, and must be 768 here"):
        TINY.fitted(MAE_PRESETS["base"])
    with pytest.raises(ValueError, match="fitted"):
        WorldModel(WorldModelConfig())
    with pytest.raises(ValueError, match="no field 'reading'"):
        config_from_json(ActionExtractorConfig, {"reading": "tokens"})


def test_paper_and_authors_differ_only_where_the_text_and_the_code_do() -> None:
    paper, authors = (WORLD_MODEL_PRESETS[name] for name in ("paper", "authors"))
    assert replace(paper.extractor, token_layout="tokens", standardize="none") == authors.extractor
    assert paper.tokens == authors.tokens
    assert replace(paper.quantizer, codebook_update="ema", beta=0.02) == authors.quantizer
    assert paper.dynamics == authors.dynamics


@pytest.mark.parametrize("token_layout", ["channels", "tokens"])
@pytest.mark.parametrize("standardize", ["batch", "layer", "none"])
@pytest.mark.parametrize("source", ["queries", "regions"])
@pytest.mark.parametrize("output", ["queries", "state"])
def test_every_layout_has_the_shapes_of_the_contract(
    token_layout: Any, standardize: Any, source: Any, output: Any
) -> None:
    config = replace(
        TINY,
        tokens=replace(TINY.tokens, action_source=source),
        extractor=replace(TINY.extractor, token_layout=token_layout, standardize=standardize),
        dynamics=replace(TINY.dynamics, output=output, residual=False),
    )
    model, (s_t, s_next) = WorldModel(config), states(4)
    out = model(s_t, s_next)
    out.loss.backward()
    assert out.prediction.shape == s_t.shape
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    actions = model.eval().infer_actions(s_t, s_next)
    assert actions.continuous.shape == actions.quantized.shape == (4, 3, 8)
    assert actions.codes.shape == (4, 3)
    assert torch.equal(actions.quantized, model.quantizer.codebook[actions.codes])
    assert model.rollout(s_t, actions.quantized[:, None].expand(-1, 4, -1, -1)).shape == (4, 4, 5, 16)


def test_several_codes_of_a_region_come_in_side_by_side() -> None:
    tokens = replace(TINY.tokens, action_source="regions", num_action_tokens=8, codes_per_region=2)
    dynamics = replace(TINY.dynamics, residual=False)
    model = WorldModel(replace(TINY, tokens=tokens, dynamics=dynamics)).eval()
    s_t, s_next = states(4)
    with torch.no_grad():
        actions = model.infer_actions(s_t, s_next)
        assert actions.codes.shape == (4, 8)
        # In evaluation a region's two latents are the two halves of its head's output.
        patches = model.extractor.norm(model.extractor.blocks(model.extractor._joined(s_t, s_next)))[:, 1:]
        both = model.extractor.head(patches[:, 2])  # region 2 of the 2 x 2 patches: (4, 2 * 8)
        expected = (both.unflatten(1, (2, 8)) - 0) / (1 + model.extractor.standardize.eps) ** 0.5
        torch.testing.assert_close(actions.continuous[:, 4:6], expected)
        # The first layer sees only the patch's own two codes, and their mean at the class token.
        moved = actions.quantized.clone()
        moved[:, 5] += 1.0
        captured: list[torch.Tensor] = []
        model.dynamics.blocks.register_forward_pre_hook(lambda _, args: captured.append(args[0]))
        model.predict(s_t, actions.quantized)
        model.predict(s_t, moved)
        changed = (captured[0] - captured[1]).abs().amax((0, 2)) > 0
        assert changed.tolist() == [True, False, False, True, False]
    with pytest.raises(ValueError, match="can't have 2"):
        replace(TINY.tokens, codes_per_region=2)


def test_regions_by_hand() -> None:
    patches = torch.arange(16.0).reshape(1, 16, 1)  # a raster of 4 x 4
    means = regions_of_patches(patches, 4)
    assert means.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    spread = patches_of_regions(means, 16)[0, :, 0]
    assert spread.reshape(4, 4)[:, 0].tolist() == [2.5, 2.5, 10.5, 10.5]
    assert spread.reshape(4, 4)[0].tolist() == [2.5, 2.5, 4.5, 4.5]
    assert [region_grid(n) for n in (24, 16, 7, 3)] == [(4, 6), (4, 4), (1, 7), (1, 3)]
    assert regions_of_patches(torch.randn(2, 49, 5), 24).shape == (2, 24, 5)
    assert patches_of_regions(torch.randn(2, 24, 5), 49).shape == (2, 49, 5)


def test_rollout_is_repeated_prediction() -> None:
    model, (s_t, _) = WorldModel(TINY).eval(), states(2)
    torch.nn.init.normal_(model.dynamics.head.weight)
    actions = torch.randn(2, 3, 3, 8, generator=torch.Generator().manual_seed(1))
    expected = s_t
    for k in range(3):
        expected = model.predict(expected, actions[:, k])
        assert torch.equal(model.rollout(s_t, actions)[:, k], expected)


def test_residual_dynamics_start_as_the_copy() -> None:
    model, (s_t, s_next) = WorldModel(TINY).eval(), states(3)
    assert torch.equal(model.predict(s_t, model.infer_actions(s_t, s_next).quantized), s_t)


def test_a_seed_fixes_the_weights_and_leaves_torch_alone() -> None:
    before = torch.random.get_rng_state()
    first, again, other = WorldModel(TINY, seed=1), WorldModel(TINY, seed=1), WorldModel(TINY, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.extractor.head.weight, other.extractor.head.weight)


def test_inference_changes_nothing() -> None:
    model, (s_t, s_next) = WorldModel(TINY).eval(), states(8)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model.infer_actions(s_t, s_next)
    model(s_t, s_next)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


@pytest.mark.parametrize("kind", ["codes", "gaussian", "noise"])
def test_inferring_actions_changes_nothing_in_training_mode_either(kind: str) -> None:
    own_scale = replace(TINY.extractor, standardize="none")  # a Gaussian bottleneck gives its own
    extractor = own_scale if kind == "gaussian" else TINY.extractor
    model = WorldModel(replace(TINY, bottleneck=BottleneckConfig(kind=kind), extractor=extractor))
    model.dynamics.eval()  # each part keeps its own mode
    modes = [part.training for part in model.modules()]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for seed in range(3):
        model.infer_actions(*states(8, seed))
        model.bits(*states(8, seed))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes


def test_codes_carry_the_transition() -> None:
    """Four fixed changes of state: after some steps the own code predicts, another's does not."""
    generator = torch.Generator().manual_seed(0)
    changes = 2 * torch.randn(4, 5, 16, generator=generator)
    model = WorldModel(TINY)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        s_t = torch.randn(64, 5, 16, generator=generator)
        kind = torch.randint(4, (64,), generator=generator)
        loss = model(s_t, s_t + changes[kind]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    s_t = torch.randn(64, 5, 16, generator=generator)
    s_next = s_t + changes[torch.arange(64) % 4]
    actions = model.infer_actions(s_t, s_next).quantized
    own = (model.predict(s_t, actions) - s_next).square().mean()
    other = (model.predict(s_t, actions.roll(1, 0)) - s_next).square().mean()
    copy = (s_t - s_next).square().mean()
    assert own < 0.25 * copy
    assert other > copy


def test_standardizer_removes_each_slots_mean_and_scale() -> None:
    layer = ActionStandardizer(3, 4)
    latents = 5 + 3 * torch.randn(500, 3, 4, generator=torch.Generator().manual_seed(0))
    out = layer(latents)
    torch.testing.assert_close(out.mean(0), torch.zeros(3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(0, correction=0), torch.ones(3, 4), atol=1e-4, rtol=0)
    reference = torch.nn.BatchNorm1d(12, momentum=0.1, affine=False)
    torch.testing.assert_close(out.flatten(1), reference(latents.flatten(1)), atol=1e-5, rtol=0)
    torch.testing.assert_close(layer.mean.flatten(), reference.running_mean)
    for _ in range(400):
        layer(latents)
    torch.testing.assert_close(layer.eval()(latents), out, atol=1e-3, rtol=0)


def test_save_and_load(tmp_path) -> None:
    model, (s_t, s_next) = WorldModel(TINY), states(8)
    model(s_t, s_next)  # moves the codebook and the running statistics
    model.save(tmp_path / "w.safetensors", card={"seed": 0})
    loaded = WorldModel.load(tmp_path / "w.safetensors")
    assert loaded.config == TINY
    model.eval()
    assert torch.equal(loaded.infer_actions(s_t, s_next).codes, model.infer_actions(s_t, s_next).codes)
    model.save(tmp_path / "again.safetensors", card={"seed": 0})
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "w.safetensors").read_bytes()
    model.save(tmp_path / "half.safetensors", dtype=torch.float16)
    half = WorldModel.load(tmp_path / "half.safetensors")
    assert all(v.dtype in (torch.float32, torch.int64) for v in half.state_dict().values())
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "w.safetensors").stat().st_size


def test_the_hubs_folder_holds_the_same_model(tmp_path) -> None:
    model = WorldModel(TINY).eval()
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "config.json", "weights.safetensors"}
    again = WorldModel.from_pretrained(tmp_path)
    assert again.config == TINY
    assert not again.training
    pairs = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_wrong_files_are_refused_in_one_line(tmp_path) -> None:
    mae = tmp_path / "mae.safetensors"
    MaskedAutoencoder(MAE_PRESETS["tiny"]).save(mae)
    text = tmp_path / "text.safetensors"
    text.write_text("no weights")
    for path in (mae, text, tmp_path / "absent.safetensors"):
        with pytest.raises(UserError, match=str(path)) as caught:
            WorldModel.load(path)
        assert "\n" not in str(caught.value)


def test_widths_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="codes have width"):
        replace(TINY, quantizer=replace(TINY.quantizer, width=16))


def test_the_distance_loss_by_hand() -> None:
    target = torch.zeros(1, 2, 4)
    prediction = torch.tensor([[[3.0, 3, 3, 3], [0, 0, 0, 0]]])
    expected = ((9 + 1e-4) ** 0.5 + 1e-2) / 2
    assert token_distance(prediction, target).item() == pytest.approx(expected, rel=1e-6)
    exact = target.clone().requires_grad_()
    token_distance(exact, target).backward()
    assert exact.grad is not None
    assert torch.equal(exact.grad, torch.zeros_like(exact))


def test_the_distance_loss_takes_the_place_of_the_squared_one() -> None:
    s_t, s_next = states(4)
    squared = WorldModel(TINY)(s_t, s_next)
    out = WorldModel(replace(TINY, state_loss="distance"))(s_t, s_next)
    assert out.state_mse == squared.state_mse  # what is logged stays comparable
    expected = token_distance(out.prediction, s_next) + out.quantizer_loss
    torch.testing.assert_close(out.loss, expected)
