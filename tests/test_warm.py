"""A command run by `tests.warm` sees, prints and returns what it does in a new process."""

import os
import subprocess
import sys

import pytest

from tests.warm import run_python

SCRIPT = """
import json, os, sys
from pathlib import Path
main = sys.modules["__main__"]
print(json.dumps([sys.argv, sys.path[:2], os.getcwd(), os.environ.get("UWM_X")]))
print(__name__, main.__file__, sys.stdin.read())
print("a warning", file=sys.stderr)
if sys.argv[1:] == ["raise"]:
    raise ValueError("on purpose")
if sys.argv[1:] == ["kill"]:
    os.kill(os.getpid(), 9)
sys.exit(sys.argv[1] if sys.argv[1:] else 3)
"""


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "told.py").write_text(SCRIPT)
    return os.environ | {"PYTHONPATH": str(tmp_path / "code"), "UWM_X": "1"}


@pytest.mark.parametrize(
    "words", [["-m", "told"], ["code/told.py"], ["code/told.py", "text"], ["-m", "told", "kill"]]
)
def test_as_in_a_new_process(tmp_path, environment, words):
    found = run_python(words, tmp_path, environment)
    new = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stdout, found.stderr) == (new.returncode, new.stdout, new.stderr)


def test_an_error_is_a_traceback_and_time_has_an_end(tmp_path, environment):
    found = run_python(["-m", "told", "raise"], tmp_path, environment)
    assert found.returncode == 1
    assert found.stderr.endswith("ValueError: on purpose\n")
    (tmp_path / "code" / "long.py").write_text("import time; time.sleep(60)")
    with pytest.raises(subprocess.TimeoutExpired):
        run_python(["-m", "long"], tmp_path, environment, timeout=0.2)
