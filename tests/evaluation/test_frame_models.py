"""Models that draw frames, measured: what must come out of a perfect one and of a copy."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from tests.methods.models import Copy, Perfect
from uwm.data.manifest import Manifest
from uwm.evaluation.actions import StatePairs, action_errors
from uwm.evaluation.codec_baseline import codec_columns
from uwm.evaluation.frame_models import FrameModel, frame_model_rates, measure_frame_model
from uwm.evaluation.measure import FramePairs, Measuring
from uwm.evaluation.records import method_metrics
from uwm.evaluation.transfer import seen_by, transferred
from uwm.methods.protocol import CheckedModel, codebook_size, resize_frames
from uwm.metrics.codec import code_within
from uwm.metrics.image import PSNR_LIMIT, psnr
from uwm.metrics.perceptual import LPIPS, load_lpips
from uwm.models import MAE_PRESETS, MaskedAutoencoder, WorldModel
from uwm.models.world import World
from uwm.stages.world_model import high_rate
from uwm.training.objectives import derangement

SIZE, PAIRS = 64, 12


class PerfectHere(Perfect):
    image_size = SIZE


class CopyHere(Copy):
    image_size = SIZE


class Dim(CopyHere):
    """A sharp frame that the MAE can't show: half as light as O_t."""

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return frames_t / 2


class Palette(CopyHere):
    """Codes of 4 levels of red, green and blue, and a plain frame of that colour: the colour of O_t+1."""

    bits = 6.0

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        return (frames_next.mean((2, 3)) * 4).long().clamp(0, 3)

    def embed(self, actions: Tensor) -> Tensor:
        return actions.float()

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        return ((actions + 0.5) / 4)[..., None, None].expand_as(frames_t)


@pytest.fixture(scope="module")
def world() -> World:
    """Untrained models for pictures of 64 pixels, one of them without actions."""
    mae = MaskedAutoencoder(MAE_PRESETS["tiny"]).eval().requires_grad_(False)
    config = replace(high_rate(SIZE).fitted(mae.config), use_action=False)
    return World(mae, WorldModel(config).eval(), {})


@pytest.fixture(scope="module")
def network() -> LPIPS:
    return load_lpips("random")


