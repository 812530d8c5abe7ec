"""The house's rules: who may import whom, and what the project must not hold."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def offenders(folder: str, *forbidden: str, allowed: tuple[str, ...] = ()) -> Iterator[str]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name in imports(path):
            bad = any(name == f or name.startswith(f"{f}.") for f in forbidden)
            fine = any(name == a or name.startswith(f"{a}.") for a in allowed)
            if bad and not fine:
                yield f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("uwm/models", ("uwm.data", "uwm.runs", "uwm.metrics", "uwm.training", "experiments", "paper")),
        ("uwm/metrics", ("uwm.models", "uwm.data", "uwm.runs", "uwm.training", "experiments", "paper")),
        ("uwm/data", ("uwm.runs", "uwm.models", "uwm.training", "experiments", "paper")),
        ("uwm/training", ("uwm.runs", "experiments", "paper")),
        ("uwm/runs", ("uwm.models", "uwm.data", "experiments", "paper")),
        ("experiments", ("experiments", "paper")),
        ("paper", ("torch", "timm", "uwm.models", "uwm.data", "uwm.training", "experiments")),
    ],
)
def test_import_rules(folder: str, forbidden: tuple[str, ...]) -> None:
    assert not list(offenders(folder, *forbidden))


def test_only_runs_knows_slurm() -> None:
    for folder in ("uwm/models", "uwm/metrics", "uwm/data", "uwm/training", "experiments", "paper"):
        assert not list(offenders(folder, "submitit"))


def test_the_package_itself_imports_nothing() -> None:
    assert not imports(ROOT / "uwm" / "__init__.py")


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
