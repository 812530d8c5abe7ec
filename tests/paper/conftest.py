"""Fixtures around the toy records."""

import json
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for toy_records, which the test modules share

from toy_records import toy_community, toy_results

from paper.figures import main
from uwm.errors import run_cli


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """A results folder to read only."""
    return toy_results(tmp_path_factory.mktemp("toy") / "results")


@pytest.fixture(scope="session")
def drawn(toy, tmp_path_factory) -> Path:
    """A folder with `results` and what figures draws from them in `out`, to read only."""
    folder = tmp_path_factory.mktemp("drawn")
    shutil.copytree(toy, folder / "results")
    assert main(["--results", str(folder / "results"), "--out", str(folder / "out")]) == 0
    return folder


@pytest.fixture
def results(toy, tmp_path) -> Path:
    """A copy of it to change."""
    return Path(shutil.copytree(toy, tmp_path / "results"))


@pytest.fixture
def tree(tmp_path) -> Path:
    """A results folder with a record by others."""
    return toy_community(tmp_path / "results")


@pytest.fixture
def edit():
    """Change a record file in place: edit(path, lambda content: ...)."""

    def change(path: Path, how) -> None:
        content = json.loads(path.read_text())
        how(content)
        path.write_text(json.dumps(content, indent=1) + "\n")

    return change


@pytest.fixture
def run_command(capsys):
    """run_command(*arguments, main=...) -> exit code and standard error of a command, by default figures."""

    def call(*arguments: str, command=main) -> tuple[int, str]:
        capsys.readouterr()
        return run_cli(lambda: command(list(arguments))), capsys.readouterr().err

    return call
