"""What one job asks Slurm for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Options that the launcher itself sets: it could not find its jobs again, or resume them, with other values.
# Those with a key of the site file are named with it: plan, script, srun and GPU hours all read the key.
OWN_OPTIONS: Mapping[str, str] = {
    **dict.fromkeys((
        "comment", "dependency", "error", "job-name", "kill-on-invalid-dep", "no-requeue", "open-mode",
        "output", "parsable", "requeue", "test-only", "wait", "wrap",
    ), ""),
    **{key: key for key in ("account", "constraint", "exclude", "nodes", "partition", "qos", "wckey")},
    **dict.fromkeys(("gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task", "tres-per-task"),
                    "gpus_per_node"),
    **dict.fromkeys(("ntasks", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket"),
                    "tasks_per_node"),
    **dict.fromkeys(("cpus-per-gpu", "cpus-per-task"), "cpus_per_task"),
    "array": "max_parallel",
    "mem": "mem_gb",
    "signal": "signal_delay_s",
    "time": "hours",
}  # fmt: skip


def own_option(text: str) -> str | None:
    """The option in `OWN_OPTIONS` that `text` names, with dashes or underscores. As for sbatch, its first
    letters are enough."""
    written = text.replace("_", "-").lstrip("-")
    options = [option for option in OWN_OPTIONS if option.startswith(written)]
    return written if written in options else min(options, default=None)


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
        """GPUs on each node: those of `gpus_per_node`, else of `gres` in the table sbatch."""
        return gpu_count(self.gpus_per_node or self.gpus_of_gres or 0)

    @property
    def gpus_of_gres(self) -> str:
        """Those of `gres` in the table sbatch: `gpu:h100:8` -> `h100:8`; other resources are left out."""
        parts = str(self.sbatch.get("gres") or "").split(",")
        return ",".join(part.partition(":")[2] or "1" for part in parts if re.match("gpu(:|$)", part))

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
