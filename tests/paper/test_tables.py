"""Tables: layout, dashes, failures, symbols, and README's generated block."""

import json
import re

import pytest
from toy_records import toy_figure5, toy_record

from paper import readme
from paper.costs import costs
from paper.gpu_steps import gpu_steps
from paper.layout import MOST_ROWS, OWN_TABLES, Topic
from paper.names import html, tex
from paper.reported import Reported
from paper.reported_tables import paper_layout, reported_layout, reproduced
from paper.store import ROOT, Results
from paper.table import PAGE_WIDTH, Table
from paper.tables import expected, experiment_tables, method_table
from uwm.errors import UserError
from uwm.methods import method_label


def test_paper_layout_follows_the_panels(results):
    table = paper_layout(Results(results), "mini")
    assert [row[0] for row in table.rows[:5]] == ["O_t", "O_t+1", "sim ego", "O_t", "O_t+1"]
    assert all(len(row) == 6 for row in table.rows)
    assert "–" not in "".join(map(str, table.rows[:5]))


def test_missing_is_a_dash_and_failed_an_f(results):
    record = toy_record("mini", "table1", "continuous/sim-ego", None, status="timeout", error="Timeout: 1 h")
    record.write(results / "mini" / "table1")
    main = Topic("", "", expected("table1"))
    rows = {row[0]: row for row in method_table(Results(results), "mini", "table1", "sim-ego", main).rows}
    assert rows["Continuous action (no VQ)"][1:] == ["F"] * 5
    assert rows["Zero action"][1:] == ["–"] * 5


def test_no_reported_number_in_our_columns(tmp_path):
    table = reproduced(Results(tmp_path), Reported())
    assert table.columns == ["", "SSv2: paper", "EGO4D: paper"]  # no record, no column
    assert [row[1] for row in table.rows[:2]] == ["240", "0.361"]
    assert {"mini", "paper"} <= set(table.note.split())


def test_reported_and_ours_stand_beside_each_other(results):
    table = reproduced(Results(results), Reported())
    assert table.columns[1:3] == ["SSv2: paper", "sim third person: ours, mini"]
    printed = [row[1] for row in table.rows]
    assert set(printed[5:]) == {"–"}  # the paper has no copy and no shuffled action
    assert all("[" in row[2] for row in table.rows[1:3])


def test_tables_say_how_many_pairs_of_how_many_clips(results):
    toy_figure5(results)
    read = Results(results)
    tables = {table.name: table.note for table in experiment_tables(read, "mini")}
    for name in ("table1_sim-ego", "figure5_sim-panda"):
        assert tables[name].endswith(". 48 pairs of 12 clips."), name
    differences = tables["figure5_sim-panda_differences"]  # whose rows are of the moving half alone
    assert differences.endswith(". The moving half of 48 pairs of 12 clips.")
    assert "pairs of" not in tables["figure4_sim-panda_differences"]  # nothing is measured there
    note = reproduced(read, Reported()).note
    assert note.endswith(
        " Pairs in all: sim third person 48 pairs of 12 clips; sim ego 48 pairs of 12 clips."
    )
    for path in results.glob("mini/table1/samples/*.csv"):
        path.unlink()
    assert "48 pairs" not in reproduced(Results(results), Reported()).note


def test_reported_layout_prints_the_papers_decimals():
    assert reported_layout(Reported()).rows[0] == ["O_t", "0.280", "0.437", "0.350", "0.323", "0.416"]


def test_symbols_and_escapes():
    assert tex("R_GT < 5% of O_t+1") == r"$R_{\mathrm{GT}}$ $<$ 5\% of $O_{t+1}$"
    assert html("W_pre & O_t") == "W<sub>pre</sub> &amp; O<sub>t</sub>"
    assert tex("state_mse") == r"state\_mse"


def test_csv_and_latex_have_all_cells():
    table = Table("x", "X", ["", "a"], [["block"], ["r", "1"]])
    assert table.csv() == ",a\nblock\nr,1\n"
    assert r"\multicolumn{2}{l}{\textit{block}}" in table.latex()


@pytest.mark.parametrize(("name", "shown"), [("table1", "0.560"), ("cost", "Hours of one process")])
def test_readme_block_is_refreshed_and_checked(results, tmp_path, name, shown):
    path = tmp_path / "README.md"
    begin, end = readme.marks(name)
    path.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    arguments = ["--file", str(path), "--results", str(results)]
    assert readme.main([*arguments, "--check"]) == 1
    assert readme.main(arguments) == 0
    assert readme.main([*arguments, "--check"]) == 0
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert shown in text
    for torn in ("no marks", begin, f"{end}{begin}", f"{begin}{end}{begin}"):
        path.write_text(torn)
        with pytest.raises(UserError, match=f"{name}:begin"):
            readme.main(arguments)


