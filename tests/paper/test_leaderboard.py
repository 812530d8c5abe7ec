"""The page's table of all rows: ours, and those that others sent."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from toy_records import SENT as CELL

from paper.figures import main as figures
from paper.leaderboard import leaderboard
from paper.store import Results


def test_all_rows_stand_in_one_table_with_pictures_where_there_are_some(tree: Path) -> None:
    board = leaderboard(Results(tree, ("mini",)), "mini")
    columns = board.table.columns
    rows = {row[0]: dict(zip(columns, row, strict=True)) for row in board.table.rows if row[1] == "sim ego"}
    ratio = json.loads((tree / "community" / CELL).read_text())["metrics"]["lpips_ratio_moving"]["value"]
    shown = [rows["mine (sent)"][name] for name in ("Bits", "Parameters, million", "Ratio")]
    assert shown == ["12", "4.5", f"{ratio:.3f}"]
    assert rows["Universal world model"]["Bits"] == "–"  # the toy record has no bits
    assert "GFLOP a prediction" not in columns  # and nothing has this
    shown = {row[0]: pictures for row, pictures in zip(board.table.rows, board.pictures, strict=True)}
    assert [label for label, _ in shown["mine (sent)"]] == ["O_t", "O_t+1", "predicted"]
    assert shown["Copy of O_t"] == []
    assert "sim ego 48 pairs of 12 clips; " in board.table.note
    assert "sim ego 48 pairs of 12 clips (sent)" in board.table.note
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
    # A row's three pictures show while the pointer or the focus is on it.
    [peek] = re.findall(
        r'mine \(sent\) <small tabindex="0">&#9635;</small><div class="peek">(.*?)</div>', page, re.S
    )
    assert peek.count('src="data:image/png;base64,') == 3
    assert re.search(r"\.peek \{ display: none", page)
    assert "td:hover > .peek, td:focus-within > .peek { display: block }" in page.replace("&gt;", ">")


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CLICKS = """<!doctype html><body><iframe id="page"></iframe><script>
const frame = document.getElementById("page")
frame.onload = () => {
  const table = frame.contentDocument.querySelector("table.sortable")
  const buttons = [...table.tHead.querySelectorAll("button")]
  const at = buttons.findIndex(button => button.textContent.trim() === "Ratio")
  const rows = () => [...table.tBodies[0].rows].map(row => row.cells[at].firstChild.data.trim()).join(" ")
  const seen = []
  for (const column of [at, at]) { buttons[column].click(); seen.push(rows()) }
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
