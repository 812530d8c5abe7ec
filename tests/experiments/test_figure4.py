"""Figure 4 at scale smoke: its cells, what they rest on, and the command from end to end."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.recomputed import assert_recomputed
from uwm.data.corpora import BUNDLED, bundled
from uwm.data.crops import center_crop
from uwm.data.manifest import read_manifest
from uwm.data.pairs import load_pairs
from uwm.models import MaskedAutoencoder, WorldModel
from uwm.models.storage import load_module
from uwm.models.world_model import WorldModelConfig
from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment
from uwm.stages.trained import WEIGHTS

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = load_experiment(ROOT / "experiments" / "figure4.py")
figure4 = sys.modules[EXPERIMENT.run_cell.__module__]
CORPUS = BUNDLED[0]  # any corpus will do: what is tested is not what comes out
SMOKE = ["--scale", "smoke", "--set", f"corpora={CORPUS}", "curve=4,100000"]
TRAINED = {"w_ft", "w_tfs", "scratch", "w_ft-4", "w_ft-dynamics", "w_ft-no-codebook"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Records of a smoke run, and of another that trains everything anew."""
    out = tmp_path_factory.mktemp("figure4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UWM_CACHE", str(out / "cache"))
        patch.setenv("UWM_RUNS", str(out / "runs"))
        assert main(EXPERIMENT, [*SMOKE, "--out", str(out / "first")]) == 0
        shutil.copytree(out / "cache", out / "first-cache")
        some = ["--only", "w_pre,w_ft,scratch"]
        assert main(EXPERIMENT, [*SMOKE, *some, "--recompute", "--out", str(out / "second")]) == 0
        yield out


