"""What `make reproduce` ends with: numbers measured again, beside the committed ones."""

import json
from pathlib import Path

import pytest
from toy_records import toy_results

from paper.compare import changed_verdicts, differences, main
from paper.store import Results
from uwm.errors import UserError


def test_equal_records_differ_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy_results(tmp_path)
    found = list(differences(Results(tmp_path), Results(tmp_path)))
    assert found
    assert all(difference.relative == 0 for difference in found)
    assert main([str(tmp_path), "--with", str(tmp_path)]) == 0
    assert "0 verdicts differ" in capsys.readouterr().out


def test_a_changed_number_is_shown_and_a_changed_verdict_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ours", "theirs"):
        toy_results(tmp_path / name)
    path = next((tmp_path / "ours" / "mini" / "table1").glob("uwm__*.json"))
    record = json.loads(path.read_text())
    entry = record["metrics"]["lpips_ratio"]
    entry["value"], entry["ci"] = 2 * entry["value"], [1.1, 1.2]
    path.write_text(json.dumps(record))
    ours, theirs = Results(tmp_path / "ours"), Results(tmp_path / "theirs")
    largest = max(differences(ours, theirs), key=lambda difference: difference.relative)
    assert (largest.metric, largest.relative) == ("lpips_ratio", pytest.approx(1.0))
    assert any("nearer-to-next" in line for line in changed_verdicts(ours, theirs))
    assert main([str(tmp_path / "ours"), "--with", str(tmp_path / "theirs")]) == 1
    assert "lpips_ratio of uwm/" in capsys.readouterr().out


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing compared"):
        main([str(tmp_path)])
