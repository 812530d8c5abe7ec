"""Slurm's commands as small scripts that note what they are asked, for tests without daemons."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

SBATCH = """#!{python}
import pathlib, re, sys
folder = pathlib.Path({folder!r})
if "--test-only" in sys.argv:
    with open(folder / "asked", "a") as asked:
        asked.write("x")
    answer = folder / "answer"
    sys.exit(answer.read_text() if answer.exists() else 0)
script = pathlib.Path(sys.argv[-1]).read_text()
tasks = re.search(r"--array=0-(\\d+)", script)
count = int(tasks[1]) + 1 if tasks else 1
queue = folder / "queue"
waiting = queue.read_text().splitlines() if queue.exists() else []
limit = folder / "limit"
if limit.exists() and len(waiting) + count > int(limit.read_text()):
    sys.exit("sbatch: error: QOSMaxSubmitJobPerUserLimit\\nsbatch: error: Batch job submission failed: Job "
             "violates accounting/QOS policy (job submit limit, user's size and/or time limits)")
number = len(list(folder.glob("*.sbatch"))) + 1
(folder / f"{{number}}.sbatch").write_text(script)
(folder / f"{{number}}.options").write_text("\\n".join(sys.argv[1:-1]))
comment = re.search(r"--comment='?([^'\\n]*)", script)[1]
ids = [f"{{number}}_{{i}}" for i in range(count)] if tasks else [str(number)]
mine = [f"{{i}}|PENDING|Priority||{{comment}}" for i in ids]
queue.write_text("".join(f"{{line}}\\n" for line in [*waiting, *mine]))
print(number)
"""

SCANCEL = """#!{python}
import pathlib, sys
queue = pathlib.Path({folder!r}) / "queue"
gone = [line for line in queue.read_text().splitlines() if line.split("|")[0].split("_")[0] in sys.argv[1:]]
queue.write_text("".join(f"{{line}}\\n" for line in queue.read_text().splitlines() if line not in gone))
"""

SITE = 'partition = "gpu"\nhours = 2\n'


class FakeSlurm:
    """`scripts` are the batch scripts sent so far, `options` what else sbatch was given, in their order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.program("sbatch", SBATCH)
        self.program("scancel", SCANCEL)
        self.program("squeue", "#!/bin/sh\ncat {folder}/queue 2>/dev/null || true\n")
        for name in ("srun", "scontrol", "sacct"):
            self.program(name, "#!/bin/sh\nexit 1\n")

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text.format(python=sys.executable, folder=str(self.folder)))
        path.chmod(0o755)

    @property
    def scripts(self) -> list[str]:
        paths = sorted(self.folder.glob("*.sbatch"), key=lambda path: int(path.stem))
        return [path.read_text() for path in paths]

    @property
    def options(self) -> list[list[str]]:
        paths = sorted(self.folder.glob("*.options"), key=lambda path: int(path.stem))
        return [path.read_text().split("\n") for path in paths]

    def limit(self, jobs: int) -> None:
        """From now on the site takes only that many jobs at a time."""
        (self.folder / "limit").write_text(str(jobs))

    def finish(self) -> None:
        """All jobs leave the queue."""
        (self.folder / "queue").write_text("")


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    made = FakeSlurm(tmp_path / "fake-slurm")
    monkeypatch.setenv("PATH", f"{made.folder}:{os.environ['PATH']}")
    return made


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site file that holds `SITE`."""
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return path


def items(project: Any) -> list[str]:
    """What a project's only run has sent so far, in its order."""
    (path,) = project.root.rglob("jobs.jsonl")
    return [json.loads(line)["item"] for line in path.read_text().splitlines()]


def rows(project: Any) -> list[dict[str, Any]]:
    """What `--status` says of each item."""
    return list(json.loads(project.run("--status", "--json")[1]))
