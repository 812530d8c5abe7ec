"""Runs of pairs, steps on top of steps, and their animation."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from uwm.data.manifest import Manifest
from uwm.errors import UserError
from uwm.evaluation.animation import LABEL, write_animation
from uwm.evaluation.eval_pairs import EvalPairs, RolloutSegments
from uwm.evaluation.predictors import Prediction
from uwm.evaluation.rollouts import roll_out
from uwm.evaluation.segments import rollout_segments, segments_from


def manifest(**clips: list[int]) -> Manifest:
    """Pairs two frames apart that begin at these frames."""
    rows = [
        {"video": name, "frame0": frame, "frame1": frame + 2}
        for name, frames in clips.items()
        for frame in frames
    ]
    return Manifest(pd.DataFrame(rows))


def frames(found: tuple[Manifest, Tensor]) -> list[list[int]]:
    table, places = found[0].table, found[1]
    return [[int(table.loc[place, "frame0"]) for place in run] for run in places.tolist()]


def test_each_pair_begins_where_the_one_before_ends() -> None:
    pairs = manifest(a=list(range(9)), b=[0, 1, 2, 3], c=[0, 4, 6])
    found = rollout_segments(pairs, 2, most=100)
    assert frames(found) == [[0, 2], [4, 6], [0, 2]]  # c has a gap after its first pair
    table = found[0].table
    assert list(table["video"]) == ["a"] * 4 + ["b"] * 2
    first, second = (table.loc[found[1][:, k].numpy(), "video"] for k in (0, 1))
    assert list(first) == list(second)
    assert frames(rollout_segments(pairs, 4, most=100)) == [[0, 2, 4, 6]]


def test_runs_are_taken_evenly() -> None:
    pairs = manifest(**{f"clip{i}": [0, 2] for i in range(9)})
    chosen, places = rollout_segments(pairs, 2, most=3)
    assert list(chosen.table["video"][::2]) == ["clip0", "clip4", "clip8"]
    assert places.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_no_run_is_one_line() -> None:
    with pytest.raises(UserError, match="no clip has 5 pairs") as caught:
        rollout_segments(manifest(a=[0, 2, 4]), 5, most=10)
    assert "\n" not in str(caught.value)


def timed(pairs: Manifest) -> Manifest:
    """With times: a frame is 0.1 s, but for the 0.01 s that frames from 5 on are late."""
    table = pairs.table
    late = {end: 0.1 * table[f"frame{end}"] + 0.01 * (table[f"frame{end}"] >= 5) for end in (0, 1)}
    return Manifest(table.assign(t0=late[0], t1=late[1], gap=late[1] - late[0]))


def test_runs_go_on_from_the_first_frames_that_are_asked_for() -> None:
    pairs = timed(manifest(a=list(range(9)), b=[0, 2, 6]))
    starts = timed(manifest(a=[3, 1, 5], b=[0, 2]))
    chosen, places, ends = segments_from(pairs, starts, 3)
    assert frames((chosen, places)) == [[3, 5, 7], [1, 3, 5]]  # 5 is too late in a, and b has a gap
    assert set(chosen.table["video"]) == {"a"}
    found = ends.table[["video", "frame0", "frame1", "t0", "t1", "gap"]].to_numpy().tolist()
    assert [row[:3] for row in found] == [["a", 3, 9], ["a", 1, 7]]
    np.testing.assert_allclose([row[3:] for row in found], [[0.3, 0.91, 0.61], [0.1, 0.71, 0.61]])


def test_starts_that_nothing_follows_are_one_line() -> None:
    pairs = timed(manifest(a=[0, 1]))
    with pytest.raises(UserError, match="no clip has 2 pairs") as caught:
        segments_from(pairs, pairs, 2)
    assert "\n" not in str(caught.value)


def test_steps_build_on_each_other() -> None:
    """Each step doubles the state and adds the true one: 0, 1, 2 along each segment of three pairs."""
    true = torch.arange(6.0).remainder(3)[:, None, None, None].expand(-1, 2, 1, 1)  # (6, 2, 1, 1)
    pairs = SimpleNamespace(
        states=true + 1, controls=(torch.zeros(6, 1, 7), torch.ones(6, 1, dtype=torch.bool))
    )
    segments = RolloutSegments(cast(EvalPairs, pairs), torch.arange(6).unflatten(0, (2, 3)))
    states = roll_out(
        lambda step: Prediction(step.now * 2 + step.s_t - 1), segments, torch.device("cpu"), size=1
    )
    assert states.shape == (2, 3, 1, 1)
    assert states.flatten(1).tolist() == [[2, 5, 12]] * 2


def test_an_animation_shows_its_columns_side_by_side(tmp_path: Path) -> None:
    ramp = torch.linspace(0, 1, 5)[:, None, None, None].expand(-1, 3, 16, 16)
    write_animation({"true": ramp, "still": ramp[:1].expand_as(ramp)}, tmp_path / "a.gif", 0.2, enlarge=2)
    write_animation({"true": ramp, "still": ramp[:1].expand_as(ramp)}, tmp_path / "b.gif", 0.2, enlarge=2)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    with Image.open(tmp_path / "a.gif") as image:
        assert (image.size, image.n_frames, image.info["duration"], image.info["loop"]) == (
            (64, 32 + LABEL),
            5,
            200,
            0,
        )
        image.seek(4)
        last = np.asarray(image.convert("RGB"))
    assert last[LABEL:, :32].min() > 230
    assert last[LABEL:, 32:].max() < 25
    for half in (last[:LABEL, :32], last[:LABEL, 32:]):  # its name, in black on white
        assert half.min() < 60 < 230 < half.max()


def test_a_small_thing_keeps_its_colour_in_an_animation(tmp_path: Path) -> None:
    """Among many greys and browns a red block is few pixels."""
    clip = (
        torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1, 0.9, 0.8])[:, None, None]
    )
    clip[:, :, :5, :5] = torch.tensor([0.8, 0.05, 0.05])[:, None, None]
    write_animation({"true": clip}, tmp_path / "a.gif", 0.2, enlarge=1)
    with Image.open(tmp_path / "a.gif") as image:
        block = np.asarray(image.convert("RGB"))[LABEL : LABEL + 5, :5] / 255
    assert abs(block - [0.8, 0.05, 0.05]).max() < 0.1
