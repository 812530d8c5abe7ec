"""What one job asks Slurm for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Options that the launcher itself sets: it could not find its jobs again, or resume them, with other values.
OWN_OPTIONS = (
    "array", "comment", "dependency", "error", "job-name", "kill-on-invalid-dep", "no-requeue", "open-mode",
    "output", "parsable", "requeue", "signal", "test-only", "wait", "wrap",
)  # fmt: skip


@dataclass(frozen=True)
class Resources:
    """What one job asks for. Empty text means that the option is not passed at all."""

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    exclude: str = ""
    nodes: int = 1
    gpus_per_node: int | str = 0  # 8, or with a type: "h100:8"
    tasks_per_node: int = 0  # processes per node; 0: one per GPU, or one without GPUs
    cpus_per_task: int = 1
    mem_gb: float = 0.0  # per node; 0: the partition's default
    hours: float = 1.0  # limit of one attempt; a job that reaches it goes on in the next attempt
    cells_per_job: int = 1  # cells that one job measures, one after the other
    srun_args: tuple[str, ...] = ()  # further arguments of srun
    sbatch: Mapping[str, Any] = field(default_factory=dict)  # options of sbatch; true: without value

    @property
    def gpus(self) -> int:
        """GPUs on each node: those of `gpus_per_node`, else of the table sbatch."""
        asked = (
            self.gpus_per_node or self.sbatch.get("gpus-per-node") or _gpus_of_gres(self.sbatch.get("gres"))
        )
        return gpu_count(asked or 0)

    @property
    def processes_per_node(self) -> int:
        """Processes (ranks) on each node."""
        return self.tasks_per_node or max(1, self.gpus)

    @property
    def gpu_hours(self) -> float:
        """GPU hours of one attempt that uses all its time."""
        return self.nodes * self.gpus * self.hours


def gpu_count(text: int | str) -> int:
    """`8` and `"h100:8"` -> 8, `"h100"` -> 1, `"h100:4,a100:2"` -> 6.

    Raises:
        ValueError: the text names no number of GPUs.
    """
    if isinstance(text, int):
        return text
    parts = [re.fullmatch(r"(?:[\w.-]*[A-Za-z_][\w.-]*)?(?::?(\d+))?", part) for part in text.split(",")]
    if not all(part and part[0] for part in parts):
        raise ValueError(f"{text!r} is no number of GPUs; write 8 or 'h100:8'")
    return sum(int(part[1]) if part[1] else 1 for part in parts if part)


def _gpus_of_gres(text: Any) -> str:
    """`gpu:h100:8` -> `h100:8`; other resources are left out."""
    found = [
        part.partition(":")[2] or "1" for part in str(text or "").split(",") if re.match("gpu(:|$)", part)
    ]
    return ",".join(found)
