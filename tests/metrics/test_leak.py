"""Stitched pairs: which frames they take."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uwm.metrics.leak import pairs_of_other_clips


def test_pairs_of_other_clips_by_hand() -> None:
    assert pairs_of_other_clips(["a", "a", "b", "b"]).tolist() == [2, 3, 0, 1]
    assert pairs_of_other_clips(["a", "a", "a", "b"]).tolist() == [3, 3, 3, 1]
    with pytest.raises(ValueError, match="two clips"):
        pairs_of_other_clips(["a", "a"])


@given(st.lists(st.sampled_from("abc"), min_size=2, max_size=30).filter(lambda clips: len(set(clips)) > 1))
def test_a_pair_is_never_stitched_to_its_own_clip(clips: list[str]) -> None:
    others = pairs_of_other_clips(clips)
    assert all(clips[j] != clip for clip, j in zip(clips, others.tolist(), strict=True))
