"""Damaged trees of records: each command says so in a line and never ends in a traceback.

`check` and `validate` fail, `figures` refuses to draw and leaves what it drew before.
"""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toy_records import toy_experiment

from paper import check, figures, readme
from paper.integrity import _count_problems, _lines
from paper.store import Results
from uwm.errors import run_cli
from uwm.runs import record as records

RECORD = "mini/table1/uwm__sim-ego.json"
SAMPLES = "mini/table1/samples/sim-ego.csv"


def change(path, **changes):
    """A damage: fields of the record replaced."""
    return lambda root: (root / path).write_text(json.dumps(json.loads((root / path).read_text()) | changes))


def text(path, content):
    return lambda root: (root / path).write_text(content)


def metrics_of(root, **changes):
    content = json.loads((root / RECORD).read_text())
    for name, entry in changes.items():
        content["metrics"][name] = entry
    (root / RECORD).write_text(json.dumps(content))


def cut(path, share):
    def how(root):
        data = (root / path).read_bytes()
        (root / path).write_bytes(data[: int(share * len(data))])

    return how


ENTRY = {"value": 0.1, "n": 48, "better": "lower", "ci": [0.1, 0.2], "protocol": None}
DAMAGES = {
    "empty record": text(RECORD, ""),
    "cut record": cut(RECORD, 0.5),
    "a list": text(RECORD, "[]"),
    "another schema": change(RECORD, schema=99),
    "a name twice": lambda root: text(RECORD, '{"scale": "x",' + (root / RECORD).read_text()[1:])(root),
    "a number": text(RECORD, "7"),
    "null": text(RECORD, "null"),
    "deep": text(RECORD, "[" * 100_000),
    "NaN": lambda root: metrics_of(root, lpips_to_next=ENTRY | {"value": float("nan")}),
    "infinity": lambda root: metrics_of(root, lpips_to_next=ENTRY | {"value": float("inf")}),
    "not UTF-8": lambda root: (root / RECORD).write_bytes(b"\xff\xfe{}"),
    "a folder": lambda root: ((root / RECORD).unlink(), (root / RECORD).mkdir()),
    "no samples": change(RECORD, samples=None),
    "a number by hand": lambda root: (
        metrics_of(root, lpips_to_next=ENTRY | {"value": 0.123}), change(RECORD, samples=None)(root)
    ),
    "an invented metric": lambda root: metrics_of(root, invented=ENTRY),
    "other n": lambda root: metrics_of(root, success_vs_copy=ENTRY | {"n": 9999}),
    "metric no object": lambda root: metrics_of(root, lpips_to_next=0.1),
    "metric of text": lambda root: metrics_of(root, lpips_to_next=ENTRY | {"value": "0.1"}),
    "metric true": lambda root: metrics_of(root, lpips_to_next=ENTRY | {"value": True}),
    "interval of one": lambda root: metrics_of(root, lpips_to_next=ENTRY | {"ci": [1]}),
    "metrics a list": change(RECORD, metrics=[1]),
    "config null": change(RECORD, config=None),
    "run empty": change(RECORD, run={}),
    "status great": change(RECORD, status="great"),
    "no cell": change(RECORD, cell=None),
    "markup in the cell": change(RECORD, cell="<script>alert(1)</script>/sim-ego"),
    "LaTeX in the cell": change(RECORD, cell=r"\input{x}/sim-ego"),
    "dots in the cell": change(RECORD, cell="../../uwm/sim-ego"),
    "another cell": change(RECORD, cell="uwm/elsewhere"),
    "samples that lead out": change(RECORD, samples={"path": "../../../secret.csv", "sha256": "0" * 64}),
    "absolute samples": change(RECORD, samples={"path": "/etc/passwd", "sha256": "0" * 64}),
    "samples a number": change(RECORD, samples=3),
    "samples gone": lambda root: (root / SAMPLES).unlink(),
    "samples empty": text(SAMPLES, ""),
    "samples cut": cut(SAMPLES, 0.5),
    "samples of another table": text(SAMPLES, "a,b\n1,2\n"),
    "samples binary": lambda root: (root / SAMPLES).write_bytes(bytes(range(256))),
    "an experiment's name with markup": lambda root: shutil.copytree(
        root / "mini/table1", root / "mini" / "<img src=x onerror=alert(1)>"
    ),
    "in the wrong folder": lambda root: shutil.copytree(root / "mini/table1", root / "mini/table2"),
    "of the wrong scale": lambda root: shutil.copytree(root / "mini", root / "paper"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_check_notices(damage, results, run_command):
    DAMAGES[damage](results)
    arguments = (
        "--results",
        str(results),
        "--experiments",
        str(results),
        "--deviations",
        str(results / "no"),
    )
    code, error = run_command(*arguments, command=check.main)
    assert code in (1, 2)
    assert error.count("\n") == (code == 2)


@pytest.mark.parametrize("damage", DAMAGES)
def test_validate_notices_or_stays_silent_in_a_line(damage, results, run_command):
    DAMAGES[damage](results)
    code, error = run_command("x", "validate", str(results), command=lambda a: records._main(a[1:]))
    assert code in (0, 1)
    assert error == ""


BROKEN_TO_DRAW = [
    *(name for name in DAMAGES if name.startswith(("cut", "deep", "markup", "LaTeX", "dots"))),
    "samples that lead out",
    "samples empty", "samples of another table", "an experiment's name with markup", "metrics a list",
]  # fmt: skip


@pytest.mark.parametrize("damage", BROKEN_TO_DRAW)
def test_figures_refuse_and_leave_what_is_there(damage, results, tmp_path, run_command):
    DAMAGES[damage](results)
    code, error = run_command("--results", str(results), "--out", str(tmp_path / "out"), "--processes", "1")
    if code == 0:  # nothing drawn needed the samples
        assert damage.startswith("samples")
        return
    assert (code, error.count("\n")) == (2, 1)
    assert [path.name for path in (tmp_path / "out").rglob("*")] == [] or not (tmp_path / "out").exists()


DRAWN = {
    "panels.csv empty": text("mini/table1/panels/sim-ego/panels.csv", ""),
    "panels.csv of another table": text("mini/table1/panels/sim-ego/panels.csv", "a\n1\n"),
    "a picture that is none": text("mini/table1/panels/sim-ego/1_o_t.png", "no picture"),
    "a curve that is empty": text("mini/table1/curves/mae.csv", ""),
    "a curve of text": text("mini/table1/curves/mae.csv", "step,loss\na,b\n"),
    "a curve with markup": text("mini/table1/curves/<b>.csv", "step,loss\n1,2\n2,1\n"),
    "code use of another table": text("mini/table1/code_use/sim-ego.csv", "a\n1\n"),
    "panels with markup": lambda root: shutil.copytree(
        root / "mini/table1/panels/sim-ego", root / "mini/table1/panels/}\\input{x"
    ),
}


@pytest.mark.parametrize("damage", DRAWN)
def test_what_cannot_be_drawn_is_one_line(damage, results, tmp_path, run_command):
    DRAWN[damage](results)
    code, error = run_command("--results", str(results), "--out", str(tmp_path / "out"), "--processes", "1")
    assert (code, error.count("\n")) == (2, 1), error


EMPTY = {"missing": lambda root: root / "nope", "empty": lambda root: (root / "e").mkdir() or root / "e",
         "a file": lambda root: root / RECORD}  # fmt: skip


@pytest.mark.parametrize("which", EMPTY)
@pytest.mark.parametrize("command", [check.main, figures.main], ids=["check", "figures"])
def test_nothing_to_read_is_an_error(which, command, results, tmp_path, run_command):
    folder = str(EMPTY[which](results))
    out = ["--out", str(tmp_path / "out")] if command is figures.main else []
    code, error = run_command("--results", folder, *out, command=command)
    assert (code, error.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()
    code, error = run_command("validate", folder, command=lambda argv: records._main(argv))
    assert (code, error.count("\n")) == (2, 1)


@pytest.mark.parametrize("scale", ["mnii", "", "paper", "smoke", "../mini"])
@pytest.mark.parametrize("command", [check.main, figures.main], ids=["check", "figures"])
def test_a_scale_without_records_is_an_error(scale, command, results, run_command):
    code, error = run_command("--results", str(results), "--scale", scale, command=command)
    assert (code, error.count("\n")) == (2, 1)


def test_a_readme_without_marks_is_left_alone(results, tmp_path, run_command):
    (tmp_path / "README.md").write_text("mine")
    arguments = ("--file", str(tmp_path / "README.md"), "--results", str(results))
    assert run_command(*arguments, command=readme.main)[0] == 2
    assert (tmp_path / "README.md").read_text() == "mine"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    """An experiment with one record."""
    root = tmp_path_factory.mktemp("one")
    toy_experiment(root, "mini", "table1", ["sim-ego"], {"uwm": (0.1, 0.05)})
    return root


def nodes(value, path=()):
    """Every place in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from nodes(inner, (*path, key))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_anywhere_in_a_record_is_a_problem_or_fine_but_no_traceback(one, data):
    path = one / RECORD
    whole = path.read_text()
    content = json.loads(whole)
    place = data.draw(st.sampled_from(list(nodes(content))))
    value = data.draw(JSON)
    try:
        path.write_text(json.dumps(put(content, place, value)))
        results = Results(one, ("mini",))
        lines = [_lines(one, {"table1": 1}, cell) for group in results.cells.values() for cell in group]
        assert len(lines) + len(results.unreadable) == 1
        assert list(records.record_problems(path)) is not None
    finally:
        path.write_text(whole)


def put(content, place, value):
    if not place:
        return value
    content[place[0]] = put(content[place[0]], place[1:], value)
    return content


def test_counts_of_no_pair_are_a_problem_and_no_error():
    """A file of samples that was cut after its first line, with its sha256 written anew."""
    results = SimpleNamespace(
        code_counts=lambda cell: np.zeros(4, int), samples=lambda path: SimpleNamespace(pairs=pd.DataFrame())
    )
    cell = SimpleNamespace(sample_paths=[Path("samples.csv")])
    found = list(_count_problems(results, cell, "perplexity", ENTRY))
    assert found == ["perplexity is of 48 pairs, and its file of samples has none"]


@pytest.mark.parametrize(("command", "flag"), [
    (check, "--deviations"), (check, "--experiments"), (figures, "--deviations"),
])  # fmt: skip
def test_a_page_or_folder_that_is_not_there_is_an_error(command, flag, tmp_path, capsys):
    assert run_cli(lambda: command.main([flag, str(tmp_path / "nowhere")])) == 2
    assert "nowhere: there is no such file or folder" in capsys.readouterr().err
