"""Families: what each changes of the base, their rates, and a smoke run from end to end."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from tests.robot_toy import write_toy
from uwm.data.corpora import Corpus, all_test, open_corpus
from uwm.data.selection import frozen_pairs
from uwm.methods.families import FAMILIES
from uwm.runs.artifacts import Stage
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


@pytest.mark.slow
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
        assert found["transfer_px"]["value"] > 0
        assert ("delta_psnr" in found) == (not name.startswith("adaworld"))  # numbers are not drawn
        assert ("code_bits" in found) == (not name.startswith("adaworld"))
    rates = {name.split("__")[0]: record["metrics"]["bits"]["value"] for name, record in records.items()}
    assert rates["ours"] == rates["pixels"] == 240
    assert 0 < rates["adaworld"] < 100
    still = {record["metrics"]["still_px"]["value"] for record in records.values()}
    assert len(still) == 1  # all are judged by the same probe, on the same pairs
    pictures = {path.name for path in (tmp_path / "panels" / "sim-panda").glob("1_*.png")}
    assert pictures == {f"1_{kind}.png" for kind in ("o_t", "o_next", "ours", "adaworld", "pixels")}


@pytest.mark.slow
def test_a_robots_own_data_is_measured_on_its_own_test_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters and reader learn from its training clips, so these are no test clips here; and the numbers of
    frames and of the gripper stand in the rows of the same pairs. Any number of labels is a metric."""
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    file = write_toy(tmp_path / "lift.hdf5", demos=16, hand=True)
    words = ["--scale", "smoke", "--only", "ours/lift/*", "--data", f"lift={file}", "--out", str(tmp_path)]
    assert main(EXPERIMENT, [*words, "--set", "labelled=10"]) == 0
    record = json.loads((tmp_path / "ours__lift__s0.json").read_text())
    assert record["metrics"]["adapter_10_px"]["value"] > 0
    assert record["measures"]["adapter_10_px"] == 1
    (folder,) = (tmp_path / "cache").glob("family-ours__lift__s0-*")
    pairs = pd.read_csv(folder / "pairs.csv")
    assert set(pairs["video"]) <= {clip.path for clip in open_corpus("lift", file).of("test")}
    column = next(name for name in pairs.columns if name.endswith("/still_px"))
    assert pairs[column].notna().all()
    assert mean(pairs[column]) == pytest.approx(record["metrics"]["still_px"]["value"], rel=1e-4)


def test_rows_of_two_lists_of_pairs_are_never_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = open_corpus("lift", write_toy(tmp_path / "lift.hdf5", demos=16, hand=True))
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    setting, other = (SimpleNamespace(corpus=found) for found in (corpus, all_test(corpus)))
    monkeypatch.setattr(families, "EvalSetting", lambda *fields: setting)
    test = SimpleNamespace(pairs=SimpleNamespace(manifest=frozen_pairs(corpus, "test", 0.2, 9, 0)))
    monkeypatch.setattr(families, "load_eval_pairs", lambda *fields: test)
    monkeypatch.setattr(families, "encoder_of", lambda world: None)
    model, domain = SimpleNamespace(world=None), SimpleNamespace(corpus=corpus)
    context = SimpleNamespace(config=EXPERIMENT.configs["smoke"])
    listed = frozen_pairs(other.corpus, "test", 0.2, 9, 0)
    with pytest.raises(ValueError, match="two lists of pairs"):
        families.robot_test(context, domain, model, listed)


def test_the_reader_and_the_labels_are_part_of_an_evaluations_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A change of either is measured again: hand errors rest on both."""
    world = SimpleNamespace(weights={"mae": "m", "world-model": "w"})
    smoke = EXPERIMENT.configs["smoke"]
    monkeypatch.setattr(families, "adapter_stage", lambda recipe, domain: SimpleNamespace(digest="a"))
    monkeypatch.setattr(families, "obtain_pretrained_mae", lambda context: SimpleNamespace(sha256="m"))
    monkeypatch.setattr(families, "load_lpips", lambda name: SimpleNamespace(weights_sha256="l"))

    def stage(corpus: Corpus, config: Any = smoke) -> Stage:
        domain = SimpleNamespace(corpus=corpus, world=world)
        monkeypatch.setattr(families, "domain_of", lambda context, cell: domain)
        monkeypatch.setattr(families, "corpus_of", lambda context, name: corpus)
        context = SimpleNamespace(
            config=config, data={}, artifacts=SimpleNamespace(find_only=False), once=lambda _, find: find()
        )
        return families.evaluation_stage(context, Cell("ours", corpus.name, 0))

    robot, plain = open_corpus("sim-panda"), open_corpus("sim-ego")
    noisier = replace(smoke, reader=replace(smoke.reader, noise=2 * smoke.reader.noise))
    assert stage(robot).digest != stage(robot, noisier).digest
    assert stage(plain).digest == stage(plain, noisier).digest
    assert {"labelled", "labelled-test"} <= set(stage(robot).inputs)
    assert {"labelled", "labelled-test"}.isdisjoint(stage(plain).inputs)


def test_too_few_labelled_pairs_are_said_by_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    for setting, field in (("labelled=100000", "labelled"), ("adapter.pairs=100000", "adapter.pairs")):
        only = ("--scale", "smoke", "--only", "ours/*", "--set", setting)
        assert main(EXPERIMENT, [*only, "--dry-run"]) == 0
        error = capsys.readouterr().err
        assert f"fewer than 100000: lower {field}: ours/sim-panda/s0" in error
        assert "sim-third-person" not in error  # it has no actions, and no adapter
