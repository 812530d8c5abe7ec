"""Records that others send: which are refused, and why. And the page's table of all rows."""

import base64
import csv
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from toy_records import toy_experiment

from paper import check
from paper.community import community_faults
from paper.figures import main as figures
from paper.leaderboard import leaderboard
from paper.store import Results
from uwm.metrics.spec import versions
from uwm.runs.record import config_digest, file_sha256, validate_folder

METHOD = {"file": "mine.py", "class": "Mine", "sha256": "12" * 32, "weights": {"mine.pt": "34" * 32}}
CELL = "mini/table1/mine__sim-ego.json"


def sign(path: Path, how=lambda record: None) -> None:
    """Change a record, and make its digest fit again, as a forger would."""
    record = json.loads(path.read_text())
    how(record)
    record["measures"] = versions(record["metrics"])
    parts = (record[name] for name in ("experiment", "version", "config", "cell", "measures"))
    record["config_digest"] = config_digest(*parts)
    path.write_text(json.dumps(record, indent=1) + "\n")


def name_weights(record: dict) -> None:
    record["config"]["method"] = METHOD
    record["inputs"]["weights"] |= {"lpips": "cd" * 32, "mine.py": "12" * 32, "mine.pt": "34" * 32}
    entry = {"n": 48, "better": "lower", "ci": None, "protocol": None}
    record["metrics"] |= {"bits": entry | {"value": 12.0}, "parameters": entry | {"value": 4.5}}


