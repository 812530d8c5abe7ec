"""Public names: each has one home, and none is there for its tests alone."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

from tests.modules import ROOT, modules, within


def test_every_noun_of_the_paper_is_a_name() -> None:
    import uwm.models as models

    for name in ("MaskedAutoencoder", "ActionExtractor", "VectorQuantizer", "Dynamics", "WorldModel"):
        assert hasattr(models, name)


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
    assert {
        name for name, homes in found.items() if not all(within(home, "experiments") for home in homes)
    } == set()
    assert set(found) - PARTS_OF_EXPERIMENTS == set()
    assert {*SHARED_NAMES, *PARTS_OF_EXPERIMENTS} - set(defined_twice(modules())) == set(), (
        "of one home by now"
    )


def test_a_second_home_is_noticed(tmp_path: Path) -> None:
    for name, text in (("one", "Cell = 1\n_own = 2\n"), ("two", "class Cell: ...\n_own: int = 3\n")):
        (tmp_path / f"{name}.py").write_text(text)
    files = {name: tmp_path / f"{name}.py" for name in ("one", "two")}
    assert defined_twice(files) == {"Cell": ["one", "two"]}


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
