"""Records: schema, digests, validation."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from uwm.errors import UserError
from uwm.runs.record import (
    Record,
    canonical_json,
    config_digest,
    digest_of,
    read_record,
    record_problems,
    round_floats,
)

ROOT = Path(__file__).resolve().parents[2]
CONFIG = {"steps": 3}


@pytest.fixture
def record():
    return Record(
        experiment="toy", version=1, cell="uwm/ours/s0", scale="mini", config=CONFIG,
        config_digest=config_digest("toy", 1, CONFIG, "uwm/ours/s0", {"psnr": 1}), status="ok", error=None,
            measures={"psnr": 1},
        metrics={"psnr": {"value": 20.123456789, "n": 4, "better": "higher", "ci": None, "protocol": None}},
        samples=None, inputs={"manifest_sha256": None, "weights": {}, "stages": {}},
        code={"commit": None, "uwm_tree": None, "experiment_blob": None, "dirty": None},
        env={"python": "3.11.2", "torch": None, "device": "cpu", "lock_sha256": None},
        run={"command": "python", "started_utc": "2030-01-02T03:04:05Z", "seconds": 1.0, "peak_gb": 0.5},
    )  # fmt: skip


def validate(folder):
    command = [sys.executable, "-m", "uwm.runs.record", "validate", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_written_and_read_again(record, tmp_path):
    path = record.write(tmp_path)
    assert path.name == "uwm__ours__s0.json"
    again = read_record(path)
    assert again.value("psnr") == 20.1235
    assert {**again.to_json(), "metrics": None} == {**record.to_json(), "metrics": None}
    with pytest.raises(KeyError, match="no metric 'ssim'; it has psnr"):
        again.value("ssim")


def test_digest_is_of_canonical_json():
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'
    assert digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1})
    assert len(digest_of({})) == 16
    with pytest.raises(ValueError):
        canonical_json(float("nan"))


def test_floats_keep_six_digits():
    assert round_floats({"a": [1 / 3, 123456789.0], "n": 7}) == {"a": [0.333333, 123457000.0], "n": 7}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"status": "done"}, "status"),
        ({"status": "failed", "error": "ValueError: x"}, "metrics"),  # a failure is never a number
        ({"metrics": {}}, "metrics"),
        ({"error": "ValueError: x"}, "error"),
        ({"cell": "uwm"}, "cell"),
        ({"samples": {"path": "/home/me/a.csv", "sha256": "0" * 64}}, "samples"),
        ({"env": {"host": "me"}}, "env"),
    ],
)
def test_what_breaks_the_schema_is_not_written(record, tmp_path, change, where):
    with pytest.raises(ValueError, match=f"record of .*: {where}"):
        dataclasses.replace(record, **change).write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nan_is_not_written(record, tmp_path):
    metrics = {"psnr": {**record.metrics["psnr"], "value": float("nan")}}
    with pytest.raises(ValueError):
        dataclasses.replace(record, metrics=metrics).write(tmp_path)


def test_a_broken_file_is_bad_input(tmp_path):
    path = tmp_path / "uwm__ours.json"
    path.write_text('{"schema": 1')
    with pytest.raises(UserError, match="cannot be read"):
        read_record(path)


def test_validate_finds_what_is_wrong(record, tmp_path):
    folder = tmp_path / "mini" / "toy"
    good = record.write(folder)
    table = tmp_path / "bench" / "tables" / "login.json"  # as `make bench` leaves it
    table.parent.mkdir(parents=True)
    table.write_text('{"title": "x", "columns": [], "rows": []}')
    assert validate(tmp_path).stdout == "1 records, 0 problems\n"
    content = json.loads(good.read_text())
    (folder / "copy__ours.json").write_text(json.dumps(content))
    content["config"]["steps"] = 4
    content["samples"] = {"path": "gone.csv", "sha256": "0" * 64}
    good.write_text(json.dumps(content))
    done = validate(tmp_path)
    assert done.returncode == 1
    assert "belongs in uwm__ours__s0.json" in done.stdout
    assert "config_digest is not the digest" in done.stdout
    assert "gone.csv is missing" in done.stdout
    assert validate(tmp_path / "nowhere").returncode == 2


def test_reading_records_needs_no_torch():
    code = "import sys, uwm.runs.record; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_committed_records_are_valid():
    assert validate(ROOT / "results").returncode == 0


def test_nan_in_a_record_is_no_number(tmp_path: Path) -> None:
    path = tmp_path / "uwm__a.json"
    path.write_text('{"metrics": {"lpips": {"value": NaN}}}')
    assert any("NaN" in problem for problem in record_problems(path))
    with pytest.raises(UserError, match="NaN"):
        read_record(path)
