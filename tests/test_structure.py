"""The house's rules: who may import whom, and what the project must not hold."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
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


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    paths = [path for part in ("uwm", "paper", "experiments") for path in sorted((ROOT / part).rglob("*.py"))]
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in paths
    }


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


def within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


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


def test_every_noun_of_the_paper_is_a_name() -> None:
    import uwm.models as models

    for name in ("MaskedAutoencoder", "ActionExtractor", "VectorQuantizer", "Dynamics", "WorldModel"):
        assert hasattr(models, name)


@pytest.mark.parametrize("folder", ["uwm/evaluation", "uwm/stages"])
def test_functions_have_few_parameters(folder: str) -> None:
    long = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                count = len(node.args.posonlyargs) + len(node.args.args) + len(node.args.kwonlyargs)
                method = bool(node.args.args) and node.args.args[0].arg in ("self", "cls")
                if count - method > 6:
                    long.append(f"{path.name}: {node.name} has {count - method}")
    assert long == []


# Files of more than 300 lines, each with its reason.
LONG_FILES = {
    "experiments/ablations.py": "an experiment is one file: how a variation is trained and measured",
    "experiments/table1.py": "an experiment is one file: config, methods and evaluation of Table 1",
    "experiments/figure5.py": "an experiment is one file: what each of Figure 5's methods trains and reads",
    "experiments/families.py": "an experiment is one file: what all families share, and how each is judged",
    "experiments/planning.py": "an experiment is one file: what each row plans with, and what it minimises",
}


def test_files_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules().values()}
    assert {name for name, length in lengths.items() if length > 300} == set(LONG_FILES)


# Public names at the top of several modules, each with its reason; all others have one home.
SHARED_NAMES = {
    "main": "a command's entry",
    "log": "a module's own logger",
    "read": "one for each layout of videos, all called alike",
    "Picture": "of the simulator, and of a planner, which knows no simulator",
}
# What experiments call alike, each in its own file and with the same role: the parts of `Experiment`, and the
# steps that lead to them.
PARTS_OF_EXPERIMENTS = {
    *("CONFIGS", "Config", "EXPERIMENT", "cells", "reads", "run_cell", "stages", "check_corpus", "summarize"),
    *("evaluate", "evaluation_stage", "obtain_evaluation", "test_pairs", "PRINTED", "TILES", "write_panels"),
    *("needs", "domain_of", "recipes", "recipe_of", "own_recipe", "mae_of", "adapters"),
}


def defined_twice(files: dict[str, Path]) -> dict[str, list[str]]:
    """Public names that several modules define at their top, and these modules."""
    homes: dict[str, set[str]] = {}
    for module, path in files.items():
        for node in ast.parse(path.read_text()).body:
            names = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
            names += [
                part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)
            ]
            for name in names:
                homes.setdefault(name, set()).add(module)
    return {name: sorted(found) for name, found in homes.items() if len(found) > 1 and name[0] != "_"}


def test_a_name_has_one_home() -> None:
    everything = defined_twice(modules())
    found = {name: homes for name, homes in everything.items() if name not in SHARED_NAMES}
    assert {name for name, homes in found.items() if {*map(layer, homes)} != {"experiments"}} == set()
    assert set(found) - PARTS_OF_EXPERIMENTS == set()
    assert {*SHARED_NAMES, *PARTS_OF_EXPERIMENTS} - set(defined_twice(modules())) == set(), (
        "of one home by now"
    )


def test_a_second_home_is_noticed(tmp_path: Path) -> None:
    for name, text in (("one", "Cell = 1\n_own = 2\n"), ("two", "class Cell: ...\n_own: int = 3\n")):
        (tmp_path / f"{name}.py").write_text(text)
    files = {name: tmp_path / f"{name}.py" for name in ("one", "two")}
    assert defined_twice(files) == {"Cell": ["one", "two"]}


@pytest.mark.parametrize("name", ["table1", "ablations", "families"])
def test_a_kept_evaluation_bears_the_code_of_its_file(name: str) -> None:
    """`measuring_code(evaluate...)`, with no list by hand that could miss a function."""
    tree = ast.parse((ROOT / "experiments" / f"{name}.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = [ast.unparse(call) for call in calls if ast.unparse(call.func) == "measuring_code"]
    assert found
    assert all(text.startswith("measuring_code(evaluate") for text in found), found


# Public names that the project itself never uses, each with its reason.
FOR_READERS = {
    "Embeds": "a protocol: what a class of others may offer",
    "Fits": "a protocol: what it may offer",
    "load_row": "to look at a pair in a shard",
    "declare_metric": "for a metric of an experiment of theirs (CONTRIBUTING.md)",
}


def unused(files: dict[str, Path], further: Iterable[Path] = ()) -> set[str]:
    """Public functions, classes and constants at the top of modules that no file mentions but to define."""
    defined: set[str] = set()
    mentioned: set[str] = set()
    for path in (*files.values(), *further):
        tree = ast.parse(path.read_text())
        for node in tree.body if path in files.values() else []:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Assign):
                defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
                mentioned.add(node.id)
            elif isinstance(node, ast.Attribute):
                mentioned.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                mentioned |= set(re.findall(r"\w+", node.value)) if len(node.value) < 60 else set()
    return {name for name in defined - mentioned if name[0] != "_"}


def test_nothing_is_there_for_its_tests_alone() -> None:
    further = sorted((ROOT / "docs").rglob("*.py"))
    assert unused(modules(), further) == set(FOR_READERS)


def test_what_nobody_uses_is_noticed(tmp_path: Path) -> None:
    one = tmp_path / "one.py"
    one.write_text("A = 1\nB = A\ndef used(): ...\ndef dead(): ...\nclass Dead: ...\nused()\n")
    assert unused({"one": one}) == {"B", "dead", "Dead"}


def test_no_pickle_of_user_files() -> None:
    for path in sorted((ROOT / "uwm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "torch.load",
                "pickle.load",
                "pickle.loads",
            ):
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords.get("weights_only") == "True", f"{path}:{node.lineno}"


def test_lock_file_names_versions_only() -> None:
    for name in ("requirements.lock", "requirements-robot.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                assert "==" in line, line
                assert "://" not in line
                assert " @ " not in line


def test_nothing_removes_a_folder_with_whatever_is_in_it() -> None:
    """`uwm.files` removes files that it is told to, one by one; temporary folders remove themselves."""
    for folder in ("uwm", "paper", "experiments"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert "rmtree" not in path.read_text(), path


def forks(source: str) -> list[str]:
    """Calls that start a process by a fork: of `multiprocessing` itself, or pools without a context."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name.endswith("ProcessPoolExecutor"):
            wrong = len(node.args) < 2 and all(keyword.arg != "mp_context" for keyword in node.keywords)
        elif name.endswith("get_context"):
            wrong = [ast.unparse(argument) for argument in node.args] != ["'spawn'"]
        else:
            wrong = name in ("os.fork", "multiprocessing.Process", "multiprocessing.Pool", "Process", "Pool")
        found += [name] * wrong
    return found