def name_lpips(record: dict) -> None:
    record["inputs"]["weights"]["lpips"] = "cd" * 32


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A `results` folder with toy records of ours and one sent record that holds."""
    root = tmp_path / "results"
    toy_experiment(root, "mini", "table1", ["sim-ego"], {"uwm": (0.1, 0.05), "copy": (0.0, 0.12)})
    for path in (root / "mini" / "table1").glob("*.json"):
        sign(path, name_lpips)
    toy_experiment(root / "community", "mini", "table1", ["sim-ego"], {"mine": (0.08, 0.06)})
    folder = root / "community" / "mini" / "table1"
    (folder / "panels" / "sim-ego").rename(folder / "panels" / "sim-ego-mine")
    sign(root / "community" / CELL, name_weights)
    return root


def found(tree: Path) -> list[str]:
    return community_faults(Results(tree, ("mini",)), tree)


def test_a_record_that_holds_is_accepted(tree: Path) -> None:
    assert found(tree) == []
    assert validate_folder(tree) == []


def test_without_any_nothing_is_asked(tree: Path) -> None:
    shutil.rmtree(tree / "community")
    assert found(tree) == []


def metric(name: str, **changes):
    return lambda record: record["metrics"][name].update(changes)


def other_pairs(record: dict) -> None:
    record["inputs"]["manifest_sha256"] = "9" * 64


def other_mae(record: dict) -> None:
    record["inputs"]["weights"]["mae"] = "ef" * 32


def no_weights(record: dict) -> None:
    record["config"]["method"] = {**METHOD, "weights": {}}


def other_weights(record: dict) -> None:
    record["inputs"]["weights"]["mine.pt"] = "56" * 32


def failed(record: dict) -> None:
    record.update(status="failed", error="ValueError: x", metrics={}, samples=None)


def fewer_bits(record: dict) -> None:
    metric("bits", value=3.0)(record)
    record["metrics"]["code_bits"] = {**record["metrics"]["bits"], "value": 9.5}


FORGED = {
    "a better mean": (metric("lpips_to_next", value=0.01, ci=[0, 0.02]), "altered: lpips_to_next is 0.01"),
    "a better ratio": (metric("lpips_ratio", value=0.3, ci=[0.2, 0.4]), "altered: lpips_ratio is 0.3"),
    "another share": (metric("success_vs_copy", value=0.5), "altered: success_vs_copy is 0.5"),
    "a narrower interval": (metric("lpips_to_next_moving", ci=[0.0599, 0.0601]), "has interval limit"),
    "more pairs": (metric("lpips_to_next", n=4800), "has n = 4800"),
    "fewer bits": (fewer_bits, "carry 9.5 bits, more than its 3"),
    "no bits": (lambda record: record["metrics"].pop("bits"), "names no bits"),
    "other pairs": (other_pairs, "is of other pairs than the committed records"),
    "another MAE": (other_mae, "another mae"),
    "no weights": (no_weights, "names no digest of weights"),
    "other weights": (other_weights, "disagree about mine.pt"),
    "no method": (lambda record: record["config"].pop("method"), "config names no method"),
    "a failure": (failed, "has status failed"),
    "an old version": (lambda record: record.update(version=7), "stale: version 7"),
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGED)
def test_a_falsified_record_is_refused(tree: Path, forged: str, capsys: pytest.CaptureFixture[str]) -> None:
    how, line = FORGED[forged]
    if forged == "an old version":
        (tree / "table1.py").write_text("Experiment(version=1)\n")
    sign(tree / "community" / CELL, how)
    lines = found(tree)
    assert any(line in text and text.startswith(f"community/{CELL}: ") for text in lines), lines
    (tree / "none").touch()
    arguments = ["--results", str(tree), "--experiments", str(tree), "--deviations", str(tree / "none")]
    assert check.main(arguments) == 1
    assert f"record problem: community/{CELL}" in capsys.readouterr().out


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


def test_a_row_of_ours_cannot_be_sent(tree: Path) -> None:
    text = (tree / "community" / CELL).read_text().replace('"mine/sim-ego"', '"uwm/sim-ego"')
    (tree / "community" / CELL).with_name("uwm__sim-ego.json").write_text(text)
    sign((tree / "community" / CELL).with_name("uwm__sim-ego.json"))
    assert any("uwm is a method of this project" in line for line in found(tree))


def test_a_corpus_that_is_not_committed_is_refused(tree: Path) -> None:
    path = (tree / "community" / CELL).with_name("mine__wild.json")
    path.write_text((tree / "community" / CELL).read_text())
    sign(path, lambda record: record.update(cell="mine/wild"))
    assert any("there is no committed record copy/wild" in line for line in found(tree))


def test_a_broken_record_is_a_line_and_stops_the_drawing(tree: Path, tmp_path: Path, run_command) -> None:
    (tree / "community" / CELL).write_text("{")
    assert any(line.startswith(f"community/{CELL}: ") for line in found(tree))
    code, error = run_command("--results", str(tree), "--out", str(tmp_path / "out"))
    assert (code, error.count("\n")) == (2, 1)


# The table of all rows


def test_all_rows_stand_in_one_table_with_pictures_where_there_are_some(tree: Path) -> None:
    board = leaderboard(Results(tree, ("mini",)), "mini")
    rows = {row[0]: row for row in board.table.rows if row[1] == "sim ego"}
    ratio = json.loads((tree / "community" / CELL).read_text())["metrics"]["lpips_ratio_moving"]["value"]
    assert rows["mine (sent)"][2:6] == ["12", "4.5", "–", f"{ratio:.3f}"]
    assert rows["Universal world model"][2] == "–"  # the toy record has no bits
    shown = {row[0]: pictures for row, pictures in zip(board.table.rows, board.pictures, strict=True)}
    assert [label for label, _ in shown["mine (sent)"]] == ["O_t", "O_t+1", "predicted"]
    assert shown["Copy of O_t"] == []
    assert leaderboard(Results(tree, ("paper",)), "paper") is None


@pytest.fixture
def page(tree: Path, tmp_path: Path) -> str:
    arguments = ["--results", str(tree), "--scale", "mini", "--out", str(tmp_path / "out")]
    assert figures([*arguments, "--processes", "1"]) == 0
    return (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_the_page_has_the_table_and_one_script_that_its_policy_names(page: str) -> None:
    assert "<td>mine (sent) <small" in page
    [script] = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page.replace("&#39;", "'")
    assert page.count("<script") == 1


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CLICKS = """<!doctype html><body><iframe id="page"></iframe><script>
const frame = document.getElementById("page")
frame.onload = () => {
  const table = frame.contentDocument.querySelector("table.sortable")
  const buttons = [...table.tHead.querySelectorAll("button")]
  const rows = () => [...table.tBodies[0].rows].map(row => row.cells[5].firstChild.data.trim()).join(" ")
  const seen = []
  for (const column of [5, 5]) { buttons[column].click(); seen.push(rows()) }
  document.body.dataset.probe = seen.join(" then ")
}
frame.srcdoc = TEXT
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium to click with")
def test_a_click_sorts_up_and_another_one_down(page: str, tmp_path: Path) -> None:
    path = tmp_path / "clicks.html"
    path.write_text(CLICKS.replace("TEXT", json.dumps(page).replace("</", "<\\/")), encoding="utf-8")
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
               f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300)
    up, down = re.search(r'data-probe="([^"]*) then ([^"]*)"', done.stdout).groups()
    numbers = [float(text) for text in up.split() if text != "–"]
    missing = up.split().count("–")
    assert len(numbers) == 2
    assert missing == 1  # a copy is at no distance from O_t
    assert numbers == sorted(numbers)
    assert up.split()[-missing:] == down.split()[-missing:] == ["–"] * missing
    assert [float(text) for text in down.split()[:-missing]] == numbers[::-1]
