"""Batches in memory: crops, flips and views."""

import weakref
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uwm.data.crops import fixed_views, random_crops
from uwm.data.draws import Draws
from uwm.data.pairs import joined_parts
from uwm.models import MAE_PRESETS, MaskedAutoencoder
from uwm.training.batches import IndexSource
from uwm.training.sources import cropped_images, encode_images, encode_views, state_pairs


def coordinates(count: int, height: int, width: int) -> torch.Tensor:
    """Pictures (count, 3, H, W) that carry their own row, column and number."""
    row = torch.arange(height, dtype=torch.uint8)[:, None].expand(height, width)
    column = torch.arange(width, dtype=torch.uint8)[None].expand(height, width)
    return torch.stack([torch.stack([row, column, torch.full_like(row, i)]) for i in range(count)])


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=30)
def test_a_pair_is_cropped_and_flipped_alike(seed: int) -> None:
    frames = coordinates(8, 20, 24).unflatten(0, (4, 2))  # (4, 2, 3, 20, 24)
    crops = random_crops(frames, 16, Draws(torch.Generator().manual_seed(seed)))
    assert crops.shape == (4, 2, 3, 16, 16)
    for (first, second), number in zip(crops, range(4), strict=True):
        assert torch.equal(first[:2], second[:2])  # the same rows and columns of both frames
        assert first[2, 0, 0] == 2 * number
        rows, columns = first[0].long(), first[1].long()
        assert (rows.diff(dim=0) == 1).all()
        assert columns.diff(dim=1).unique().tolist() in ([1], [-1])


def test_crops_reach_every_place_and_both_flips() -> None:
    crops = random_crops(coordinates(200, 18, 18), 16, Draws(torch.Generator().manual_seed(0)))
    assert set(crops[:, 0, 0, 0].tolist()) == {0, 1, 2}
    flipped = crops[:, 1, 0, 0] > crops[:, 1, 0, -1]
    assert 60 < flipped.sum() < 140


def test_batches_are_a_function_of_seed_and_step() -> None:
    load = cropped_images(coordinates(30, 20, 20), 16)
    whole = IndexSource(30, load, batch_size=8, seed=3).batches(0, 0, 1)
    later = IndexSource(30, load, batch_size=8, seed=3).batches(4, 0, 1)
    expected = [next(whole) for _ in range(6)]
    assert torch.equal(next(later), expected[4])
    assert torch.equal(next(later), expected[5])


def test_a_view_has_one_crop_per_clip() -> None:
    frames = coordinates(12, 20, 20)
    clips = torch.arange(12) // 4
    views = list(fixed_views(frames, clips, 16, views=3, seed=1))
    again = list(fixed_views(frames, clips, 16, views=3, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))
    for view in views:
        for clip in view.split(4):
            assert all(torch.equal(frame[:2], clip[0, :2]) for frame in clip)
        assert view[:, 2, 0, 0].tolist() == list(range(12))
    assert not torch.equal(views[0][:, :2], views[1][:, :2])


def test_state_pairs_take_both_frames_from_one_view() -> None:
    states = torch.arange(2 * 6).reshape(2, 6, 1, 1).float()  # view 0: 0..5, view 1: 6..11
    pairs = torch.tensor([[0, 2], [1, 3], [3, 5]])
    batch = state_pairs(states, pairs)(torch.tensor([0, 1, 2] * 20), Draws(torch.Generator().manual_seed(0)))
    assert batch.shape == (60, 2, 1, 1)
    assert (batch[:, 1] - batch[:, 0] == 2).all()
    assert {float(x) for x in batch[::3, 0, 0, 0]} == {0.0, 6.0}


def test_encoded_images_are_the_states() -> None:
    mae = MaskedAutoencoder(MAE_PRESETS["tiny"]).eval()
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = mae.encode(images.float() / 255)
    torch.testing.assert_close(encode_images(mae, images, batch_size=2).float(), expected, atol=2e-3, rtol=0)


def test_views_of_several_parts_are_encoded_view_by_view() -> None:
    mae = MaskedAutoencoder(MAE_PRESETS["tiny"])
    size = mae.config.image_size
    views = [[coordinates(count, size, size).roll(view, -1) for count in (3, 5)] for view in range(2)]
    expected = torch.stack([torch.cat([encode_images(mae, part) for part in view]) for view in views])
    found = encode_views(mae, iter(views), 16)
    assert torch.equal(found.unflatten(0, (2, 8)), expected)
    assert torch.equal(encode_views(mae, [views[0][:1]], 3), expected[0, :3])  # one view of one part


def test_no_second_copy_of_all_states_is_in_memory() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def parts() -> Iterator[torch.Tensor]:
        for number in range(6):
            assert sum(part() is not None for part in alive) <= 1  # the last one, while the next is made
            part = torch.full((2, 3), float(number))
            alive.append(weakref.ref(part))
            yield part
            del part

    assert joined_parts(parts(), 12)[:, 0].tolist() == [number for number in range(6) for _ in range(2)]
    whole = torch.ones(4, 2)
    assert joined_parts(iter([whole]), 4) is whole


def test_parts_that_are_too_few_are_no_states() -> None:
    with pytest.raises(AssertionError):
        joined_parts(iter([torch.ones(2, 3)]), 4)
