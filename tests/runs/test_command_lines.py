"""Any command line of an experiment ends with 0, 1 or 2, and a bad one with one line: never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
VALUES = [
    "", " ", "0", "-1", "1", "2", "nan", "ours", "uwm/ours/s0", "/", "..", "~", "\x00", "é", "\udcff", "{}",
    "a=b",
    "training.steps=0", "training.rates=", "training.rates=nan", "limit=none", "limit=x", "fault=", "=",
    "x=/dev/null", "ours=/", "ours=/proc/1", "smoke", "mini", "99999999999999999999", "*", "[", "-",
]  # fmt: skip
FLAGS = ["--scale", "--only", "--data", "--set", "--pretrain-on", "--jobs", "--site", "--max-parallel"]
SWITCHES = ["--status", "--logs", "--collect", "--dry-run", "--check", "--json", "--missing", "--recompute"]

arguments = st.lists(
    st.one_of(
        st.sampled_from(SWITCHES).map(lambda flag: [flag]),
        st.tuples(st.sampled_from(FLAGS), st.sampled_from(VALUES)).map(lambda pair: ["=".join(pair)]),
        st.sampled_from(VALUES).map(lambda value: [value]),
    ),
    max_size=3,
).map(lambda parts: ["--dry-run", *(part for some in parts for part in some)])


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=arguments)
def test_any_command_line(words, project):
    code, out, error = project.run(*words)
    assert code in (0, 1, 2)
    if code == 2:
        assert [line for line in error.splitlines() if line.startswith("error: ")], error
        assert error.count("error: ") == 1
        assert out == ""
    assert not project.results.exists()


@pytest.mark.parametrize("flags", [["--status"], ["--status", "--json"], ["--dry-run"]], ids=" ".join)
def test_a_full_disk_behind_stdout_is_one_line(project, flags):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, str(project.file), *flags], stdout=full, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert done.stderr.count("No space left on device; free some space") == 1


def test_a_name_that_is_not_utf8_is_no_traceback(project, tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"\xff\xfe")
    os.mkdir(folder)
    code, _, error = project.run("--data", f"wild={os.fsdecode(folder)}")
    assert code in (0, 2)
    assert error.count("error: ") == (code == 2)


def test_damaged_notes_of_a_run_are_passed_over(project):
    project.run("--set", "limit=3")
    (work,) = project.root.glob("runs/mini/toy-*")
    for path in (work / "state").glob("*.jsonl"):
        path.write_bytes(b'\xff{"event": \n')
    (work / "jobs.jsonl").write_text("{")
    (work / "recompute.json").write_text("[]")
    for flags in (["--status", "--json"], ["--logs"], ["--recompute"]):
        code, out, _ = project.run("--set", "limit=3", *flags)
        assert code == 0, flags
        if flags[-1] == "--json":
            json.loads(out)
