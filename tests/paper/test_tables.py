"""Tables: layout, dashes, failures, symbols, and README's generated block."""

import pytest
from toy_records import toy_record

from paper import readme
from paper.names import html, tex
from paper.store import Reported, Results
from paper.tables import MAIN, Table, method_table, paper_layout, reported_layout, reproduced
from uwm.errors import UserError


def test_paper_layout_follows_the_panels(results):
    table = paper_layout(Results(results), "mini")
    assert [row[0] for row in table.rows] == ["O_t", "O_t+1", "sim ego", "O_t", "O_t+1"]
    assert all(len(row) == 6 for row in table.rows)
    assert "–" not in table.csv()


def test_missing_is_a_dash_and_failed_an_f(results):
    record = toy_record("mini", "table1", "continuous/sim-ego", None, status="timeout", error="Timeout: 1 h")
    record.write(results / "mini" / "table1")
    rows = {row[0]: row for row in method_table(Results(results), "mini", "table1", "sim-ego", MAIN).rows}
    assert rows["Continuous action (no VQ)"][1:] == ["F"] * 5
    assert rows["Zero action"][1:] == ["–"] * 5


def test_no_reported_number_in_our_columns(tmp_path):
    table = reproduced(Results(tmp_path), Reported())
    assert all(set(row[2:]) <= {"–"} for row in table.rows)
    assert table.rows[1][1] == "0.361"


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


def test_readme_block_is_refreshed_and_checked(results, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{readme.MARKS[0]}\nold\n{readme.MARKS[1]}\nafter\n")
    arguments = ["--file", str(path), "--results", str(results)]
    assert readme.main([*arguments, "--check"]) == 1
    assert readme.main(arguments) == 0
    assert readme.main([*arguments, "--check"]) == 0
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "0.560" in text
    path.write_text("no marks")
    with pytest.raises(UserError, match="table1:begin"):
        readme.main(arguments)