def test_costs_are_the_records_own():
    """Of the committed records, added up once more: those of a GPU beside those of a CPU."""
    rows = {(row[0], row[1]): row[2:] for row in costs(Results()).rows}
    records = [json.loads(path.read_text()) for path in (ROOT / "results/mini/ablations").glob("*.json")]
    for device in {record["env"]["device"] for record in records}:
        runs = [record["run"] for record in records if record["env"]["device"] == device]
        hours, memory = sum(run["seconds"] for run in runs) / 3600, max(run["peak_gb"] for run in runs)
        row = rows["Ablations", "CPU" if device == "cpu" else device]
        assert row == [str(len(runs)), f"{hours:.1f}", f"{memory:.1f}"]


@pytest.mark.slow
def test_main_tables_are_short_and_every_mean_has_its_interval():
    """Of the committed records. Perplexity and bits are of all codes together, no means over pairs; sizes,
    costs and gains are facts of a training; calls and seconds per decision are the solver's budget and the
    machine's speed; episodes are counted, and P is of a test."""
    results = Results()
    tables = list(experiment_tables(results, "mini"))
    short = [table for table in tables if not table.topic]
    assert {table.name.partition("_")[0] for table in short} == {
        name for _, name in results.cells
    } - OWN_TABLES
    short.append(reproduced(results, Reported()))  # README's
    assert max(sum(len(row) > 1 for row in table.rows) for table in short) <= MOST_ROWS
    for table in [*tables, reproduced(results, Reported())]:
        for row in table.rows:
            for name, text in zip(table.columns[1:], row[1:], strict=False):
                bare = re.fullmatch(r"[-\d.,]+", text) is not None
                words = (
                    "perplexity",
                    "Bits",
                    "per decision",
                    "Parameters",
                    "Gained",
                    "GFLOP",
                    "Episodes",
                    "Only",
                    "Methods",
                )
                exempt = name == "P" or "paper" in name or any(word in row[0] + name for word in words)
                assert not bare or exempt, (table.name, row[0], name)


@pytest.mark.slow
def test_every_method_with_a_record_is_in_a_table():
    results = Results()
    shown = {row[0] for table in experiment_tables(results, "mini") for row in table.rows}
    for (scale, experiment), cells in results.cells.items():
        if scale == "mini" and experiment in ("table1", "figure4", "figure5"):
            assert {method_label(cell.method) for cell in cells} <= shown


def bench_record(**changes):
    record = {
        "scale": "paper",
        "processes": 8,
        "batch_size": 256,
        "precision": "bf16",
        "milliseconds_per_step": 31.4,
        "pairs_per_second": 8152.9,
        "tflops_per_process": 163.4,
        "mfu": 0.3146,
        "peak_memory_gb": 3.25,
        "nccl": "2.28.9",
        "env": {"device": "NVIDIA H100", "compiled": True},
    }
    return record | changes


def test_a_step_on_gpus_is_a_row_of_the_table(tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "paper-8.json").write_text(json.dumps(bench_record()))
    (row,) = gpu_steps(Results(tmp_path)).rows
    assert row[:5] == ["paper, bf16, compiled", "NVIDIA H100", "8", "256", "31"]
    assert row[5:] == ["8,153", "163", "31", "3.2", "2.28.9"]
    (tmp_path / "bench" / "paper-8.json").write_text(json.dumps(bench_record(mfu=None, env={"device": "X"})))
    (row,) = gpu_steps(Results(tmp_path)).rows
    assert (row[0], row[7]) == ("paper, bf16", "–")


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense"])
def test_what_is_no_record_of_a_step_is_named(tmp_path, text):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json: no record"):
        gpu_steps(Results(tmp_path))


@pytest.mark.parametrize(("columns", "letters"), [(3, 9), (12, 20), (27, 18), (2, 300)])
def test_a_wide_table_of_latex_goes_on_below(columns: int, letters: int) -> None:
    rows = [[f"{'x' * (letters - 4)}{row}{k:03d}" for k in range(columns)] for row in range(2)]
    table = Table("t", "T", [f"c{k}" for k in range(columns)], [["heading"], *rows])
    groups = table.column_groups()
    assert [k for group in groups for k in group[1:]] == list(range(1, columns))
    assert all(group[0] == 0 for group in groups)
    for group in groups:
        assert len(group) == 2 or len(group) * (letters + 2) <= PAGE_WIDTH
    text = table.latex()
    assert text.count("heading") == len(groups)
    assert all(text.count(f"{row}{k:03d}") == 1 for row in range(2) for k in range(1, columns))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == len(groups) + (len(groups) > 1)
