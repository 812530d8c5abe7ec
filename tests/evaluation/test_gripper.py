"""The crop around the gripper: its place through resizing and cropping, and what is measured in it."""

import pytest
import torch

from tests.robot_toy import SIDE, write_toy
from uwm.baselines.reader import ReaderConfig, StateReader
from uwm.data.action_pairs import ActionPairs, action_pairs, eef_in_crop
from uwm.data.corpora import open_corpus
from uwm.data.manifest import build_manifest
from uwm.data.states import evaluation_images
from uwm.evaluation.gripper import (
    crop_side,
    crops,
    enlarged,
    gripper_in_crop,
    gripper_is_seen,
    gripper_measures,
    moved_in_picture,
)
from uwm.metrics.perceptual import load_lpips
from uwm.models import TokenConfig


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> ActionPairs:
    file = write_toy(tmp_path_factory.mktemp("toy") / "toy.hdf5", demos=3, hand=True)
    corpus = open_corpus("toy", file)
    return action_pairs(corpus, build_manifest(corpus, "train"))


@pytest.mark.parametrize(("short_side", "size"), [(SIDE, SIDE), (96, 96), (96, 80), (40, 32)])
def test_the_place_is_where_the_square_is(pairs: ActionPairs, short_side: int, size: int) -> None:
    assert gripper_is_seen(pairs)
    images = evaluation_images(pairs, short_side, size).float()
    found = gripper_in_crop(pairs, short_side, size)
    bright = (images[:, :, 0] > 180).double()  # (n, 2, size, size): red tells the square
    whole = bright.sum((2, 3)).amin(1) > 0.8 * bright.sum((2, 3)).amax()  # not cut off by the crop
    assert whole.sum() > 20
    across = torch.arange(size, dtype=torch.float64) + 0.5
    x = (bright.sum(2) * across).sum(-1) / bright.sum((2, 3))
    y = (bright.sum(3) * across).sum(-1) / bright.sum((2, 3))
    seen = torch.stack([x, y], -1).mean(1)
    assert (seen - found)[whole].abs().max() < 1.5


def test_motion_in_the_picture_by_one_that_sees_it(pairs: ActionPairs) -> None:
    """A reader of two numbers of the state: true places give the true motion, the same state none."""
    true = eef_in_crop(pairs, SIDE, SIDE)  # (n, 2, 2)
    tokens = TokenConfig(state_width=2, state_tokens=2)
    reader = StateReader(ReaderConfig(outputs=2, channels=4, width=8, tokens=tokens))
    reader.scaled = lambda states: states[:, 0, 1].float()  # type: ignore[method-assign]
    states = true[:, :, None].expand(-1, -1, 2, -1)  # (n, 2, 1+N, D)
    moved = moved_in_picture(reader, states[:, 0], states[:, 1])
    assert (moved - true.diff(dim=1)[:, 0]).abs().max() < 1e-4
    assert moved_in_picture(reader, states[:, 0], states[:, 0]).abs().max() == 0
    assert torch.equal(true.mean(1), gripper_in_crop(pairs, SIDE, SIDE))


def test_crops_stay_inside() -> None:
    images = torch.arange(100.0).reshape(1, 1, 10, 10).expand(3, 3, 10, 10)
    places = torch.tensor([[5.0, 4.0], [0.0, 9.9], [-20.0, 50.0]])
    found = crops(images, places, 4)[:, 0]
    assert found[0, 0].tolist() == [23, 24, 25, 26]  # columns 3 to 6 of row 2
    assert found[1, 0].tolist() == found[2, 0].tolist() == [60, 61, 62, 63]  # the corner below on the left


def test_side() -> None:
    assert crop_side(112, 31) == 40
    assert crop_side(224, 31) == 80
    assert crop_side(64, 31) == 31


def test_measures_look_at_the_crop_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    o_next = torch.rand(2, 3, 112, 112, generator=generator)
    outside, inside = o_next.clone(), o_next.clone()
    outside[..., :20, :] = 0
    inside[..., 50:60, 50:60] = 0
    places = torch.full((2, 2), 60.0)
    network = load_lpips("random")
    unseen = gripper_measures(network, outside, o_next, o_next, places)
    assert unseen["lpips_hand"].abs().max() < 1e-6
    assert (unseen["psnr_hand"] == 100).all()
    seen = gripper_measures(network, inside, outside, o_next, places)
    assert (seen["lpips_hand_true"] > 0).all()
    torch.testing.assert_close(seen["lpips_hand"], seen["lpips_hand_true"])
    assert (seen["psnr_hand"] < 30).all()
    assert (seen["ssim_hand"] < 1).all()


def test_enlarged() -> None:
    images = torch.zeros(1, 3, 112, 112)
    images[..., 40:80, 30:70] = 1
    assert (enlarged(images, torch.tensor([[50.0, 60.0]])) > 0.99).all()
    assert enlarged(images, torch.tensor([[50.0, 60.0]])).shape == images.shape