def records(folder: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {record["cell"]: record for record in found}


def artifact(finished: Path, record: dict, stage: str) -> Path:
    return finished / "first-cache" / f"{stage}-{record['inputs']['stages'][stage]['digest']}"


@pytest.mark.slow
def test_every_cell_and_metric_is_there(finished: Path) -> None:
    found = records(finished / "first")
    assert_recomputed(finished / "first")
    plain = {f"{m}/{CORPUS}" for m in ("w_pre", "copy", "oracle")}
    seeded = {f"{m}/{CORPUS}/s0" for m in (*TRAINED, "w_ft-100k")}
    assert set(found) == plain | seeded
    skipped = found.pop(f"w_ft-100k/{CORPUS}/s0")
    assert skipped["status"] == "skipped"
    assert "fewer than 100000: lower curve" in skipped["error"]
    names = "lpips_to_next lpips_to_next_true psnr ssim psnr_blurred ssim_blurred lpips_region psnr_region"
    for cell, record in found.items():
        assert record["status"] == "ok", record["error"]
        assert {n + half for n in names.split() for half in ("", "_moving")} <= set(record["metrics"]), cell
        assert record["metrics"]["lpips_to_next"]["n"] == 12
        assert ("perplexity" in record["metrics"]) == cell.startswith(("w_", "scratch"))
    copy, oracle = (found[f"{m}/{CORPUS}"]["metrics"] for m in ("copy", "oracle"))
    assert oracle["lpips_region"]["value"] == 0 == copy["lpips_to_current"]["value"]
    assert oracle["psnr_blurred"]["value"] == 100
    assert copy["lpips_region"]["value"] > copy["lpips_to_next"]["value"]  # a region has more of the change


def test_the_mini_cells_are_those_of_the_paper_and_more() -> None:
    cells = {cell.name for cell in EXPERIMENT.cells(EXPERIMENT.configs["mini"], {})}
    methods = "w_ft w_tfs scratch w_ft-100 w_ft-500 w_ft-10k w_ft-dynamics w_ft-no-codebook"
    assert {f"{m}/sim-panda/s0" for m in methods.split()} < cells
    assert {f"w_ft/sim-panda/s{s}" for s in (1, 2)} < cells
    assert len(cells) == 8 + 2 + 3
    assert len(EXPERIMENT.cells(EXPERIMENT.configs["paper"], {})) == 3 * 8 + 3
    config = EXPERIMENT.configs["mini"]
    recipes = figure4.recipes(config)
    assert (recipes["w_ft"].pairs, recipes["scratch"].pairs, recipes["w_tfs"].pairs) == (2000, 2000, None)
    assert {recipe.train.learning_rate for recipe in recipes.values()} == {
        config.finetune.train.learning_rate
    }
    added = figure4.measured_corpora(EXPERIMENT.configs["paper"], {"ssv2": Path(), "lift": Path()})
    assert added == ("robosuite", "lift")  # what is pre-trained on is not in-domain


def test_the_same_command_gives_the_same_numbers(finished: Path) -> None:
    first, second = records(finished / "first"), records(finished / "second")
    assert len(second) == 3
    for cell, record in second.items():
        for key in ("metrics", "inputs", "samples", "config_digest"):
            assert record[key] == first[cell][key], (cell, key)
    for path in (finished / "second").rglob("*.csv"):
        same = finished / "first" / path.relative_to(finished / "second")
        assert path.read_bytes() == same.read_bytes(), path.name


def test_w_pre_is_the_pretrained_model_untouched(finished: Path) -> None:
    record = records(finished / "first")[f"w_pre/{CORPUS}"]
    stage = artifact(finished, record, "world-model-1960")
    model = WorldModel.load(stage / WEIGHTS)
    samples = pd.read_csv(finished / "first" / record["samples"]["path"])
    mae = MaskedAutoencoder.load(artifact(finished, record, "mae") / WEIGHTS)
    manifests = [read_manifest(p) for p in (finished / "cache" / "manifests").glob(f"{CORPUS}-test-*.csv")
                 if not p.name.endswith(".skipped.csv")]  # fmt: skip
    manifest = next(m for m in manifests if m.sha256 == record["inputs"]["manifest_sha256"])
    images = center_crop(load_pairs(bundled(CORPUS), manifest, 64), 64, 64)
    with torch.no_grad():
        s_t, s_next = mae.encode(images.flatten(0, 1) / 255).unflatten(0, (-1, 2)).unbind(1)
        predicted = model.predict(s_t, model.infer_actions(s_t, s_next).quantized)
    mse = (predicted - s_next).square().mean((1, 2)).numpy()
    np.testing.assert_allclose(samples["w_pre/state_mse"], mse, rtol=1e-4)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_module(folder / WEIGHTS, "WorldModel", WorldModelConfig)[1]


def test_frozen_parts_come_out_as_they_went_in(finished: Path) -> None:
    found = records(finished / "first")
    parent = weights(artifact(finished, found[f"w_pre/{CORPUS}"], "world-model-1960"))
    kept = {}
    for method in ("w_ft", "w_ft-dynamics", "w_ft-no-codebook"):
        after = weights(artifact(finished, found[f"{method}/{CORPUS}/s0"], "finetune"))
        parts = {name.partition(".")[0] for name in parent if name != "step"}
        changed = {n.partition(".")[0] for n in parent if not parent[n].equal(after[n])} - {"step"}
        kept[method] = parts - changed
    assert kept == {
        "w_ft": set(),
        "w_ft-dynamics": {"extractor", "quantizer"},
        "w_ft-no-codebook": {"quantizer"},
    }


def test_only_a_finetuned_model_rests_on_the_pretrained_one(finished: Path) -> None:
    for cell, record in records(finished / "first").items():
        stages = set(record["inputs"]["stages"])
        if cell.startswith(("w_tfs", "scratch")):
            assert stages == {"mae", "finetune"}
        elif record["status"] == "ok" and cell.endswith("/s0"):
            assert stages == {"mae", "world-model-1960", "finetune"}, cell


def test_panels_have_the_columns_of_the_paper(finished: Path) -> None:
    folder = finished / "first" / "panels" / CORPUS
    numbers = pd.read_csv(folder / "panels.csv")
    for k in numbers["k"]:
        for tile in ("o_t", "o_next", "w_pre", "w_tfs", "w_ft"):
            assert Image.open(folder / f"{k}_{tile}.png").size == (64, 64)
    assert Image.open(folder / "all.png").size == (5 * 64, len(numbers) * 64)


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Runs the command line in this process, expects exit code 2, and gives the one line on stderr."""
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UWM_RUNS", str(tmp_path / "runs"))

    def call(*arguments: str) -> str:
        assert main(EXPERIMENT, [*SMOKE, *arguments, "--out", str(tmp_path / "out")]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, lines
        return lines[0]

    return call


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--only", "w_pree"], ["w_pree", "w_pre"]),
        (["--data", "lift=/no/such.hdf5"], ["/no/such.hdf5"]),
        (["--set", "finetune.pears=3"], ["pears", "pairs"]),
        (["--set", "finetune.trained=nothing"], ["nothing", "dynamics"]),
        (["--set", "seeds=one"], ["one"]),
        (["--set", "test_split=tset", "--only", "copy"], ["tset", "test"]),
    ],
)
def test_bad_input_is_one_line(refused: Callable[..., str], arguments: list[str], parts: list[str]) -> None:
    line = refused(*arguments)
    assert all(part in line for part in parts), line
