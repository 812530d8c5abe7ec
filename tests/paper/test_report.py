"""The report builds from generated files alone, and the HTML page loads in Chromium."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from toy_records import toy_figure5

from paper import build, constants
from paper.claims import all_items
from paper.figures import main
from paper.layout import MOST_ROWS
from paper.ledger import LEDGER_COLUMNS, ledger_rows
from paper.reported import Reported
from paper.store import ROOT, Results
from uwm.errors import UserError

MAIN = ROOT / "paper" / "main.tex"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def test_every_number_of_the_report_is_generated():
    """No decimal is typed by hand (lengths in the preamble aside), and every \\val has its constant."""
    prose = MAIN.read_text(encoding="utf-8").partition(r"\begin{document}")[2]
    results, reported = Results(ROOT / "results"), Reported()
    known = constants.constants(results, reported, all_items(results, reported))
    assert set(re.findall(r"\\val\{([^}]*)\}", prose)) <= set(known)
    prose = re.sub(r"\d*\.\d+\\linewidth|0\.2\\,s", "", prose)  # 0.2 s is the setting, no result
    assert re.findall(r"\d+\.\d+", prose) == []


def test_tables_of_the_main_text_are_short():
    """Of the page as committed, but for what is folded, and of the report's part before its appendix."""
    page = (ROOT / "paper/out/index.html").read_text(encoding="utf-8")
    page = re.sub(r"(?s)<details.*?</details>", "", page)
    on_page = [body.count("<tr") for body in re.findall(r"(?s)<tbody>(.*?)</tbody>", page)]
    prose = MAIN.read_text(encoding="utf-8").partition(r"\begin{document}")[2].partition(r"\appendix")[0]
    assert "longtable" not in prose
    named = re.findall(r"\\gentable(ifthere)?\{([^}#]*)\}", prose)
    paths = [(optional, ROOT / "paper/out" / f"{name}.csv") for optional, name in named]
    there = [path for optional, path in paths if path.exists() or not optional]
    in_report = [len(path.read_text().splitlines()) - 1 for path in there]
    assert len(on_page) > 9
    assert len(in_report) > 5
    assert max(on_page + in_report) <= MOST_ROWS


def test_every_row_of_the_ledger_is_whole():
    rows = ledger_rows(ROOT / "paper" / "deviations.md")
    assert len(rows) > 20
    assert {len(row) for row in rows} == {len(LEDGER_COLUMNS)}
    assert all(all(row) for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("latexmk"), reason="no latexmk to build the report with")
@pytest.mark.parametrize("with_figure5", [False, True])
def test_report_builds_without_overfull_lines(drawn, tmp_path, with_figure5):
    if with_figure5:
        shutil.copytree(drawn / "results", tmp_path / "results")
        toy_figure5(tmp_path / "results")
        words = ["--results", str(tmp_path / "results"), "--out", str(tmp_path / "out"), "--processes", "1"]
        assert main(words) == 0
    else:
        shutil.copytree(drawn / "out", tmp_path / "out")
    shutil.copyfile(MAIN, tmp_path / "main.tex")
    pdf = build.build(tmp_path)
    assert pdf.read_bytes().startswith(b"%PDF")
    log = (tmp_path / "build" / "main.log").read_text(errors="replace")
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert [points for points in wide if points > 3] == []
    assert "undefined" not in log.lower()
    assert build.current(tmp_path)
    (tmp_path / "out" / "constants.tex").write_text("")
    assert not build.current(tmp_path)


def test_without_tex_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match=r"apt-get install .*latexmk"):
        build.tex_command(Path("build"))


def chromium(*arguments: str, page: Path, home: Path) -> subprocess.CompletedProcess[str]:
    quiet = [
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-gpu",
        "--no-first-run",
    ]
    profile = [f"--user-data-dir={home / 'profile'}", "--no-sandbox", "--enable-logging=stderr"]
    command = [str(CHROMIUM), "--headless=new", *quiet, *profile, *arguments, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300)


FRAME = """<!doctype html><body><iframe id="page" style="width:{width}px;height:900px"></iframe><script>
const frame = document.getElementById("page")
frame.onload = () => {{
  const page = frame.contentDocument, images = [...page.images]
  const broken = images.filter(image => !image.complete || image.naturalWidth == 0).length
  const wide = page.documentElement.scrollWidth - page.documentElement.clientWidth
  document.body.dataset.probe = [images.length, broken, wide].join(" ")
}}
frame.srcdoc = {text}
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium to load the page with")
@pytest.mark.parametrize("width", [390, 1200])
def test_page_in_chromium(drawn, tmp_path, width):
    """No console error, no request, all images shown, nothing wider than the window."""
    text = json.dumps((drawn / "out" / "index.html").read_text(encoding="utf-8"))
    page = tmp_path / "page.html"
    page.write_text(FRAME.format(width=width, text=text.replace("</", "<\\/")), encoding="utf-8")
    log = tmp_path / "net.json"
    done = chromium("--dump-dom", f"--log-net-log={log}", page=page, home=tmp_path)
    probe = re.search(r'data-probe="(\d+) (\d+) (-?\d+)"', done.stdout)
    assert probe, done.stderr[-2000:]
    images, broken, wide = map(int, probe.groups())
    assert images > 60
    assert broken == 0
    assert wide <= 0
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    hosts = set(re.findall(r'"url":"https?://([^/"]+)', log.read_text(errors="replace")))
    browsers_own = re.compile(r"(^|\.)(google|googleapis|gvt1|gstatic)\.com$")  # its updates and clock
    assert [host for host in hosts if not browsers_own.search(host)] == []
