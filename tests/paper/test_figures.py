"""`make figures`: the same bytes twice, no torch, no leftovers; the page asks for nothing outside itself."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from toy_records import toy_experiment, toy_results

from paper.figures import main, write_all
from paper.grids import grids
from paper.measured_curves import points
from paper.output import WRITTEN, made_anew
from paper.panels import grid_figure
from paper.store import ROOT, Results
from paper.style import COLUMN_INCHES
from paper.training_curves import compared, curve_groups
from uwm.errors import UserError


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_same_bytes_in_one_process_as_in_several_and_no_torch(drawn):
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['jsonschema'] = None\n"
        "from paper.figures import main; raise SystemExit(main(sys.argv[1:]))"
    )
    arguments = ["--results", str(drawn / "results"), "--out", str(drawn / "again"), "--processes", "1"]
    subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, cwd=ROOT, env={"PYTHONHASHSEED": "7"}
    )
    first, second = content(drawn / "out"), content(drawn / "again")
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_all_kinds_of_output_are_there(drawn):
    names = set(content(drawn / "out"))
    for corpus in ("sim-ego", "sim-third-person"):
        assert {f"mini/figure3_{corpus}.{kind}" for kind in ("pdf", "png")} <= names
        assert {f"mini/table1_{corpus}.{kind}" for kind in ("md", "csv", "tex")} <= names
    assert {"mini/table1_code_use.pdf", "mini/table1_curve_mae.png", "index.html", "verdicts.md"} <= names
    assert {"paper/table1_ssv2.md", "constants.tex", "figures.tex", "reproduced.md"} <= names


def test_figures_fit_a_column_and_embed_type_42(drawn):
    for path in (drawn / "out").rglob("*.png"):
        assert Image.open(path).width <= 3.4 * 200 + 1
    pdf = (drawn / "out" / "mini" / "table1_code_use.pdf").read_bytes()
    assert b"CreationDate" not in pdf
    assert b"/Type3" not in pdf


@pytest.mark.slow
def test_nothing_of_an_older_run_stays_but_other_scales(results, tmp_path):
    out = tmp_path / "out"
    toy_experiment(results, "paper", "figure4", ["lift"], {"w_ft": (0.1, 0.05)})
    words = ["--results", str(results), "--out", str(out), "--processes", "1"]
    assert main(words) == 0
    (out / "report.pdf").write_bytes(b"of LaTeX")
    shutil.rmtree(results / "mini" / "table1" / "panels" / "sim-ego")
    before = content(out)
    assert main([*words, "--scale", "mini"]) == 0
    after = content(out)
    assert after["report.pdf"] == b"of LaTeX"
    assert before.keys() - after.keys() == {f"mini/figure3_sim-ego.{kind}" for kind in ("pdf", "png")}
    assert after["paper/figure4_lift.png"] == before["paper/figure4_lift.png"]


def thesis(folder: Path) -> dict[str, bytes]:
    """Somebody's folder, with names that figures would write too."""
    for name in ("index.html", "paper/draft.tex", "mini/table1_sim-ego.md", ".git/HEAD", "data/x"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("years of work")
    return content(folder)


@pytest.mark.parametrize("scale", ["../..", "", ".", "/", "mnii", "mini/..", "~", "mini,paper", "reported"])
def test_an_unknown_scale_is_one_line_and_removes_nothing(scale, toy, tmp_path, run_command):
    before = thesis(tmp_path)
    code, error = run_command("--results", str(toy), "--out", str(tmp_path / "out"), "--scale", scale)
    assert code == 2
    assert "argument --scale: there is no" in error
    assert error.count("\n") == 1
    assert content(tmp_path) == before


@pytest.mark.parametrize("out", ["", ".", "paper", "index.html", "new/.."])
def test_a_folder_of_others_is_refused(out, toy, tmp_path, run_command, monkeypatch):
    before = thesis(tmp_path)
    monkeypatch.chdir(tmp_path)
    code, error = run_command("--results", str(toy), "--out", out)
    assert code == 2
    assert error.count("\n") == 1
    assert content(tmp_path) == before


FAULTS = [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("broken record")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_what_stops_half_way_leaves_the_old_files(fault, drawn, tmp_path, monkeypatch):
    out = Path(shutil.copytree(drawn / "out", tmp_path / "out"))
    before = content(out)

    def fail(*_):
        raise fault

    monkeypatch.setattr("paper.page.render", fail)
    with pytest.raises(UserError if isinstance(fault, ValueError) else type(fault)):
        main(["--results", str(drawn / "results"), "--out", str(out), "--processes", "1"])
    assert content(out) == before


@pytest.mark.parametrize(
    "damage", ["", "{", '{"files": ["../thesis"]}', '{"files": ["/etc/passwd"]}', '{"files": 3}', "[]"]
)
def test_a_damaged_list_removes_nothing(damage, drawn, tmp_path, run_command):
    (tmp_path / "thesis").write_text("years of work")
    out = Path(shutil.copytree(drawn / "out", tmp_path / "out"))
    (out / WRITTEN).write_text(damage)
    before = content(tmp_path)
    code, error = run_command("--results", str(drawn / "results"), "--out", str(out))
    assert (code, error.count("\n")) == (2, 1)
    assert content(tmp_path) == before


def test_other_experiments_are_drawn_alike(tmp_path):
    toy_experiment(
        tmp_path, "mini", "figure4", ["lift"], {"w_pre": (0.1, 0.08), "w_ft": (0.1, 0.05)}, seeds=2
    )
    write_all(Results(tmp_path, ("mini",)), tmp_path / "out", tmp_path / "none.md", processes=1)
    assert {"mini/figure4_lift.pdf", "mini/figure4_lift.md"} <= set(content(tmp_path / "out"))
    assert "W<sub>ft</sub> | 0.1" in (tmp_path / "out" / "mini" / "figure4_lift_all.md").read_text(
        encoding="utf-8"
    )


def test_the_number_of_pairs_is_read_off_the_method(tmp_path):
    models = {"w_ft-100": (0.1, 0.09), "w_ft": (0.1, 0.05), "w_ft-10k": (0.1, 0.04), "copy": (0.0, 0.12)}
    toy_experiment(tmp_path, "mini", "figure4", ["lift"], models | {"w_ft-dynamics": (0.1, 0.06)})
    found = points(Results(tmp_path, ("mini",)), "mini", "figure4", "lift", "w_ft", "lpips_to_next_moving")
    assert list(found) == [100, 2000, 10_000]
    assert [round(entry.value, 2) for entry in found.values()] == pytest.approx([0.09, 0.05, 0.04], abs=0.011)
    write_all(Results(tmp_path, ("mini",)), tmp_path / "out", tmp_path / "none.md", processes=1)
    names = set(content(tmp_path / "out"))
    assert {"mini/figure4_pairs_curve_lift.pdf", "mini/figure4_lift_differences.md"} <= names
    text = (tmp_path / "out" / "mini" / "figure4_lift_differences.md").read_text(encoding="utf-8")
    assert "W<sub>ft</sub> minus W<sub>pre</sub> | – |" in text  # not measured here


def test_curves_of_many_cells_are_one_figure(tmp_path):
    toy_results(tmp_path)
    toy_experiment(tmp_path, "mini", "figure4", ["lift"], {"w_ft": (0.1, 0.05)}, seeds=2)
    folder = tmp_path / "mini" / "figure4" / "curves"
    folder.mkdir()
    for name in ("finetune_w_ft__lift__s0", "finetune_w_ft__lift__s1", "finetune_w_tfs__lift__s0", "mae"):
        (folder / f"{name}.csv").write_text("step,loss,val/state_mse/lift\n1,2,3\n2,1,2\n")
    assert compared(list(folder.glob("finetune_*"))) == {
        "lift": {m: folder / f"finetune_{m}__lift__s0.csv" for m in ("w_ft", "w_tfs")}
    }
    write_all(Results(tmp_path, ("mini",)), tmp_path / "out", tmp_path / "none.md", processes=1)
    drawn = {path.stem for path in (tmp_path / "out" / "mini").glob("figure4_curve*.pdf")}
    assert drawn == {"figure4_curves_lift"}  # that of the MAE is among Table 1's


def test_figure4_has_its_pairs_in_rows(tmp_path):
    toy_experiment(tmp_path, "mini", "figure4", ["lift"], {"w_ft": (0.1, 0.05)})
    folder = tmp_path / "mini" / "figure4" / "panels" / "lift"
    for path in folder.glob("[345]_*.png"):  # two pairs are left, of five pictures each
        path.unlink()
    table = pd.read_csv(folder / "panels.csv").head(2)
    table.to_csv(folder / "panels.csv", index=False)
    (grid,) = grids(Results(tmp_path, ("mini",)), "mini", "figure4")
    figure = grid_figure(grid)
    width, height = figure.get_size_inches()
    assert width == pytest.approx(COLUMN_INCHES)
    assert height < 0.6 * width  # two of five pictures high
    assert [text.get_text() for text in figure.axes[0].texts][:4] == ["(1)", "(2)", "$O_{t}$", "$R_{t}$"]


def test_page_is_self_contained(drawn):
    text = (drawn / "out" / "index.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,30})', text)
    assert len(sources) > 60
    assert all(source.startswith("data:") for source in sources)
    assert text.count("<script") == 1  # tests/paper/test_community.py has a look at it
    assert "experiments/table1.py" in text
    assert all(alt for alt in re.findall(r'<img alt="([^"]*)"', text))


def test_curves_are_grouped_by_kind():
    groups = curve_groups(
        ["step", "lr", "loss", "used", "val/psnr/sim-ego", "val/state_mse/sim-ego", "val/mse"]
    )
    assert groups == {
        "training": {"loss": "loss"},
        "codes in use": {"used": "used"},
        "PSNR on validation, dB": {"val/psnr/sim-ego": "psnr sim ego"},
        "validation sim ego": {"val/state_mse/sim-ego": "state mse"},
        "validation": {"val/mse": "mse"},
    }


KILLED = """
import os, signal, sys
from pathlib import Path
from paper.output import made_anew
with made_anew(Path(sys.argv[1]), lambda name: False) as made:
    (made / "deep" / "empty").mkdir(parents=True)
    (made / "deep" / "a.pdf").write_text("half")
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("making", flush=True)
    sys.stdin.read()
"""


def making(out, how):
    return subprocess.Popen(
        [sys.executable, "-c", KILLED, str(out), how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.parametrize("made_before", [True, False])
def test_what_a_killed_run_left_goes_with_the_next(made_before, tmp_path):
    out = tmp_path / "out"
    if made_before:
        with made_anew(out, lambda _: False) as made:
            (made / "a.pdf").write_text("old")
    assert making(out, "killed").wait() == -signal.SIGKILL
    (left,) = out.glob(".making-*")
    foreign = out / ".making-notes"
    foreign.mkdir()
    (foreign / "lock").write_text("of mine")
    with making(out, "at work") as other:
        assert other.stdout.readline() == "making\n"
        with made_anew(out, lambda _: False) as made:
            (made / "a.pdf").write_text("new")
        assert not left.exists()
        assert (out / "a.pdf").read_text() == "new"
        assert len(list(out.glob(".making-*/made/deep/a.pdf"))) == 1  # that of the other run stays
        other.communicate()
    assert other.returncode == 0
    assert list(out.glob(".making-*")) == [foreign]
    assert (foreign / "lock").read_text() == "of mine"
