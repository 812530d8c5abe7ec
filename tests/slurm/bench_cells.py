"""What 1,000 cells cost the submitter and the nodes: `make bench` runs it.

The submitter's in wall and CPU seconds of this process (Slurm's own commands are in the wall seconds alone),
the nodes' in processes started and their CPU seconds, packed or not.
"""

import time

import pytest

from tests.bench.tables import write_table

pytestmark = pytest.mark.slurm
CELLS = 1000
ALONE = 20  # of these, with a job each: enough to tell what one costs

# Starts what it is given, and notes the CPU seconds, of user and system.
TIMER = """exec 3>&2
TIMEFORMAT='%U %S'
{ time "$@" 2>&3; } 2>> SPENT
"""


def test_cells(project, monkeypatch):
    project.site.write_text('partition = "low"\nhours = 1\nmax_parallel = 1\n')
    # Jobs wait long in the queue, so that the cluster's own work does not count.
    settings = ("--set", f"seeds={CELLS}", "step_s=60")
    rows = []
    for name, arguments in {
        "--dry-run": ("--dry-run", "--site", str(project.site)),
        "--submit": ("--submit", "--site", str(project.site)),
        "--status": ("--status", "--json"),
        "--cancel": ("--cancel",),
    }.items():
        wall, cpu = time.perf_counter(), time.process_time()
        code, out, error = project.run(*arguments, *settings)
        spent = time.perf_counter() - wall, time.process_time() - cpu
        rows.append((name, *(f"{seconds:.1f}" for seconds in spent)))
        assert code == 0, error
        if name == "--status":
            assert out.count('"item"') == CELLS + 1
    with project.capsys.disabled():
        write_table("cells", f"{CELLS:,} cells", ("Command", "s", "s of CPU, without Slurm's"), rows)


def spent(project, cells, packed):
    """Processes that measured cells, and CPU seconds of a cell; the stage's process is left out."""
    timer, notes = project.root / "timer.sh", project.root / f"spent-{packed}"
    timer.write_text(TIMER.replace("SPENT", str(notes)))
    project.site.write_text(
        f'partition = "low"\nlauncher = "bash {timer}"\n[cells]\ncells_per_job = {packed}\n'
    )
    steps = 1 if packed > 1 else 2  # other ones, so that the stage has a process of its own again
    settings = ("--set", f"seeds={cells}", f"steps={steps}")
    project.submit(*settings)
    project.finish(*settings, timeout_s=1800)
    ends = time.monotonic() + 30  # a record is there a moment before its process has ended and was noted
    while len(notes.read_text().splitlines()) < 1 - (-cells // packed) and time.monotonic() < ends:
        time.sleep(0.1)
    seconds = [sum(map(float, line.split())) for line in notes.read_text().splitlines()]
    return len(seconds) - 1, (sum(seconds) - seconds[0]) / cells


def test_cells_packed_or_not(project):
    rows = []
    for cells, packed in ((CELLS, 100), (ALONE, 1)):
        processes, seconds = spent(project, cells, packed)
        assert processes == -(-cells // packed)
        count = f"{CELLS:,}" if cells == CELLS else f"{cells} of the {CELLS:,}"
        rows.append((count, str(packed), str(processes), f"{seconds:.3f}"))
    columns = ("Cells", "Cells a job", "Processes", "s of CPU a cell")
    with project.capsys.disabled():
        write_table("packed", "Cells of a toy experiment, packed and not", columns, rows)
