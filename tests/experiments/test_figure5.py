"""Figure 5 at scale smoke: the command from end to end, twice, and on data without actions."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from paper.fvd_tables import fvd_tables
from paper.store import Results
from tests.recomputed import assert_recomputed
from tests.robot_toy import write_toy
from uwm.data.corpora import BUNDLED, IN_DOMAIN, bundled
from uwm.errors import UserError
from uwm.evaluation.rollouts import rollout_fvd
from uwm.metrics.fvd import FVD_PROTOCOLS
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, SkipCell, load_experiment
from uwm.runs.settings import with_settings
from uwm.stages.trained import WEIGHTS, file_sha256

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = load_experiment(ROOT / "experiments" / "figure5.py")
figure5 = sys.modules[EXPERIMENT.run_cell.__module__]
SOME = "copy,oracle,r_la/*,r_gt/*,shuffled/*,no-action/*,ficc/*,*-5-steps/*"
AHEAD = {f"{name}-5-steps/s0" for name in ("r_la", "r_gt", "shuffled", "no-state", "direct", "no-action")}
METHODS = {"copy", "oracle", "r_la/s0", "r_gt/s0", "shuffled/s0", "no-action/s0", "ficc/s0"}
METHODS |= {"copy-5-steps", "oracle-5-steps", *AHEAD}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Records of a smoke run, and of a part of it in which everything is trained anew."""
    out = tmp_path_factory.mktemp("figure5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UWM_RUNS", str(out / "runs"))
        for name, cells in (("first", SOME), ("second", "r_gt/*")):
            patch.setenv("UWM_CACHE", str(out / f"{name}-cache"))
            command = ["--scale", "smoke", "--only", cells, "--out", str(out / name)]
            assert main(EXPERIMENT, command) == 0
        patch.setenv("UWM_CACHE", str(out / "first-cache"))
        command = ["--scale", "smoke", "--only", "copy,oracle", "--set", "fvd=random"]
        assert main(EXPERIMENT, [*command, "--out", str(out / "fvd")]) == 0
        yield out


