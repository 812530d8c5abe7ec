"""Who may import whom, and how long a file may be."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.modules import ROOT, modules, within

# Small modules that know nothing of the paper: everybody may import them.
FOUNDATION = ("uwm.errors", "uwm.env", "uwm.files", "uwm.verified", "uwm.arguments", "uwm.bounds",
              "uwm.garbage")  # fmt: skip
LEARNING = ("uwm.metrics", "uwm.models", "uwm.baselines", "uwm.data", "uwm.training")
# fmt: off
# What each part may import of this project, itself and the foundation aside. A module belongs to the longest
# name that fits.
LAYERS: dict[str, tuple[str, ...]] = {
    "uwm": (),
    **dict.fromkeys(FOUNDATION, ()),
    "uwm.methods": (),
    "uwm.methods.spec": (),
    "uwm.methods.families": ("uwm.methods.spec",),
    "uwm.methods.variations": ("uwm.methods.spec",),
    "uwm.methods.files": ("uwm.methods",),
    "uwm.methods.protocol": ("uwm.models",),
    "uwm.methods.conformance": ("uwm.methods",),
    "uwm.methods.__main__": ("uwm.methods",),
    "uwm.metrics.spec": (),
    "uwm.metrics": (),
    "uwm.models": (),
    "uwm.baselines": ("uwm.models",),
    "uwm.data": (),
    "uwm.training": ("uwm.models", "uwm.metrics", "uwm.data", "uwm.baselines"),
    "uwm.runs": ("uwm.methods", "uwm.metrics.spec", "uwm.training.distributed"),
    "uwm.stages": (*LEARNING, "uwm.runs"),
    "uwm.stages.external": ("uwm.methods", "uwm.models", "uwm.data", "uwm.runs", "uwm.stages"),
    "uwm.evaluation": (*LEARNING, "uwm.methods", "uwm.runs", "uwm.planning"),
    "uwm.planning": ("uwm.models",),
    "uwm.cache": ("uwm.data", "uwm.runs"),
    "uwm.actions": ("uwm.models", "uwm.data", "uwm.runs", "uwm.training"),
    "uwm.bench": ("uwm.models", "uwm.training", "uwm.runs", "uwm.stages"),
    "uwm.cost": ("uwm.data.simulation", "uwm.runs", "uwm.stages", "uwm.reading_cost"),
    "uwm.reading_cost": ("uwm.data.simulation", "uwm.stages"),
    "uwm.release": ("uwm.runs", "uwm.stages"),
    "uwm.prefetch": ("uwm.metrics", "uwm.stages"),
    "experiments": ("uwm",),
    "paper": ("uwm.methods", "uwm.metrics.spec", "uwm.metrics.statistics", "uwm.runs.record",
              "uwm.training.convergence"),
}
# fmt: on
# Libraries that only these parts may import.
LIBRARIES = {
    "submitit": ("uwm.runs",),
    "robosuite": ("uwm.data.simulation",),
    "mujoco": ("uwm.data.simulation",),
    "torch": (
        "uwm.models",
        "uwm.metrics",
        "uwm.baselines",
        "uwm.data",
        "uwm.training",
        "uwm.stages",
        "uwm.evaluation",
        "uwm.planning",
        "uwm.runs",
        "uwm.prefetch",
        "uwm.methods.protocol",
        "uwm.methods.conformance",
        "experiments",
        "uwm.actions",
        "uwm.bench",
    ),
}  # fmt: skip


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, as dotted names; also by `import_module("name")`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            name = node.args[0]
            named = isinstance(name, ast.Constant)
            assert named or path.parts[-2:] == ("metrics", "__init__.py"), f"{path}: imports a computed name"
            found |= {str(name.value)} if isinstance(name, ast.Constant) else set()
    return found


def layer(module: str) -> str:
    """The part that a module belongs to."""
    return max((part for part in LAYERS if within(module, part)), key=len)


def imported_modules(names: set[str], known: set[str]) -> set[str]:
    """The project's modules behind some imported names: `uwm.errors.UserError` is `uwm.errors`."""
    found = set()
    for name in names:
        parts = name.split(".")
        prefixes = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        module = next((prefix for prefix in prefixes if prefix in known), None)
        if module is not None:
            found.add(module)
    # `from uwm.data import video` imports the package too: what counts is the module.
    return {m for m in found if not any(other != m and within(other, m) for other in found)}