@pytest.fixture(scope="module")
def test_pairs() -> FramePairs:
    """Pairs of six clips."""
    images = torch.randint(0, 256, (PAIRS, 2, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    clips = [f"clip{k // 2}" for k in range(PAIRS)]
    table = pd.DataFrame({"video": clips, "t0": 0.0, "t1": 0.2, "frame0": 0, "k": range(PAIRS)})
    return FramePairs(Manifest(table), images.byte())


def measured(model: object, world: World, network: LPIPS, test: FramePairs) -> pd.DataFrame:
    frame_model = FrameModel(CheckedModel(model, "mine"), world.mae)
    how = Measuring(world, network)
    return measure_frame_model("mine", frame_model, how, test, world.world_model, 0)[0]


def test_a_perfect_model_is_at_no_distance_and_leaks_all(
    world: World, network: LPIPS, test_pairs: FramePairs
) -> None:
    pairs = measured(PerfectHere(), world, network, test_pairs)
    for name in ("lpips_to_next", "lpips_to_next_true", "state_mse", "stitched_mse", "stitched_lpips"):
        np.testing.assert_allclose(pairs[f"mine/{name}"], 0, atol=1e-6, err_msg=name)
    assert (pairs["mine/psnr"] == PSNR_LIMIT).all()
    found = method_metrics(pairs, "mine", "lpips-random")
    assert found["success_vs_copy"].value == found["gain_over_no_action"].value == 1
    assert found["leak"].value == pytest.approx(0, abs=1e-6)
    assert found["own_over_shuffled"].value == pytest.approx(0, abs=1e-6)
    assert found["cycle"].value == pytest.approx(0, abs=1e-3)  # its frame goes through 8 bits
    assert found["reversal"].value == pytest.approx(1, abs=1e-6)


def test_a_copy_is_measured_as_the_copy_is(world: World, network: LPIPS, test_pairs: FramePairs) -> None:
    pairs = measured(CopyHere(), world, network, test_pairs)
    same = {"lpips_to_next": "lpips_of_copy", "lpips_to_next_true": None, "state_mse": "mine/state_mse_copy"}
    for name, other in same.items():
        if other:
            np.testing.assert_allclose(pairs[f"mine/{name}"], pairs[other], rtol=1e-5, err_msg=name)
    o_t, o_next = (test_pairs.images / 255).unbind(1)
    np.testing.assert_allclose(pairs["mine/lpips_to_next_true"], network(o_t, o_next), rtol=1e-4)
    found = method_metrics(pairs, "mine", "lpips-random")
    assert "lpips_ratio" not in found  # it is at no distance from O_t
    for name in ("state_ratio", "own_over_shuffled", "leak", "leak_lpips", "cycle"):
        assert found[name].value == pytest.approx(1, rel=1e-5), name


def test_blurred_measures_see_the_mae_and_sharp_ones_the_frame_itself(
    world: World, network: LPIPS, test_pairs: FramePairs
) -> None:
    pairs = measured(Dim(), world, network, test_pairs)
    o_t, o_next = (test_pairs.images / 255).unbind(1)
    shown = world.mae.decode(world.mae.encode(o_t / 2))
    r_next = world.mae.decode(world.mae.encode(o_next))
    np.testing.assert_allclose(pairs["mine/psnr"], psnr(o_t / 2, o_next), rtol=1e-4)
    np.testing.assert_allclose(pairs["mine/lpips_to_next_true"], network(o_t / 2, o_next), rtol=1e-4)
    np.testing.assert_allclose(pairs["mine/lpips_to_next"], network(shown, r_next), rtol=1e-4, atol=1e-6)


def test_frames_of_another_size_are_resized_on_their_way_in_and_out(world: World) -> None:
    class Seen(Copy):
        image_size = 40

        def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
            assert frames_t.shape[-2:] == (40, 40)
            return frames_t

    images = torch.randint(0, 256, (2, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1)).byte()
    model = FrameModel(CheckedModel(Seen(), "mine"), world.mae)
    drawn = model.draw(images, model.infer_actions(images, images).quantized)
    torch.testing.assert_close(drawn, resize_frames(resize_frames(images / 255, 40), SIZE))


def coloured_pairs(count: int = 8) -> Tensor:
    """Frames of one colour each: uint8 (count, 2, 3, SIZE, SIZE)."""
    colours = torch.rand((count, 2, 3, 1, 1), generator=torch.Generator().manual_seed(2))
    return (colours.expand(-1, -1, -1, SIZE, SIZE) * 255).round().byte()


def test_delta_psnr_is_over_codes_drawn_by_chance(world: World) -> None:
    """A model's own codes show the next frame's colour, and random ones another colour."""
    images = coloured_pairs()
    states = [world.mae.encode(images[:, k] / 255) for k in (0, 1)]
    pairs = StatePairs(*states, [str(k) for k in range(len(images))], images[:, 1], images[:, 0])

    def measured_of(model: object) -> dict[str, Tensor]:
        frame_model = FrameModel(CheckedModel(model, "mine"), world.mae)
        return action_errors(SimpleNamespace(mae=world.mae, world_model=frame_model), pairs, None, 0)

    def shown(frames: Tensor) -> Tensor:
        return world.mae.decode(world.mae.encode(frames))

    found, own = measured_of(Palette()), Palette()
    generator = torch.Generator().manual_seed(0)
    derangement(len(images), generator)  # drawn first
    codes = own.infer(images[:, 0] / 255, images[:, 1] / 255)
    drawn = [
        own.predict(images[:, 0] / 255, c) for c in (codes, torch.randint(4, (8, 3), generator=generator))
    ]
    wanted = psnr(shown(drawn[0]), images[:, 1] / 255) - psnr(shown(drawn[1]), images[:, 1] / 255)
    torch.testing.assert_close(found["delta_psnr"], wanted, rtol=1e-4, atol=1e-4)
    assert wanted.abs().max() > 0.01
    assert "delta_psnr" not in measured_of(PerfectHere())  # no codes to draw


def test_the_codec_has_the_models_bits(world: World, network: LPIPS, test_pairs: FramePairs) -> None:
    images = test_pairs.images[:3]
    few, many = (codec_columns(world, network, images, bits) for bits in (8.0, 8.0 * 2000))
    shown = [world.mae.decode(world.mae.encode(images[:, k] / 255)) for k in (0, 1)]
    r_t, r_next = (frames.mul(255).round().byte() for frames in shown)
    of_copy = network(r_t / 255, r_next / 255)
    np.testing.assert_allclose(few["lpips_to_next_codec"], of_copy, rtol=1e-4)  # one byte is no P-frame
    coded = torch.stack([code_within(a, b, 2000).frame for a, b in zip(r_t, r_next, strict=True)])
    np.testing.assert_allclose(many["lpips_to_next_codec"], network(coded, r_next / 255), rtol=1e-4)
    assert (many["lpips_to_next_codec"] < few["lpips_to_next_codec"]).all()


def test_a_ratio_to_the_codec_stands_in_the_record(
    world: World, network: LPIPS, test_pairs: FramePairs
) -> None:
    pairs = measured(CopyHere(), world, network, test_pairs)
    coded = codec_columns(world, network, test_pairs.images, CopyHere.bits)
    found = method_metrics(pairs.assign(**{f"mine/{k}": v for k, v in coded.items()}), "mine", "lpips-random")
    assert found["lpips_over_codec"].value == pytest.approx(1, abs=1e-3)  # both show R_t
    assert found["lpips_over_codec"].protocol == "lpips-random"


def test_a_model_of_frames_transfers_its_actions(world: World) -> None:
    images = coloured_pairs(4)
    model = FrameModel(CheckedModel(PerfectHere(), "mine"), world.mae)
    seen = seen_by(model, SimpleNamespace(images=images, states=None))
    found = transferred(model, seen[:, 0], seen[[1, 2, 3, 0]], torch.device("cpu"))
    torch.testing.assert_close(found, world.mae.encode(images[[1, 2, 3, 0], 1] / 255))
    assert seen_by(world.world_model, SimpleNamespace(images=None, states=images)) is images


@pytest.mark.parametrize(
    ("bits", "codes", "size"),
    [
        (8.0, [[15, 0]], 16),
        (9.9658, [[999]], 1000),
        (9.9658, [[4, 4, 4, 7]], None),  # levels of FSQ, 8 x 5 x 5 x 5
        (8.0, [[16, 0]], None),
        (0.0, [[0]], None),
        (32.0, [[]], None),
        (1e5, [[3]], None),
    ],
)
def test_a_codebook_is_as_large_as_its_bits_say(
    bits: float, codes: list[list[int]], size: int | None
) -> None:
    assert codebook_size(bits, torch.tensor(codes)) == size


def test_rates_of_codes_and_of_floats() -> None:
    codes = torch.tensor([[0, 1], [0, 1], [2, 3], [2, 3]])  # four codes, even: perplexity 4, 2 bits each
    found = frame_model_rates(CheckedModel(Copy(), "mine"), codes).metrics
    assert {name: entry.value for name, entry in found.items()} == pytest.approx(
        {"bits": 1, "code_bits": 4, "perplexity": 4}
    )
    assert list(frame_model_rates(CheckedModel(Perfect(), "mine"), torch.rand(4, 5)).metrics) == ["bits"]
