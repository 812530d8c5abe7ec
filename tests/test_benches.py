"""What `make bench` runs still fits the code: no other test imports it."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHES = sorted([*ROOT.glob("tests/bench/*.py"), *ROOT.glob("tests/**/bench_*.py")])


@pytest.mark.parametrize("path", BENCHES, ids=lambda path: path.stem)
def test_a_bench_imports_names_that_exist(path: Path) -> None:
    """Of this project alone: what a bench compares with may be missing here."""
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        if node.module and node.module.split(".")[0] in ("uwm", "tests"):
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False])
def test_compiled_blocks_are_a_table_also_where_no_compiler_is(tmp_path: Path, compiler: bool) -> None:
    """Their effect is measured on a CPU, or the table says why not."""
    empty = tmp_path / "empty"
    empty.mkdir()
    code = (
        "import functools, models; models.ROUNDS = 1\n"
        "models.compile_blocks = functools.partial(models.compile_blocks, backend='eager')\n"  # in seconds
        "models.compiled_steps('smoke', batch=2)"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'bench'}",
        "UWM_RUNS": str(tmp_path),
    }
    if not compiler:
        environment["PATH"] = str(empty)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "bench" / "tables" / "compile.json").read_text())["rows"]
    if not compiler:
        assert [row[0] for row in rows] == ["not measured: no C++ compiler here"]
        return
    eager, compiled = rows
    assert (eager[0], eager[3], compiled[0]) == ("eager", "1.00", "compiled")
    assert float(eager[-1]) == pytest.approx(float(compiled[-1]), rel=1e-3)  # the loss of the first step
