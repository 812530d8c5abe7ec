"""Rules for code that no linter knows: what it must not call, and what every command has."""

import ast
import re

import pytest

from tests.modules import ROOT, modules, within


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


@pytest.mark.parametrize(
    ("name", "call"),
    [
        *((name, "measuring_code(evaluate") for name in ("table1", "ablations", "families")),
        ("planning", "measuring_code(make_policy, packages=PLAYS)"),
    ],
)
def test_what_is_kept_of_measuring_bears_the_code_of_its_file(name: str, call: str) -> None:
    """`measuring_code(evaluate...)`, with no list by hand that could miss a function."""
    tree = ast.parse((ROOT / "experiments" / f"{name}.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = [ast.unparse(call) for call in calls if ast.unparse(call.func) == "measuring_code"]
    assert found
    assert all(text.startswith(call) for text in found), found
    if "PLAYS" in call:
        [plays] = [ast.unparse(node.value) for node in tree.body if ast.unparse(node).startswith("PLAYS = ")]
        assert plays == "(*MEASURING, 'planning')"  # what evaluations depend on, and the planners


def test_no_file_is_named_by_its_process() -> None:
    """What is written whole is written by `uwm.files.replacing`, which leaves nothing on an error."""
    named = set()
    for path in sorted((ROOT / "uwm").rglob("*.py")):
        texts = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.JoinedStr)]
        if any("getpid()" in ast.unparse(text) for text in texts):
            named.add(path.relative_to(ROOT).as_posix())
    assert named == {"uwm/runs/launch.py"}  # an empty file that shows whether a folder can be written


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
    assert {name for name in bare if not within(name, "experiments")} == {"uwm.runs.launch"}


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


def test_the_projects_variables_are_read_in_one_place() -> None:
    """`uwm/env.py`, whose table names each of them."""
    text = (ROOT / "uwm" / "env.py").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(UWM_\w+)`", text, re.M)) == set(re.findall(r'"(UWM_\w+)"', text))
    elsewhere = [path for folder in ("uwm", "experiments", "paper") for path in (ROOT / folder).rglob("*.py")]
    elsewhere.remove(ROOT / "uwm" / "env.py")
    for path in elsewhere:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call | ast.Subscript) and "environ" in ast.unparse(node):
                assert "UWM_" not in ast.unparse(node), f"{path}: {ast.unparse(node)}"
