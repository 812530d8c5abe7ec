"""Time and memory that the records of each experiment took: the table of experiments/README.md."""

from paper.layout import EXPERIMENTS
from paper.names import experiment_label
from paper.quoted import SCALE
from paper.store import Results
from paper.table import Table

COSTS_NOTE = (
    "Each record tells the time of its cell and the most memory that its process has held. A cell's time "
    "includes the trainings that it was the first to need; released weights are not trained again. What a "
    "run took over from an earlier one, such as episodes of planning, is not in it: the sums are lower "
    "bounds. The machine was shared, and processors differ from run to run: expect other times, of the same "
    "order."
)


def costs(results: Results) -> Table:
    """A row per experiment and device with records of scale mini: how many, their times together, the largest
    memory."""
    present = {name for scale, name in results.cells if scale == SCALE}
    rows = []
    for name in (*(name for name in EXPERIMENTS if name in present), *sorted(present - {*EXPERIMENTS})):
        records = [cell.record for cell in results.cells[SCALE, name]]
        for device in sorted({record["env"]["device"] for record in records}):
            runs = [record["run"] for record in records if record["env"]["device"] == device]
            hours = sum(run["seconds"] for run in runs) / 3600
            memory = max(run["peak_gb"] for run in runs)
            where = "CPU" if device == "cpu" else device
            rows.append([experiment_label(name), where, str(len(runs)), f"{hours:.1f}", f"{memory:.1f}"])
    columns = ("", "Device", "Records", "Hours of one process", "Memory of a process, GB")
    return Table("costs", f"What the records of scale {SCALE} took", columns, rows, COSTS_NOTE)
