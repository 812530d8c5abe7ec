"""Families: what each changes of the base, their rates, and a smoke run from end to end."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from uwm.families import FAMILIES
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, load_experiment
from uwm.runs.settings import plain_value

FILE = Path(__file__).resolve().parents[2] / "experiments" / "families.py"
EXPERIMENT = load_experiment(FILE)
families = sys.modules[EXPERIMENT.run_cell.__module__]
MINI = EXPERIMENT.configs["mini"]
BITS = {
    **{"ours": 240, "genie": 3, "laq": 12, "moto": 56, "adaworld": None, "noise": 64, "noise-placed": 240},
    **{"pixels": 240, "preset-paper": 240, "preset-authors": 240},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_has_its_own_bottleneck_and_the_same_training(name: str) -> None:
    recipe, base = (families.recipe_of(MINI, Cell(n, "sim-ego", 0)) for n in (name, "ours"))
    assert recipe.model.bits == BITS[name]
    ours, its = asdict(base), asdict(recipe)
    changed = {field for field in ours if ours[field] != its[field]}
    assert changed <= ({"model", "picture_weight"} if FAMILIES[name].preset else {"model"})
    assert recipe.train == base.train


def test_the_base_is_a_training_of_the_ablations() -> None:
    ablations = load_experiment(FILE.with_name("ablations.py"))
    read = ablations.reads(ablations.configs["mini"], Cell("steps-1200", "sim-ego"))
    mine = EXPERIMENT.reads(MINI, Cell("ours", "sim-ego", 0))
    assert plain_value({"pretrain": mine["pretrain"]}) == plain_value({"pretrain": read["pretrain"]})


def test_another_family_or_seed_leaves_a_cell_valid() -> None:
    assert {"families", "seeds"}.isdisjoint(EXPERIMENT.reads(MINI, Cell("ours", "sim-ego", 0)))


def test_an_unknown_family_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["--set", "families=ours,lapa"]) == 2
    error = capsys.readouterr().err
    assert "'lapa' is none of" in error
    assert error.count("\n") == 1


def test_smoke_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    assert main(EXPERIMENT, ["--scale", "smoke", "--only", "*/sim-panda/*", "--out", str(tmp_path)]) == 0
    records = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*__*.json")}
    assert set(records) == {f"{name}__sim-panda__s0" for name in ("ours", "adaworld", "pixels")}
    for name, record in records.items():
        found = record["metrics"]
        for metric in ("adapter_px", "adapter_8_px", "hand_error_px", "still_px", "leak", "state_ratio"):
            assert found[metric]["value"] > 0, (name, metric)
        assert {"adapter", "adapter-8", "world-model", "mae", "lpips"} <= set(record["inputs"]["weights"])
        assert found["gflop"]["value"] > 0
        assert ("transfer_px" in found) == (not name.startswith("pixels"))
        assert ("code_bits" in found) == (not name.startswith("adaworld"))
    rates = {name.split("__")[0]: record["metrics"]["bits"]["value"] for name, record in records.items()}
    assert rates["ours"] == rates["pixels"] == 240
    assert 0 < rates["adaworld"] < 100
    still = {record["metrics"]["still_px"]["value"] for record in records.values()}
    assert len(still) == 1  # all are judged by the same probe, on the same pairs
    pictures = {path.name for path in (tmp_path / "panels" / "sim-panda").glob("1_*.png")}
    assert pictures == {f"1_{kind}.png" for kind in ("o_t", "o_next", "ours", "adaworld", "pixels")}


def test_too_few_labelled_pairs_are_said_by_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    for setting, field in (("labelled=100000", "labelled"), ("adapter.pairs=100000", "adapter.pairs")):
        only = ("--scale", "smoke", "--only", "ours/*", "--set", setting)
        assert main(EXPERIMENT, [*only, "--dry-run"]) == 0
        error = capsys.readouterr().err
        assert f"fewer than 100000: lower {field}: ours/sim-panda/s0" in error
        assert "sim-third-person" not in error  # it has no actions, and no adapter
