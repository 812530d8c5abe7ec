"""A digest of the code that measures. A cached evaluation bears it: a changed measure is measured again."""

import ast
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import uwm
from uwm.runs.record import digest_of

MEASURING = ("baselines", "data", "evaluation", "methods", "metrics", "models", "stages", "training")
"""Packages of `uwm` whose code changes what is measured; `runs` only says where and when."""


def measuring_code(function: Callable[..., Any], packages: Sequence[str] = MEASURING) -> str:
    """A digest of packages of `uwm`, and of what `function` uses of the experiment's own file."""
    root = Path(uwm.__file__).parent
    files = (path for package in packages for path in sorted((root / package).rglob("*.py")))
    return digest_of([*(path.read_text(encoding="utf-8") for path in files), *used_of_own_file(function)])


def used_of_own_file(function: Callable[..., Any]) -> list[str]:
    """The code of `function` and of all functions, classes and constants at the top of its file that it uses,
    itself or through each other, as it stands there: the same for every Python."""
    function = inspect.unwrap(function)
    text = Path(inspect.getfile(function)).read_text(encoding="utf-8")
    defined: dict[str, list[ast.stmt]] = {}
    for node in ast.parse(text).body:
        for name in _names_given(node):
            defined.setdefault(name, []).append(node)
    used, nodes = [function.__name__], dict[str, list[ast.stmt]]()
    while used:
        name = used.pop()
        if name in defined and name not in nodes:
            nodes[name] = defined[name]
            used += [other for node in nodes[name] for other in _names_read(node)]
    lines = text.splitlines()
    return ["\n".join(_lines(node, lines)) for name in sorted(nodes) for node in nodes[name]]


def _lines(node: ast.stmt, lines: list[str]) -> list[str]:
    """A statement with its decorators."""
    decorators = getattr(node, "decorator_list", [])
    return lines[min(part.lineno for part in (node, *decorators)) - 1 : node.end_lineno]


def _names_given(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a file defines; none for an import."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    inner = (part for target in targets if target is not None for part in ast.walk(target))
    return [part.id for part in inner if isinstance(part, ast.Name)]


def _names_read(node: ast.AST) -> Iterator[str]:
    """All names in some code but for those of types, which change no number."""
    if isinstance(node, ast.Name):
        yield node.id
    for field, value in ast.iter_fields(node):
        if field not in ("annotation", "returns"):
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, ast.AST):
                    yield from _names_read(part)
