"""Ablations: variations of one recipe, their identities, and a smoke run from end to end."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.recomputed import assert_recomputed
from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment
from uwm.stages.world_model import PRETRAIN, PerceptualRecipe
from uwm.variations import BASE, PARTS, RATE, VARIATIONS

FILE = Path(__file__).resolve().parents[2] / "experiments" / "ablations.py"
EXPERIMENT = load_experiment(FILE)
ablations = sys.modules[EXPERIMENT.run_cell.__module__]
MINI = EXPERIMENT.configs["mini"]


def leaves(fields: dict, prefix: str = "") -> dict:
    """Every value of a nested dictionary by its dotted name."""
    found: dict = {}
    for name, value in fields.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found


@pytest.mark.parametrize("name", VARIATIONS)
def test_a_variation_changes_what_it_names_and_nothing_else(name: str) -> None:
    base, varied = (leaves(asdict(ablations.recipe_of(MINI, n))) for n in (BASE.name, name))
    changed = {field for field in base if base[field] != varied[field]}
    variation = VARIATIONS[name]
    named = {setting.split("=")[0] for setting in variation.settings}
    assert changed
    if variation.preset:
        assert all(field.startswith("model.") or field in named for field in changed)
    else:
        assert changed <= named
    assert set(base) == set(varied)


@pytest.mark.parametrize(
    ("name", "bits"), [("codes-4x8", 12), ("codes-8x128", 56), ("codes-12", 120), ("codes-196", 1960)]
)
def test_rates(name: str, bits: float) -> None:
    assert VARIATIONS[name].topic == RATE
    assert ablations.recipe_of(MINI, name).model.bits == bits


def test_the_longest_one_is_the_released_model() -> None:
    assert ablations.recipe_of(MINI, "released") == PRETRAIN["mini"]
    plain = replace(PRETRAIN["mini"], perceptual=PerceptualRecipe())
    assert ablations.recipe_of(MINI, "batch-128") == plain


def test_another_variation_leaves_a_cell_valid() -> None:
    (cell, *_) = ablations.cells(MINI, {})
    read = EXPERIMENT.reads(MINI, cell)
    assert "variations" not in read
    assert read["pretrain"] == MINI.pretrain


def test_parts_fit_a_table_of_the_main_text() -> None:
    assert 1 + sum(variation.topic == PARTS for variation in VARIATIONS.values()) <= 12


def test_an_unknown_variation_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["--set", "variations=base,codes-13"]) == 2
    error = capsys.readouterr().err
    assert "'codes-13' is none of" in error
    assert error.count("\n") == 1


def test_smoke_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    settings = ("--set", "variations=base,codes-12,codec-1960", "corpora=sim-third-person")
    command = ["--scale", "smoke", *settings, "--out", str(tmp_path / "out")]
    assert main(EXPERIMENT, command) == 0
    assert_recomputed(tmp_path / "out")
    records = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*__*.json")}
    coded = records.pop("codec-1960__sim-third-person")
    assert set(records) == {"base__sim-third-person", "codes-12__sim-third-person"}
    bits = {name: record["metrics"]["bits"]["value"] for name, record in records.items()}
    assert bits == {"base__sim-third-person": 240, "codes-12__sim-third-person": 120}
    for record in records.values():
        assert {"leak_moving", "own_over_shuffled_moving", "lpips_ratio_moving"} <= set(record["metrics"])
    assert 0 < coded["metrics"]["bits"]["value"] <= 1960
    assert coded["metrics"]["lpips_to_next"]["value"] < coded["metrics"]["lpips_to_current"]["value"] + 0.1
    assert set(coded["inputs"]["weights"]) == {"mae", "lpips"}
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*.csv")}
    assert main(EXPERIMENT, [*command[:-1], str(tmp_path / "again")]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").rglob("*.csv")} == first