def offences(module: str, path: Path, known: set[str]) -> Iterator[str]:
    """Imports of a module that its layer does not allow."""
    own = layer(module)
    names = imports(path)
    for name in sorted(imported_modules(names, known)):
        allowed = own != "experiments" and within(name, own)
        if not allowed and not any(within(name, part) for part in (*FOUNDATION, *LAYERS[own])):
            yield f"{module} ({own}) imports {name}"
    for library, users in LIBRARIES.items():
        used = any(within(name, library) for name in names)
        if used and not any(within(module, user) for user in users):
            yield f"{module} imports {library}"


def test_every_module_has_a_place_and_keeps_to_its_layer() -> None:
    known = modules()
    assert not {m for m in known if layer(m) == "uwm" and m != "uwm"}, "a module without a place in LAYERS"
    assert [line for module, path in known.items() for line in offences(module, path, set(known))] == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("uwm.models.dynamics", "from uwm.stages.mae import MAE"),
        ("uwm.metrics.image", "from uwm.evaluation.measure import measure_pairs"),
        ("uwm.evaluation.predictors", "from paper.store import Results"),
        ("uwm.baselines.direct", "import submitit"),
        ("uwm.runs.experiment", "from uwm.stages import mae"),
        ("paper.tables", "from uwm.models import WorldModel"),
        ("uwm.methods", "import torch"),
        ("experiments.table1", "import experiments.figure4"),
        ("uwm.training.loop", "def late():\n    from uwm.runs.cli import main"),
        ("uwm.models.world", "import importlib\nimportlib.import_module('uwm.stages.mae')"),
        ("uwm.planning.cost", "__import__('uwm.evaluation.measure')"),
    ],
)
def test_an_illegal_import_is_noticed(module: str, line: str, tmp_path: Path) -> None:
    """Each of them put into the file as it is."""
    known = modules()
    copy = tmp_path / "copy.py"
    copy.write_text(f"{known[module].read_text()}\n{line}\n")
    found = list(offences(module, copy, set(known)))
    assert len(found) == 1, found


def circle(files: dict[str, Path]) -> list[str]:
    """Modules that import each other, from one round to the same again; none: []. Imports anywhere count."""
    graph = {name: imported_modules(imports(path), set(files)) - {name} for name, path in files.items()}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        found: list[str] = []
        if module not in done:
            for other in sorted(graph[module]):
                found = found or visit(other, (*path, module))
            done.add(module)
        return found

    return next((found for module in sorted(graph) if (found := visit(module, ()))), [])


def test_no_circles() -> None:
    """A circle that hangs on an import inside a function is one too."""
    assert circle(modules()) == []


@pytest.mark.parametrize("line", ["import one", "def late():\n    from one import first"])
def test_a_circle_is_noticed(line: str, tmp_path: Path) -> None:
    for name, text in {"one": "from two import second", "two": "import three", "three": line}.items():
        (tmp_path / f"{name}.py").write_text(f"{text}\n")
    files = {name: tmp_path / f"{name}.py" for name in ("one", "two", "three")}
    assert circle(files) == ["one", "two", "three", "one"]
    files["three"].write_text("import pathlib\n")
    assert circle(files) == []


def test_figures_and_records_load_no_torch() -> None:
    code = "import sys, uwm.runs.record, uwm.metrics.statistics, paper.figures; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


# Files of more than 300 lines, each with its reason.
LONG_FILES = {
    "experiments/ablations.py": "an experiment is one file: how a variation is trained and measured",
    "experiments/table1.py": "an experiment is one file: config, methods and evaluation of Table 1",
    "experiments/figure5.py": "an experiment is one file: what each of Figure 5's methods trains and reads",
    "experiments/families.py": "an experiment is one file: what all families share, and how each is judged",
    "experiments/planning.py": "an experiment is one file: what each row plans with, and what it minimises",
    "tests/bench/data.py": "a bench is one file: its videos, the ways to read them, and how each is measured",
}


def test_files_are_short() -> None:
    paths = [*modules().values(), *(ROOT / "tests").rglob("*.py")]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in paths}
    assert {name for name, length in lengths.items() if length > 300} == set(LONG_FILES)


def test_the_long_test_files_are_there() -> None:
    """`tests/conftest.py` names them to start them first."""
    named = re.findall(r'"(tests/[^"]+\.py)"', (ROOT / "tests" / "conftest.py").read_text())
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
