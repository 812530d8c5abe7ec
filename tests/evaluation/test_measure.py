"""What experiments share in measuring: by hand on small numbers, and on pictures."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from uwm.data.manifest import Manifest
from uwm.evaluation.measure import (
    FramePairs,
    Measuring,
    in_batches,
    measure_pairs,
)
from uwm.evaluation.panels import draw_tiles, panel_rows, write_tiles
from uwm.evaluation.records import copy_atomically, method_metrics, metrics, write_table
from uwm.evaluation.summary import table_text
from uwm.metrics.image import psnr, ssim
from uwm.metrics.perceptual import load_lpips
from uwm.models import MAE_PRESETS, MaskedAutoencoder, WorldModel
from uwm.models.world import World
from uwm.runs.record import metric_entry
from uwm.stages.world_model import high_rate


class Halves(NamedTuple):
    """Two tensors of one length."""

    low: Tensor
    high: Tensor


def test_batches_are_joined_again() -> None:
    a, b = torch.arange(10.0), torch.arange(10.0, 20.0)
    assert in_batches(torch.add, a, b, size=3).equal(a + b)
    joined = in_batches(lambda x: Halves(x / 2, x * 2), a, size=4)
    assert isinstance(joined, Halves)
    assert joined.low.equal(a / 2)
    assert joined.high.equal(a * 2)


@pytest.fixture(scope="module")
def world() -> World:
    """Untrained models for pictures of 64 pixels."""
    mae = MaskedAutoencoder(MAE_PRESETS["tiny"]).eval().requires_grad_(False)
    return World(mae, WorldModel(high_rate(64).fitted(mae.config)).eval(), {})


def test_pairs_are_measured_against_what_the_mae_shows_and_against_the_frames(world: World) -> None:
    images = torch.randint(0, 256, (5, 2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    images[0, 1] = images[0, 0]  # the one pair without motion
    table = pd.DataFrame({"video": list("aabbc"), "t0": [0.0] * 5, "t1": [0.2] * 5, "frame0": [0] * 5})
    s_t, s_next = world.encode(images.byte()).unbind(1)
    states = {"half/s0": (s_t + s_next) / 2, "copy": s_t, "oracle": s_next}
    network = load_lpips("random")
    pairs, frames = measure_pairs(
        Measuring(world, network),
        FramePairs(Manifest(table), images.byte()),
        states,
        keep=["half/s0"],
        batch_size=2,
    )
    o_t, o_next = (images / 255).unbind(1)
    shown, r_next = world.mae.decode(states["half/s0"]), world.mae.decode(s_next)
    expected = {
        "motion": network(o_t, o_next),
        "lpips_of_copy": network(world.mae.decode(s_t), r_next),
        "half/s0/lpips_to_next": network(shown, r_next),
        "half/s0/lpips_to_current": network(shown, world.mae.decode(s_t)),
        "half/s0/lpips_to_next_true": network(shown, o_next),
        "half/s0/lpips_to_current_true": network(shown, o_t),
        "half/s0/psnr": psnr(shown, o_next),
        "half/s0/ssim": ssim(shown, o_next),
        "half/s0/state_mse": ((states["half/s0"] - s_next) ** 2).mean((1, 2)),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(pairs[name], values.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)
    torch.testing.assert_close(frames["half/s0"], shown)
    assert pairs["motion"][0] == 0
    assert pairs["moving"].sum() == 2  # of five pairs, those above the median
    assert not pairs["moving"][0]
    assert (pairs["oracle/lpips_to_next"] == 0).all()
    measured = method_metrics(pairs, "half/s0", network.protocol)
    assert measured["lpips_to_next"].n == 5
    assert measured["lpips_to_next_moving"].n == 2
    assert measured["state_mse"].value == pytest.approx(expected["half/s0/state_mse"].mean().item(), rel=1e-4)


def pairs_of(columns: dict[str, list[float]], videos: list[str]) -> pd.DataFrame:
    zeros = [0.0] * len(videos)
    names = ("lpips_to_current_true", "lpips_to_next_true", "psnr", "ssim", "state_mse")
    rest = {f"uwm/{name}": zeros for name in names}
    return pd.DataFrame({"video": videos, **{f"uwm/{k}": v for k, v in columns.items()}, **rest})


def test_metrics_by_hand() -> None:
    pairs = pairs_of({"lpips_to_current": [0.4, 0.2], "lpips_to_next": [0.1, 0.3]}, ["a", "b"])
    pairs["lpips_of_copy"] = [0.3, 0.2]
    measured = metrics(pairs, "uwm", "lpips-alex")
    assert measured["lpips_to_current"].value == pytest.approx(0.3)
    assert measured["lpips_to_next"].value == pytest.approx(0.2)
    assert measured["lpips_ratio"].value == pytest.approx(0.2 / 0.3)  # ratio of means, not mean of ratios
    assert measured["success_vs_current"].value == 0.5
    assert measured["success_vs_copy"].value == 0.5
    assert measured["lpips_to_next"].ci is None  # two clips say nothing of others
    assert metric_entry("psnr", measured["psnr"])["better"] == "higher"
    assert measured["lpips_ratio"].protocol == "lpips-alex"
    assert measured["state_mse"].protocol is None


def test_a_copy_has_no_ratio() -> None:
    pairs = pairs_of({"lpips_to_current": [0.0, 0.0], "lpips_to_next": [0.1, 0.3]}, ["a", "b"])
    pairs["lpips_of_copy"] = [0.1, 0.3]
    measured = metrics(pairs, "uwm", "lpips-alex", "_moving")
    assert "lpips_ratio_moving" not in measured
    assert measured["success_vs_copy_moving"].value == 0


def test_panels_are_chosen_by_motion_from_different_clips() -> None:
    motion = np.linspace(0, 1, 200)
    pairs = pd.DataFrame({"video": [f"v{i % 7}" for i in range(200)], "motion": motion})
    pairs["moving"] = pairs["motion"] > pairs["motion"].median()
    rows = panel_rows(pairs)
    assert len(rows) == 5
    assert pairs.loc[rows, "video"].nunique() == 5
    assert pairs.loc[rows, "moving"].all()
    np.testing.assert_allclose(pairs.loc[rows, "motion"], [0.55, 0.65, 0.75, 0.85, 0.95], atol=0.04)
    few = pairs[pairs["video"] == "v0"]
    assert len(set(panel_rows(few))) == 5  # one clip only: five different pairs of it


def test_tiles_are_drawn_in_rows(tmp_path: Path) -> None:
    grey = torch.tensor([0.0, 0.2, 0.4]).view(3, 1, 1, 1).expand(3, 3, 8, 8)
    write_tiles({"o_t": grey, "w_ft": 1 - grey}, tmp_path / "panels")
    drawn = draw_tiles(tmp_path / "panels", ("o_t", "w_pre", "w_ft"))  # w_pre isn't there yet
    assert drawn is not None
    picture = np.asarray(Image.open(drawn))
    assert picture.shape == (24, 16, 3)
    assert picture[::8, ::8, 0].tolist() == [[0, 255], [51, 204], [102, 153]]
    assert draw_tiles(tmp_path, ("o_t",)) is None
    assert not list(tmp_path.rglob(".*")), "temporary files are left"


def test_a_copy_replaces_the_file(tmp_path: Path) -> None:
    write_table(pd.DataFrame({"x": [1 / 3, 2.0]}), tmp_path / "a.csv")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.csv").write_text("old")
    copy_atomically(tmp_path / "a.csv", tmp_path / "out" / "b.csv")
    assert (tmp_path / "out" / "b.csv").read_text() == "x\n0.333333\n2\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.csv"]


def test_the_table_has_a_dash_for_what_is_not_measured() -> None:
    entry = {"value": 0.25, "ci": [0.2, 0.3]}
    head, row = table_text({"copy": {"psnr_moving": entry}}, ("lpips_ratio", "psnr")).splitlines()
    assert head.split() == ["method", "lpips_ratio", "psnr"]
    assert row.split() == ["copy", "-", "0.250", "[0.200,", "0.300]"]


def test_metrics_are_those_of_the_samples(tmp_path: Path) -> None:
    """Also where two distances differ by less than samples tell."""
    pairs = pd.DataFrame(
        {
            "video": ["a", "b"],
            "t0": [0.0, 0.0],
            "t1": [0.2, 0.2],
            "moving": [True, False],
            "lpips_of_copy": [0.5, 0.5],
            "mine/lpips_to_current": [0.12345614, 0.2],
            "mine/lpips_to_next": [0.12345612, 0.1],
        }
    )
    found = method_metrics(pairs, "mine", "lpips-random")
    write_table(pairs, tmp_path / "pairs.csv")
    again = method_metrics(pd.read_csv(tmp_path / "pairs.csv"), "mine", "lpips-random")
    assert found == again
    assert found["success_vs_current"].value == 0.5
