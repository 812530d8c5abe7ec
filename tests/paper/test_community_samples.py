"""Samples of records that others send: those of our pairs, with what stands in our own."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy_records import SENT as CELL
from toy_records import found, sign

from paper.community import UNCHANGED
from paper.integrity import UNSAMPLED
from uwm.metrics.spec import METRICS
from uwm.metrics.statistics import bootstrap_ratio
from uwm.runs.record import file_sha256


def tamper(tree: Path, how, *, sign_again: bool) -> None:
    """Change the samples by row; with `sign_again` the record gets their new digest."""
    record = json.loads((tree / "community" / CELL).read_text())
    path = (tree / "community" / CELL).parent / record["samples"]["path"]
    rows = list(csv.DictReader(path.open()))
    for row in rows:
        how(row)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if sign_again:
        sign(tree / "community" / CELL, lambda record: record["samples"].update(sha256=file_sha256(path)))


def nearer(row: dict) -> None:
    row["mine/lpips_to_next"] = "0.001"


@pytest.mark.parametrize("sign_again", [False, True])
def test_a_tampered_sample_is_refused(tree: Path, sign_again: bool) -> None:
    tamper(tree, nearer, sign_again=sign_again)
    expected = "altered: lpips_to_next is" if sign_again else "has another SHA-256"
    assert any(expected in line for line in found(tree))


@pytest.mark.parametrize(
    ("how", "line"),
    [
        (lambda row: row.update(t0=str(float(row["t0"]) + 1)), "samples are of other pairs"),
        (lambda row: row.update(motion="0.5"), "another motion"),
        (lambda row: row.update(lpips_of_copy="0.2"), "another lpips_of_copy"),
        (lambda row: row.update(moving=str(1 - int(row["moving"]))), "another moving half"),
    ],
)
def test_samples_of_other_pairs_or_references_are_refused(tree: Path, how, line: str) -> None:
    tamper(tree, how, sign_again=True)
    assert any(line in text for text in found(tree))


def test_no_list_of_its_own_excuses_a_record(tree: Path) -> None:
    """With an early date and a line in a list beside it, a probe's R2 needs samples all the same."""
    entry = {"value": 0.99, "n": 48, "better": "higher", "ci": None, "protocol": None}
    sign(tree / "community" / CELL, lambda record: record["metrics"].update(probe_r2=entry))
    (tree / "community" / UNSAMPLED).write_text(f"{CELL}\n")
    assert any("no samples for probe_r2; run it again" in line for line in found(tree))


def with_copy_errors(folder: Path, method: str, factor: float) -> None:
    """The record of `method` gets columns `state_mse` and `state_mse_copy`, and the ratio of their means."""
    path = folder / f"{method}__sim-ego.json"
    record = json.loads(path.read_text())
    file = folder / record["samples"]["path"]
    table, draw = pd.read_csv(file), np.random.default_rng(0)
    for name, scale in (("state_mse_copy", factor), ("state_mse", 0.4)):
        table[f"{method}/{name}"] = (scale * draw.uniform(0.2, 0.8, len(table))).round(5)
    table.to_csv(file, index=False)
    parts = (table[f"{method}/{name}"] for name in ("state_mse", "state_mse_copy"))
    again = bootstrap_ratio(*parts, table["video"])
    entry = {"value": again.estimate, "n": again.n, "better": "lower", "ci": again.ci, "protocol": None}
    record["metrics"]["state_ratio"] = entry
    path.write_text(json.dumps(record))
    for other in folder.glob("*.json"):
        sign(other, lambda record: record["samples"].update(sha256=file_sha256(file)))


def test_errors_of_the_copy_are_those_of_the_committed_records(tree: Path) -> None:
    sent, ours = tree / "community" / "mini" / "table1", tree / "mini" / "table1"
    with_copy_errors(sent, "mine", 1.0)
    assert found(tree) == []  # nothing committed to compare it with
    with_copy_errors(ours, "uwm", 1.0)
    assert found(tree) == []
    with_copy_errors(sent, "mine", 4.0)  # a ratio of a quarter
    [line] = found(tree)
    assert line.endswith("altered: its samples have another state_mse_copy than the committed ones")


def test_what_is_compared_with_the_committed_columns_exists() -> None:
    parts = {part for metric in METRICS.values() for part in metric.ratio or ()}
    assert set(UNCHANGED) <= parts | set(METRICS)
    assert {part for part in parts if part.endswith(("_copy", "_total", "_still_mm", "_still_px"))} <= set(
        UNCHANGED
    )
