"""Stitched pairs: which frames they take, and the leak by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uwm.metrics.leak import error_over_copy, pairs_of_other_clips, recolored


def test_pairs_of_other_clips_by_hand() -> None:
    assert pairs_of_other_clips(["a", "a", "b", "b"]).tolist() == [2, 3, 0, 1]
    assert pairs_of_other_clips(["a", "a", "a", "b"]).tolist() == [3, 3, 3, 1]
    with pytest.raises(ValueError, match="two clips"):
        pairs_of_other_clips(["a", "a"])


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=30).filter(lambda clips: len(set(clips)) > 1))
def test_a_pair_is_never_stitched_to_its_own_clip(clips: list[str]) -> None:
    others = pairs_of_other_clips(clips)
    assert all(clips[j] != clip for clip, j in zip(clips, others.tolist(), strict=True))


def test_error_over_copy_by_hand() -> None:
    current, target = torch.zeros(2, 3), torch.tensor([[1.0, 1, 1], [2, 2, 2]])  # the copy's: 3 + 12
    assert error_over_copy(current, current, target) == 1
    assert error_over_copy(target, current, target) == 0
    halfway = torch.tensor([[1.0, 1, 1], [1, 1, 1]])  # 0 + 3
    assert error_over_copy(halfway, current, target) == pytest.approx(0.2)
    assert math.isnan(error_over_copy(target, target, target))


def test_recoloring_moves_the_means_and_nothing_else() -> None:
    current = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 2
    target = torch.full((2, 3, 8, 8), 0.6)
    out = recolored(current, target)
    torch.testing.assert_close(out.mean((2, 3)), target.mean((2, 3)))
    torch.testing.assert_close(
        out - out.mean((2, 3), keepdim=True), current - current.mean((2, 3), keepdim=True)
    )
    assert recolored(torch.full((1, 3, 2, 2), 0.5), torch.ones(1, 3, 2, 2)).max() <= 1
