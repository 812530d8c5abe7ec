"""Procedural video: pairs by seed, what moves between them, and their frames as a bank."""

import numpy as np
import pytest
import torch

from uwm.data.procedural_video import STILL, procedural_bank, procedural_pairs


def test_a_pair_depends_on_its_place_and_the_seed_alone() -> None:
    pairs = procedural_pairs(300, 32, 0)
    assert pairs.shape == (300, 2, 3, 32, 32)
    assert pairs.dtype == np.uint8
    assert np.array_equal(procedural_pairs(300, 32, 0), pairs)
    assert not np.array_equal(procedural_pairs(300, 32, 1), pairs)
    assert np.array_equal(procedural_pairs(280, 32, 0), pairs[:280])


def test_most_pairs_move_and_some_stand_still() -> None:
    pairs = procedural_pairs(300, 64, 3).astype(int)
    changed = (np.abs(pairs[:, 0] - pairs[:, 1]).max(1) > 8).mean((1, 2))  # share of the pixels, (300,)
    assert 0.01 < (changed == 0).mean() < STILL  # no shape, and a camera that stands still
    assert (changed > 0.3).mean() > 0.2  # the camera moves
    partly = (changed > 0) & (changed < 0.3)
    assert partly.mean() > 0.1  # shapes alone move


def test_the_motion_is_small() -> None:
    """The best shift between the frames of a moving camera lies within a quarter of the picture."""
    pairs = procedural_pairs(40, 64, 5).astype(float).mean(2)  # (40, 2, 64, 64)
    shifts = []
    for first, second in pairs:
        if np.abs(first - second).mean() < 1:
            continue
        spectrum = np.fft.fft2(first - first.mean()) * np.conj(np.fft.fft2(second - second.mean()))
        peak = np.unravel_index(np.fft.ifft2(spectrum / np.abs(spectrum).clip(1e-9)).real.argmax(), (64, 64))
        shifts.append([min(place, 64 - place) for place in peak])
    assert len(shifts) > 20
    assert np.median(np.max(shifts, axis=1)) < 16
    assert np.max(shifts) > 0


def test_bank() -> None:
    bank = procedural_bank(5, 32, 0.2, 0)
    assert bank.frames.shape == (10, 3, 32, 32)
    assert bank.clip.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert bank.time.tolist() == pytest.approx([0, 0.2] * 5)
    assert bank.pairs.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert torch.equal(bank.frames.unflatten(0, (5, 2)), torch.from_numpy(procedural_pairs(5, 32, 0)))