def test_command_lines_have_one_parser_and_declared_bounds() -> None:
    """A mistake is one line, and a number or path says what it may be: `uwm.arguments`, nothing by hand."""
    bare = re.compile(r"argparse\.ArgumentParser\(|type=(int|float|Path)\b")
    files = [path for folder in ("uwm", "paper", "experiments") for path in (ROOT / folder).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in files if bare.search(path.read_text())}
    assert found <= {"uwm/arguments.py"}


def test_every_command_has_help() -> None:
    """`python -m uwm.NAME --help`; what a launcher alone starts needs none."""
    commands = {
        name for name, path in modules().items() if '\nif __name__ == "__main__":\n' in path.read_text()
    }
    bare = {name for name in commands if "Parser(" not in modules()[name].read_text()}
    assert len(commands) > 15
    assert {name for name in bare if layer(name) != "experiments"} == {"uwm.runs.launch"}


def test_processes_are_spawned() -> None:
    """A fork of a process with running threads may wait for ever for a lock that one of them held."""
    found = {name: forks(path.read_text()) for name, path in modules().items()}
    assert {name: calls for name, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("ProcessPoolExecutor(2)", 1),
        ("futures.ProcessPoolExecutor()", 1),
        ("ProcessPoolExecutor(2, get_context('spawn'))", 0),
        ("ProcessPoolExecutor(mp_context=context)", 0),
        ("multiprocessing.Process(target=f)", 1),
        ("multiprocessing.get_context('fork')", 1),
        ("multiprocessing.get_context()", 1),
        ("os.fork()", 1),
    ],
)
def test_a_fork_is_noticed(source: str, count: int) -> None:
    assert len(forks(source)) == count


def test_the_long_test_files_are_there() -> None:
    """`tests/conftest.py` names them to start them first."""
    named = re.findall(r'"(tests/[^"]+\.py)"', (ROOT / "tests" / "conftest.py").read_text())
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
