"""A project of its own for each test: `project.run(*arguments)` is the experiment's command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment

ROOT = Path(__file__).resolve().parents[2]


class Project:
    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        self.file = root / "experiments" / "toy.py"
        self.file.parent.mkdir()
        shutil.copyfile(Path(__file__).with_name("toy_experiment.py"), self.file)
        self.results = root / "results" / "mini" / "toy"

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and error, in this process."""
        self.capsys.readouterr()
        code = main(load_experiment(self.file), arguments)
        return code, *self.capsys.readouterr()

    def start(self, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
        """The command line in a process of its own."""
        command = [sys.executable, str(self.file), *arguments]
        variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        return subprocess.Popen(
            command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def record(self, name: str, folder: Path | None = None) -> dict[str, Any]:
        return dict(json.loads(((folder or self.results) / f"{name}.json").read_text()))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Project:
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    for name in ("UWM_RUNS", "UWM_SITE", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return Project(tmp_path, capsys)
