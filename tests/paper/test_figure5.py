"""Figure 5 from toy records: its tables, curves, grids of panels, animations, and their captions."""

import base64
import re
from pathlib import Path

import pytest
from toy_records import toy_figure5

from paper import tables
from paper.captions import CAPTIONS, caption, in_order
from paper.control_targets import control_targets
from paper.figures import main
from paper.grids import grids
from paper.items import MISSING, NOT_REACHED, REACHED
from paper.layout import MOVEMENT
from paper.measured_curves import pairs_figure, pairs_plots, rollout_figure, rollout_plots
from paper.store import Results
from uwm.methods import R_LA
from uwm.metrics.spec import metric_label

CORPUS = "sim-panda"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Results of Figure 5 alone, with what is drawn from them in `out`."""
    folder = tmp_path_factory.mktemp("figure5")
    toy_figure5(folder / "results")
    arguments = ["--results", str(folder / "results"), "--out", str(folder / "out"), "--scale", "mini"]
    (folder / "none.md").touch()
    assert main([*arguments, "--deviations", str(folder / "none.md")]) == 0
    return folder


@pytest.fixture(scope="module")
def results(root) -> Results:
    return Results(root / "results", ("mini",))


def test_tables_have_their_measures_and_the_methods_in_order(results):
    found = {table.name: table for table in tables.experiment_tables(results, "mini")}
    table = found[f"figure5_{CORPUS}"]
    assert table.columns[1:] == [metric_label(name) for name in MOVEMENT]
    assert [row[0] for row in table.rows if len(row) > 1] == [
        *("R_LA", "R_GT", "R_GT, adapter without state", "R_GT, another pair's action"),
        *("Direct dynamics, no adapter", "No action", "FICC, real actions", "FICC, latent actions"),
        *("Copy of O_t", "Oracle: MAE of O_t+1"),
    ]
    row = next(row for row in found[f"figure5_{CORPUS}_all"].rows if row[0] == "R_GT")
    assert [text.partition(" ")[0] for text in row[3:]] == ["0.060", "–", "2.34"]
    ends = ("all", "frames", "actions", "differences", "differences_ahead", "control")
    assert {f"figure5_{CORPUS}_{end}" for end in ends} <= set(found)
    assert "Opened when told, share" in found[f"figure5_{CORPUS}_control"].csv()


def test_further_rows_are_tables_by_topic_where_they_were_measured(results):
    found = {table.name: table for table in tables.experiment_tables(results, "mini")}
    pairs, decoders = (found[f"figure5_{CORPUS}_{topic}"] for topic in ("pairs", "decoders"))
    labels = [row[0] for row in pairs.rows if len(row) > 1]
    assert labels[: len(labels) // 2] == [
        "R_GT, 100 pairs",
        "R_GT, 2k pairs",
        "R_GT",
        "Direct dynamics, no adapter",
    ]
    assert "R_GT, MAE's own decoder" in {row[0] for row in decoders.rows}
    assert not [name for name in found if "_ahead" in name and "differences" not in name]
    assert pairs.topic == "number of labelled pairs"


def test_pairs_curve_has_both_ways_to_use_labels(results):
    (plot,) = pairs_plots(results, "mini", "figure5", CORPUS)
    assert {method: list(line) for method, line in plot.lines.items()} == {
        "r_gt": [100, 2000, float("inf")],
        "direct": [float("inf")],
    }
    assert set(plot.levels) == {"copy", "r_la"}
    (axis,) = pairs_figure([plot], "figure5").axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["100", "2k", "all"]
    assert len(axis.get_legend().get_texts()) == 4


def test_rollout_curve_has_a_line_and_a_band_per_method(results):
    methods = tables.table_methods(results, "mini", "figure5", CORPUS)
    (plot,) = rollout_plots(results, "mini", "figure5", CORPUS, methods)
    assert list(plot.lines)[:3] == ["r_la", "r_gt", "direct"]
    line = plot.lines["r_gt"]
    assert [entry.value for entry in line.values()] == pytest.approx([0.06, 0.12, 0.18])
    assert line[2].low < line[2].value < line[2].high
    (axis,) = rollout_figure([plot]).axes
    assert len(axis.lines) == len(axis.collections) == len(plot.lines)
    assert len({(line.get_color(), str(line.get_linestyle())) for line in axis.lines[:5]}) == 5


def test_grids_name_their_rows_and_columns(results):
    found = {grid.name: grid for grid in grids(results, "mini", "figure5")}
    names = [f"figure5_{CORPUS}{end}" for end in ("", "-gripper", "-commands", "-rollout", "-transfer")]
    assert list(found) == sorted(names, key=list(found).index)
    whole, gripper, commands, rollout, transfer = (found[name] for name in names)
    assert whole.columns == gripper.columns == ["O_t", "O_t+1", "R_LA", "R_GT"]
    assert [path.name for path in gripper.pictures[1]][:2] == ["2_o_t_hand.png", "2_o_next_hand.png"]
    assert commands.rows == ["O_t", "forward", "back", "open"]
    assert (rollout.rows, rollout.columns) == (["O_t+k", "R_LA", "R_GT"], ["k = 1", "k = 3"])
    assert transfer.columns == ["donor's O_t", "donor's O_t+1", "O_t", "Predict"]
    assert all(path.exists() for grid in found.values() for row in grid.pictures for path in row)


def test_every_figure_has_its_caption_in_the_report(root):
    drawn = in_order((root / "out" / "mini").glob("*.pdf"))
    assert len(drawn) == 9
    captions = [caption(path.stem, "mini") for path in drawn]
    assert len(set(captions)) == len(captions)
    assert all("sim Panda" in text or "decoder" in text for text in captions)
    text = (root / "out" / "figures.tex").read_text(encoding="utf-8")
    assert re.findall(r"\{mini/([^}]*)\.pdf\}", text) == [path.stem for path in drawn]
    places = [list(CAPTIONS).index(r"figure5_(.+)"), list(CAPTIONS).index(r"figure5_(.+)-gripper")]
    assert places[0] < places[1]


def test_page_shows_the_animations(root):
    text = (root / "out" / "index.html").read_text(encoding="utf-8")
    (gif,) = re.findall(r'<figure class="rollout"><img alt="[^"]+" src="data:image/gif;base64,([^"]*)"', text)
    assert base64.b64decode(gif)[:3] == b"GIF"
    assert "From left to right: the true clip" in " ".join(text.split())
    assert "prefers-reduced-motion" in text


def test_targets_compare_real_actions_with_a_copy(results, monkeypatch):
    near, far = control_targets(results)
    assert (near.verdict, near.reported[:6], far.verdict) == (REACHED, "≤ 0.12", MISSING)
    monkeypatch.setattr("paper.control_targets.COPY", R_LA)  # which is nearer than R_GT
    missed, _ = control_targets(results)
    assert missed.verdict == NOT_REACHED
    assert re.search(
        r"no adapter: 0\.04\d\. By fewer labelled pairs: 0\.08\d by 100, 0\.06\d by 2,000", missed.why
    )
