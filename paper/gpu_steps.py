"""What a training step takes on the GPUs that were measured: the table of slurm/README.md."""

from typing import Any

from paper.reading import read_json
from paper.store import Results
from paper.table import Table
from uwm.errors import UserError

STEP_NOTE = (
    "`python -m uwm.bench`, records in `results/bench`: the training loop's own step on one random batch in "
    "memory, median of the steps that count. MFU: of the data sheet's peak of dense products in that "
    "precision. One process exchanges with itself: NCCL has run, over no link."
)
STEP_COLUMNS = ("", "GPU", "GPUs", "Batch", "ms a step", "Pairs/s", "TFLOP/s", "MFU, %", "Memory, GB", "NCCL")


def gpu_steps(results: Results) -> Table:
    """A row per record of `results/bench`. UserError for a file that is no such record."""
    rows = []
    for path in sorted((results.root / "bench").glob("*.json")):
        try:
            rows.append(_row(read_json(path)))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: no record of python -m uwm.bench ({error!r}); remove it") from error
    return Table("gpu", "A step of the pre-training", STEP_COLUMNS, rows, STEP_NOTE)


def _row(record: dict[str, Any]) -> list[str]:
    env = record["env"]
    return [
        f"{record['scale']}, {record['precision']}{', compiled' if env.get('compiled') else ''}",
        env["device"],
        str(record["processes"]),
        str(record["batch_size"]),
        f"{record['milliseconds_per_step']:.0f}",
        f"{record['pairs_per_second']:,.0f}",
        f"{record['tflops_per_process']:.0f}",
        "–" if record["mfu"] is None else f"{100 * record['mfu']:.0f}",
        f"{record['peak_memory_gb']:.1f}",
        record["nccl"],
    ]
