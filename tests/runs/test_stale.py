"""A record of another recipe than is declared now is noticed, by `uwm.runs.stale` and so by `make check`."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from paper.recipes import recipe_faults
from paper.store import Results
from uwm.metrics import spec
from uwm.runs.experiment import load_experiment
from uwm.runs.record import config_digest
from uwm.runs.settings import with_settings
from uwm.runs.stale import staleness

ROOT = Path(__file__).resolve().parents[2]
TABLE1 = load_experiment(ROOT / "experiments" / "table1.py")
RECORD = ROOT / "results" / "mini" / "table1" / "uwm__sim-ego.json"
CODES = "pretrain.model.quantizer.codes"


def of(*settings: str):
    """Table 1 with another config at scale mini."""
    return replace(TABLE1, configs={"mini": with_settings(TABLE1.configs["mini"], settings)})


def test_a_changed_model_field_is_noticed() -> None:
    assert staleness(TABLE1, RECORD) is None
    assert staleness(of("pretrain.gap=0.2"), RECORD) is None  # what it is
    told = staleness(of(f"{CODES}=512", "pretrain.model.quantizer.restart_threshold=0.2"), RECORD)
    assert told is not None
    assert f"{CODES} is 1024 in the record and 512 in the recipe" in told
    assert "restart_threshold is 0.1 in the record and 0.2 in the recipe" in told


def test_what_is_no_record_is_named(tmp_path: Path) -> None:
    for name, text in (("cut", "{"), ("other", '{"cell": 1}'), ("list", "[1]")):
        (tmp_path / f"{name}.json").write_text(text)
        assert str(staleness(TABLE1, tmp_path / f"{name}.json")).startswith("cannot be read: ")


def test_a_changed_version_measure_or_name_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "another version" in str(staleness(replace(TABLE1, version=99), RECORD))
    renamed = replace(TABLE1, cells=lambda config, data: [])
    assert "declares no cell uwm/sim-ego" in str(staleness(renamed, RECORD))
    assert "has no scale mini" in str(staleness(replace(TABLE1, configs={}), RECORD))
    changed = {**spec.METRICS, "psnr": replace(spec.METRICS["psnr"], version=2)}
    monkeypatch.setattr("uwm.metrics.spec.METRICS", changed)
    assert "of a measure" in str(staleness(TABLE1, RECORD))


@pytest.mark.slow
def test_make_check_compares_records_with_the_recipes(tmp_path: Path, capsys, monkeypatch) -> None:
    """A record whose digest is that of its config, so that nothing else could tell."""
    folder = tmp_path / "mini" / "table1"
    folder.mkdir(parents=True)
    copy = shutil.copy(RECORD, folder)
    assert recipe_faults(Results(tmp_path, ("mini",))) == []
    record = json.loads(Path(copy).read_text())
    record["config"]["pretrain"]["model"]["quantizer"]["codes"] = 512
    parts = (record[name] for name in ("experiment", "version", "config", "cell", "measures"))
    record["config_digest"] = config_digest(*parts)
    Path(copy).write_text(json.dumps(record))
    (line,) = recipe_faults(Results(tmp_path, ("mini",)))
    assert line.startswith("mini/table1/uwm__sim-ego.json: stale: ")
    assert f"{CODES} is 512 in the record and 1024 in the recipe" in line
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert recipe_faults(Results(tmp_path, ("mini",))) == []
    assert "no torch here" in capsys.readouterr().err


def test_recipes_that_cannot_be_loaded_are_a_problem(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("paper.recipes.ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    (line,) = recipe_faults(Results(tmp_path, ("mini",)))
    assert "no record is compared with their recipes" in line
