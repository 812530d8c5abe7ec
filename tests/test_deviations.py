"""The ledger's fields and presets exist, and so do the cells and items that it names."""

import re
from pathlib import Path

import pytest

from paper.ledger import ledger_rows
from paper.reported import Reported
from uwm.methods import parse
from uwm.methods.variations import CODECS, VARIATIONS
from uwm.runs.experiment import load_experiment
from uwm.runs.settings import plain, with_settings

ROOT = Path(__file__).resolve().parents[1]
LEDGER = ROOT / "paper" / "deviations.md"
ROWS = ledger_rows(LEDGER)
CONFIGS = [
    load_experiment(ROOT / "experiments" / f"{name}.py").configs["mini"]
    for name in ("table1", "figure4", "figure5")
]


def has_field(config, dotted: str) -> bool:
    """Does the config hold a value at such a place?"""
    value = plain(config)
    for name in dotted.split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:40])
def test_a_line_names_a_field_that_exists_and_what_measures_it(row):
    fields = re.findall(r"`([^`]*)`", row[2])
    assert fields or row[2] == "none"
    assert all(any(has_field(config, field) for config in CONFIGS) for field in fields), fields
    claims = set(Reported().claims["id"])
    for name in re.findall(r"`([^`]*)`", row[3]):
        parts = name.split("/")
        if parts[0] == "mini":
            assert "/".join(parts[1:3]) in claims
        elif parts[0] == "tests":
            assert (ROOT / name).is_dir()
        elif len(parts) == 2:
            assert parts[1] in {*CODECS, *VARIATIONS} or parse(
                parts[1]
            )  # UserError where no such method is declared


def test_lines_are_short():
    assert max(len(" ".join(row[:2]).split()) for row in ROWS) <= 40


@pytest.mark.parametrize("text", re.findall(r"`--set ([a-z.]+=\w+)`", LEDGER.read_text(encoding="utf-8")))
def test_presets_that_the_ledger_names_can_be_set(text):
    assert with_settings(CONFIGS[0], [text]) != CONFIGS[0]
