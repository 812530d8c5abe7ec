"""What 1,000 cells cost the submitter, in wall and CPU seconds of this process: `make bench` runs it.

The time in Slurm's own commands is in the wall seconds alone.
"""

import time

import pytest

pytestmark = pytest.mark.slurm
CELLS = 1000


def test_cells(project, monkeypatch):
    project.site.write_text('partition = "low"\nhours = 1\nmax_parallel = 1\n')
    # Jobs wait long in the queue, so that the cluster's own work does not count.
    settings = ("--set", f"seeds={CELLS}", "step_s=60")
    lines = []
    for name, arguments in {
        "--dry-run": ("--dry-run", "--site", str(project.site)),
        "--submit": ("--submit", "--site", str(project.site)),
        "--status": ("--status", "--json"),
        "--cancel": ("--cancel",),
    }.items():
        wall, cpu = time.perf_counter(), time.process_time()
        code, out, error = project.run(*arguments, *settings)
        lines.append(
            f"{name:10} {time.perf_counter() - wall:6.1f} s, {time.process_time() - cpu:6.1f} s of CPU time"
        )
        assert code == 0, error
        if name == "--status":
            assert out.count('"item"') == CELLS + 1
    with project.capsys.disabled():
        print(f"\n{CELLS} cells", *lines, sep="\n")
