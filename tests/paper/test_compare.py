"""What `make reproduce` ends with: numbers measured again, beside the committed ones."""

import json
from pathlib import Path

import pytest
from toy_records import toy_results

from paper.compare import changed_verdicts, differences, keep_common, main
from paper.store import Results
from uwm.errors import UserError


def test_equal_records_differ_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy_results(tmp_path)
    found = list(differences(Results(tmp_path), Results(tmp_path)))
    assert found
    assert all(difference.relative == 0 for difference in found)
    assert main([str(tmp_path), "--with", str(tmp_path)]) == 0
    assert "0 verdicts differ" in capsys.readouterr().out


def changed_ratio(folder: Path, value: float, ci: list[float]) -> None:
    path = next((folder / "mini" / "table1").glob("uwm__*.json"))
    record = json.loads(path.read_text())
    record["metrics"]["lpips_ratio"] |= {"value": value, "ci": ci}
    path.write_text(json.dumps(record))


def two_folders_apart(folder: Path) -> None:
    """`ours` and `theirs`, of which one ratio's intervals don't overlap."""
    for name, value, ci in (("ours", 1.15, [1.1, 1.2]), ("theirs", 0.575, [0.5, 0.6])):
        toy_results(folder / name)
        changed_ratio(folder / name, value, ci)


def test_a_number_with_another_interval_is_shown_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_folders_apart(tmp_path)
    ours, theirs = Results(tmp_path / "ours"), Results(tmp_path / "theirs")
    largest = max(differences(ours, theirs), key=lambda difference: difference.relative)
    assert (largest.metric, largest.relative) == ("lpips_ratio", pytest.approx(1.0))
    assert any("nearer-to-next" in line for line in changed_verdicts(ours, theirs))
    assert main([str(tmp_path / "ours"), "--with", str(tmp_path / "theirs")]) == 1
    shown = capsys.readouterr().out
    assert "apart: lpips_ratio of uwm/" in shown
    assert "1 with intervals apart" in shown


def test_another_lpips_is_said_first_and_its_numbers_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_folders_apart(tmp_path)
    everything = len(list(differences(Results(tmp_path / "ours"), Results(tmp_path / "theirs"))))
    for path in tmp_path.rglob("*__*.json"):
        record = json.loads(path.read_text())
        record["metrics"] |= {
            "psnr": {"value": 20.0, "n": 4, "better": "higher", "ci": [19.0, 21.0]},
            "psnr_moving": {"value": 18.0, "n": 2, "better": "higher", "ci": [17.0, 19.0]},
        }
        text = json.dumps(record)
        path.write_text(text.replace("lpips-alex", "lpips-random") if "ours" in path.parts else text)
    found = list(differences(Results(tmp_path / "ours"), Results(tmp_path / "theirs")))
    assert 0 < len(found) < everything
    assert {one.metric for one in found} == {"psnr"}
    assert main([str(tmp_path / "ours"), "--with", str(tmp_path / "theirs")]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("another LPIPS in ")
    assert "lpips-random, not lpips-alex" in shown
    assert "verdicts not compared" in shown


def test_a_verdict_that_turns_while_intervals_touch_is_shown_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ours", "theirs"):
        toy_results(tmp_path / name)
    changed_ratio(tmp_path / "ours", 0.99, [0.9, 1.05])
    changed_ratio(tmp_path / "theirs", 0.9, [0.85, 0.99])
    assert main([str(tmp_path / "ours"), "--with", str(tmp_path / "theirs")]) == 0
    shown = capsys.readouterr().out
    assert "verdict: " in shown
    assert "0 with intervals apart" in shown


def test_verdicts_are_of_the_cells_that_both_have(tmp_path: Path) -> None:
    """One seed measured again stands beside the same seed, not beside the mean of three."""
    for name in ("ours", "theirs"):
        toy_results(tmp_path / name)
    for path in (tmp_path / "ours").glob("mini/figure4/*__*s1.json"):
        path.unlink()
    ours, theirs = Results(tmp_path / "ours"), Results(tmp_path / "theirs")
    assert ours.cells != theirs.cells
    keep_common(ours, theirs)
    names = [
        {(place, c.record["cell"]) for place, cells in r.cells.items() for c in cells} for r in (ours, theirs)
    ]
    assert names[0] == names[1]
    assert not [name for _, name in names[1] if name.endswith("/s1") and "w_" in name]
    assert changed_verdicts(ours, theirs) == []


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing compared"):
        main([str(tmp_path)])