def records(folder: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {record["cell"].replace(f"/{IN_DOMAIN}", ""): record for record in found}


@pytest.mark.slow
def test_every_cell_and_its_measures_are_there(finished: Path) -> None:
    found = records(finished / "first")
    assert set(found) == METHODS
    assert_recomputed(finished / "first")
    assert {record["status"] for record in found.values()} == {"ok"}
    everywhere = {"lpips_to_next", "psnr", "ssim", "lpips_region", "lpips_hand", "psnr_hand"}
    everywhere |= {"hand_error_mm", "hand_error_px"}
    for cell, record in found.items():
        assert everywhere <= set(record["metrics"]), cell
        assert record["metrics"]["lpips_to_next"]["n"] == 12
    assert "probe_r2" in found["r_la/s0"]["metrics"]
    r_gt = set(found["r_gt/s0"]["metrics"])
    assert {"code_accuracy", "latent_mse", "rollout_lpips_2", "control_left_mm", "control_success"} <= r_gt
    copy, oracle = (found[name]["metrics"] for name in ("copy", "oracle"))
    assert oracle["lpips_hand"]["value"] == 0 == copy["lpips_to_current"]["value"]
    assert found["oracle-5-steps"]["metrics"]["lpips_to_next"]["value"] == 0
    assert oracle["rollout_lpips_2"]["value"] == 0 < copy["rollout_lpips_2"]["value"]


def test_an_fvd_of_rollouts_is_asked_for_by_a_field(finished: Path) -> None:
    found, without = records(finished / "fvd"), records(finished / "first")
    assert_recomputed(finished / "fvd")
    copy, oracle = (found[name]["metrics"] for name in ("copy", "oracle"))
    assert oracle["fvd"]["value"] == pytest.approx(0, abs=1e-6)
    assert copy["fvd"]["value"] > 0
    assert min(copy["fvd_true"]["value"], oracle["fvd_true"]["value"]) > 0
    assert copy["fvd"] | {"value": 0} == {
        "value": 0, "n": 4, "better": "lower", "ci": None, "protocol": "fvd-random"
    }  # fmt: skip
    assert found["copy"]["config"]["fvd"] == "random"
    assert len(found["copy"]["inputs"]["weights"]["fvd"]) == 64
    assert "fvd" not in without["copy"]["config"] | without["copy"]["metrics"]
    assert "fvd" not in without["copy"]["inputs"]["weights"]


def test_the_table_of_fvds_names_the_protocol(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "smoke").mkdir()
    shutil.copytree(finished / "fvd", tmp_path / "smoke" / "figure5")
    [table] = fvd_tables(Results(tmp_path, ("smoke",)), "smoke")
    assert [row[1:3] for row in table.rows] == [["fvd-random", "4"]] * 2
    assert table.rows[1][3] == "0.0"
    shutil.rmtree(tmp_path / "smoke" / "figure5")
    shutil.copytree(finished / "first", tmp_path / "smoke" / "figure5")
    assert list(fvd_tables(Results(tmp_path, ("smoke",)), "smoke")) == []


def test_an_fvd_without_a_field_changes_no_identity() -> None:
    plain = EXPERIMENT.configs["smoke"]
    cell, other = Cell("copy", IN_DOMAIN), Cell("shuffled", IN_DOMAIN, 0)
    asked = with_settings(plain, ["fvd=r3d18"])
    assert "fvd" not in EXPERIMENT.reads(plain, cell)
    assert EXPERIMENT.reads(asked, cell) == {**EXPERIMENT.reads(plain, cell), "fvd": "r3d18"}
    assert EXPERIMENT.reads(asked, other) == EXPERIMENT.reads(plain, other)  # it has no rollouts


def test_a_network_that_wants_longer_runs_is_one_line() -> None:
    i3d = SimpleNamespace(protocol=FVD_PROTOCOLS["fvd-i3d"])
    with pytest.raises(
        UserError, match="fvd-i3d needs at least 2 runs of at least 10 frames, and there are 4 of 2"
    ):
        rollout_fvd(i3d, None, None, torch.zeros(4, 2, 1, 1))


def test_five_steps_ahead_are_measured_one_second_later(finished: Path) -> None:
    near, far = (
        pd.read_csv(finished / "first" / "samples" / f"{name}__{IN_DOMAIN}.csv")
        for name in ("copy", "copy-5-steps")
    )
    np.testing.assert_allclose(near["t1"] - near["t0"], 0.2, atol=1e-3)
    np.testing.assert_allclose(far["t1"] - far["t0"], 1.0, atol=1e-3)
    assert far["copy-5-steps/lpips_to_next"].mean() > near["copy/lpips_to_next"].mean()


def test_the_same_command_gives_the_same_numbers(finished: Path) -> None:
    first, second = (records(finished / run)["r_gt/s0"] for run in ("first", "second"))
    assert first["metrics"] == second["metrics"]
    assert first["samples"]["sha256"] == second["samples"]["sha256"]


def test_all_methods_predict_with_the_world_model_that_is_on_disk(finished: Path) -> None:
    found = records(finished / "first")
    [file] = (finished / "first-cache").glob(f"finetune-*/{WEIGHTS}")
    used = {found[name]["inputs"]["weights"]["world-model"] for name in ("r_la/s0", "r_gt/s0", "shuffled/s0")}
    assert used == {file_sha256(file)}


def test_panels_and_animations_are_there(finished: Path) -> None:
    out = finished / "first"
    for name in ("o_t", "o_next", "r_la", "r_gt", "r_la_hand", "r_gt_hand"):
        assert (out / "panels" / IN_DOMAIN / f"1_{name}.png").is_file()
    assert (out / "panels" / f"{IN_DOMAIN}-commands" / "1_left.png").is_file()
    assert (out / "rollouts" / f"{IN_DOMAIN}_1.gif").read_bytes().startswith(b"GIF89a")


@pytest.mark.parametrize(
    ("method", "setting", "field"),
    [
        ("copy", "decoder.pairs=100000", "decoder.pairs"),
        ("r_la", "finetune.pairs=100000", "finetune.pairs"),
        ("ficc", "ficc.pairs=100000", "ficc.pairs"),
        ("r_gt-100k", "curve=100000", "curve"),
    ],
)
def test_a_cell_that_wants_more_pairs_than_there_are_is_skipped_and_names_the_field(
    method: str, setting: str, field: str
) -> None:
    config = with_settings(EXPERIMENT.configs["smoke"], [setting])
    found = SimpleNamespace(find_only=False)
    here = {"data": {}, "artifacts": found, "once": lambda key, find: find()}
    context = SimpleNamespace(config=config, **here)
    seed = None if method == "copy" else 0
    with pytest.raises(SkipCell, match=rf"fewer than 100000: lower {field}$"):
        figure5.domain_of(context, Cell(method, IN_DOMAIN, seed))
    others = SimpleNamespace(config=EXPERIMENT.configs["smoke"], **here)
    figure5.domain_of(others, Cell("copy", IN_DOMAIN))


def test_robots_with_actions_of_other_sizes_are_corpora_of_one_run(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UWM_CACHE", str(finished / "first-cache"))
    files = {f"arm{size}": write_toy(tmp_path / f"{size}.hdf5", demos=14, size=size) for size in (3, 7)}
    data = [f"{name}={path}" for name, path in files.items()]
    only = ",".join(f"direct/{name}/s0" for name in files)
    command = ["--scale", "smoke", "--data", *data, "--only", only, "--out", str(tmp_path / "records")]
    assert main(EXPERIMENT, command) == 0
    found = records(tmp_path / "records")
    assert set(found) == set(only.split(","))
    assert {record["status"] for record in found.values()} == {"ok"}


def test_a_corpus_without_actions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    corpus = bundled(BUNDLED[0])
    videos = tmp_path / "videos"
    videos.mkdir()
    for clip in corpus.clips[:4]:
        shutil.copy(corpus.file(clip), videos)
    command = ["--scale", "smoke", "--data", f"plain={videos}", "--only", "copy/plain"]
    assert main(EXPERIMENT, [*command, "--out", str(tmp_path / "out")]) == 2
    assert "action" in capsys.readouterr().err.splitlines()[-1]


def test_what_learns_from_few_pairs_has_its_own_number_of_steps() -> None:
    """So have planning's, of the same recipe: one training serves both."""
    planning = load_experiment(ROOT / "experiments" / "planning.py")
    trained = sys.modules[planning.run_cell.__module__].trained
    few = ["curve=5", "few.steps=2", "few.views=3"]
    most = EXPERIMENT.configs["smoke"].adapter.train.steps
    config = with_settings(EXPERIMENT.configs["smoke"], few)
    found = figure5.adapters(config)
    direct = figure5.dynamics(config)
    for few_pairs in (found["r_gt-5"], direct["direct-5"]):
        assert (few_pairs.pairs, few_pairs.train.steps, few_pairs.views) == (5, 2, 3)
    for on_all in (found["r_gt"], direct["direct"]):
        assert on_all.train.steps == most > 2
        assert on_all.views == 1
    planned = trained(with_settings(planning.configs["smoke"], few))
    assert planned["r_gt-5"] == found["r_gt-5"]
    assert planned["direct-5"] == figure5.dynamics(config)["direct-5"]


def test_few_pairs_are_seen_so_often_at_most() -> None:
    """And the last steps of dynamics are as large a share of all as before."""
    config = EXPERIMENT.configs["mini"]
    direct, few = figure5.dynamics(config), config.few
    assert (few.steps, few.scarce, few.epochs, config.adapter.train.batch_size) == (1200, 500, 48, 16)
    # 100 pairs 48 times, 16 at a time; 500 no longer than their cap; 2,000 as long as all pairs.
    for pairs, adapter, dynamics in (("100", 300, 300), ("500", 1200, 1200), ("2k", 6000, 3000)):
        assert figure5.adapters(config)[f"r_gt-{pairs}"].train.steps == adapter
        assert direct[f"direct-{pairs}"].train.steps == dynamics
    last, most = direct["direct-500"].perceptual.train, direct["direct"].perceptual.train
    assert (direct["direct"].train.steps, most.steps, most.warmup_steps) == (3000, 600, 30)
    assert (last.steps, last.warmup_steps) == (240, 12)
