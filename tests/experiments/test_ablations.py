"""Ablations: variations of one recipe, their identities, and a smoke run from end to end."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.recomputed import assert_recomputed
from uwm.methods.variations import BASE, CODEBOOK, CODECS, DATA, EXTRACTOR, PARTS, RATE, VARIATIONS
from uwm.runs.cli import main
from uwm.runs.experiment import Cell, load_experiment
from uwm.stages.world_model import PRETRAIN, PerceptualRecipe

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


def whole_recipe(cell: Cell) -> dict:
    """What a cell is trained by: of its world model, and of its MAE."""
    fields = asdict(ablations.recipe_of(MINI, cell)) | {"mae": asdict(ablations.mae_of(MINI, cell))}
    return leaves(fields)


@pytest.mark.parametrize("name", VARIATIONS)
def test_a_variation_changes_what_it_names_and_nothing_else(name: str) -> None:
    base, varied = (whole_recipe(Cell(n, "")) for n in (BASE.name, name))
    changed = {field for field in base if base[field] != varied[field]}
    variation = VARIATIONS[name]
    named = {setting.split("=")[0] for setting in variation.settings}
    named |= {f"mae.{setting.split('=')[0]}" for setting in variation.mae}
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
    assert ablations.recipe_of(MINI, Cell(name, "")).model.bits == bits


def test_the_longest_one_is_the_released_model() -> None:
    assert ablations.recipe_of(MINI, Cell("released", "")) == PRETRAIN["mini"]
    plain = replace(PRETRAIN["mini"], perceptual=PerceptualRecipe())
    assert ablations.recipe_of(MINI, Cell("batch-128", "")) == plain


def test_another_variation_leaves_a_cell_valid() -> None:
    (cell, *_) = ablations.cells(MINI, {})
    read = EXPERIMENT.reads(MINI, cell)
    assert "variations" not in read
    assert read["pretrain"] == MINI.pretrain


@pytest.mark.parametrize("topic", [PARTS, CODEBOOK, EXTRACTOR, DATA])
def test_a_topic_fits_a_table_of_the_main_text(topic: str) -> None:
    assert 2 <= 1 + sum(variation.topic == topic for variation in VARIATIONS.values()) <= 12


def test_further_seeds_change_the_seed_alone() -> None:
    cells = ablations.cells(MINI, {})
    assert len(set(cells)) == len(cells)
    for name in MINI.variations:
        seeds = {cell.seed for cell in cells if cell.method == name}
        assert seeds == ({None, *MINI.further_seeds} if name in MINI.repeated else {None})
    first, second = (whole_recipe(Cell("queries", "", seed)) for seed in (None, 2))
    assert {field for field in first if first[field] != second[field]} == {"train.seed"}


def test_each_training_is_one_job_which_its_own_cells_wait_for() -> None:
    jobs = [job for job in EXPERIMENT.stages(MINI, {}) if job.name.startswith("pretrain-")]
    cells = [cell.name for cell in ablations.cells(MINI, {}) if cell.method not in CODECS]
    assert sorted(name for job in jobs for name in job.cells) == sorted(cells)
    assert all(len({name.replace(f"/{c}", "") for name in job.cells for c in MINI.corpora if c in name}) == 1
               for job in jobs)  # fmt: skip


@pytest.mark.parametrize("setting", ["further_seeds=0", "repeated=base,codes-13", "further_seeds=1,1"])
def test_seeds_that_cannot_be(setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["--set", setting]) == 2
    assert setting.split("=")[0] in capsys.readouterr().err


def test_an_unknown_variation_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["--set", "variations=base,codes-13"]) == 2
    error = capsys.readouterr().err
    assert "'codes-13' is none of" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_data_and_mae_and_seeds_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of variation that is more than another model: other sources, another gap, MAE and seed."""
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    settings = ["variations=base,with-drawn,fixed,gap-0.5,patch-8", "corpora=sim-panda"]
    settings += ["pretrain_on=sim-third-person,sim-ego", "repeated=base", "further_seeds=1"]
    settings += ["pretrain.procedural_pairs=8", "probe_pairs=40"]
    command = ["--scale", "smoke", "--set", *settings, "--out", str(tmp_path / "out")]
    assert main(EXPERIMENT, command) == 0
    assert_recomputed(tmp_path / "out")
    records = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out").glob("*__*.json")}
    assert set(records) == {
        f"{name}__sim-panda" for name in ("with-drawn", "fixed", "gap-0.5", "patch-8")
    } | {
        "base__sim-panda",
        "base__sim-panda__s1",
    }
    weights = {name: record["inputs"]["weights"] for name, record in records.items()}
    assert len({found["world-model"] for found in weights.values()}) == len(records)
    shared = {found["mae"] for name, found in weights.items() if not name.startswith("patch-8")}
    assert len(shared) == 1
    assert weights["patch-8__sim-panda"]["mae"] not in shared
    lists = {record["inputs"]["manifest_sha256"] for record in records.values()}
    assert len(lists) == 1  # all are measured on the same pairs


@pytest.mark.slow
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
