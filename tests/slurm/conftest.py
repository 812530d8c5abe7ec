"""A throwaway Slurm cluster on this machine: two nodes with fake GPUs, preemption, no accounting.

Each daemon runs in the foreground as a child of the test process. Without the daemons' binaries (Debian:
slurmctld slurmd slurm-client munge) or without root the tests are skipped, or fail with UWM_REQUIRE_SLURM=1.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.cluster import SYSTEM, Cluster, free_ports, missing
from uwm.runs import report
from uwm.runs.cli import main
from uwm.runs.experiment import load_experiment


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running cluster; `SLURM_CONF` points to it."""
    reason = missing()
    if reason:
        if os.environ.get("UWM_REQUIRE_SLURM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    os.environ["PATH"] += SYSTEM
    base = Path(tempfile.mkdtemp(prefix="uwm-slurm-"))
    base.chmod(0o755)  # munged refuses a socket in a private folder
    old_conf = os.environ.get("SLURM_CONF")
    running = Cluster(base, free_ports(3))
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(base, ignore_errors=True)
        if old_conf is None:
            os.environ.pop("SLURM_CONF", None)
        else:
            os.environ["SLURM_CONF"] = old_conf


class Project:
    """A folder with an experiment file, its cache and its runs; `run` is the experiment's command line."""

    def __init__(
        self, root: Path, source: Path, cluster: Cluster, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.root, self.cluster, self.capsys = root, cluster, capsys
        self.file = root / "experiments" / "toy.py"
        self.file.parent.mkdir()
        shutil.copyfile(source, self.file)
        self.site = root / "site.toml"
        self.site.write_text('partition = "low"\nhours = 1\n')

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and error of a command line, in this process."""
        self.capsys.readouterr()
        code = main(load_experiment(self.file), arguments)
        return code, *self.capsys.readouterr()

    def submit(self, *settings: str) -> None:
        code, _, error = self.run("--submit", "--site", str(self.site), *settings)
        assert code == 0, error

    def states(self, *settings: str) -> dict[str, str]:
        return {row["item"]: row["state"] for row in self.rows(*settings)}

    def rows(self, *settings: str) -> list[dict[str, Any]]:
        return list(json.loads(self.run("--status", "--json", *settings)[1]))

    def finish(self, *settings: str, timeout_s: float = 180) -> None:
        """Wait for the jobs, then collect; every cell must be there."""
        self.cluster.wait_until_empty(timeout_s)
        code, _, error = self.run("--collect", *settings)
        logs = "".join(path.read_text()[-3000:] for path in self.root.rglob("*_log.out")) if code else ""
        assert code == 0, error + logs

    def steps(self) -> list[int]:
        """Numbers of the steps that the stage took, in order, over all attempts."""
        logs = [*self.root.rglob("steps.log")]
        return [int(line) for line in logs[0].read_text().split()] if logs else []

    def records(self, folder: Path | None = None) -> dict[str, dict[str, Any]]:
        """Records by file name, without what differs from run to run."""
        found = {}
        for path in (folder or self.root).rglob("*__*.json"):
            if "runs" not in path.relative_to(self.root).parts[:1] or folder:
                found[path.name] = {**json.loads(path.read_text()), "run": None}
        return found


@pytest.fixture
def project(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Project]:
    """A project with the toy experiment on the running cluster."""
    monkeypatch.setenv("UWM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("UWM_RUNS", raising=False)
    monkeypatch.delenv("UWM_SITE", raising=False)
    monkeypatch.setitem(report.follow.__kwdefaults__, "every_s", 0.5)
    yield Project(tmp_path, Path(__file__).with_name("toy.py"), cluster, capsys)
    cluster.call("scancel", "--user=root")
    cluster.wait_until_empty()
