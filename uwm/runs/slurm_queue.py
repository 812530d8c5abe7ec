"""What Slurm says about jobs. Every question has a time limit; a question without an answer gives nothing."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from uwm.errors import UserError

WAITING = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_HOLD",
    "REQUEUE_FED",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "STAGE_OUT", "SIGNALING", "RESIZING"}


@dataclass(frozen=True)
class QueueEntry:
    """Slurm's view of a job: its state, the reason for waiting, its nodes."""

    state: str
    reason: str = ""
    nodes: str = ""

    @property
    def live(self) -> bool:
        """It runs, or will."""
        return self.state in WAITING | RUNNING


@contextmanager
def outside_of_jobs() -> Iterator[None]:
    """Hide the variables of the job that this process is part of: `sbatch` would take them for options."""
    hidden = {
        key: os.environ.pop(key)
        for key in list(os.environ)
        if key.startswith(("SLURM_", "SLURMD_", "SUBMITIT_", "SBATCH_")) and key != "SLURM_CONF"
    }
    try:
        yield
    finally:
        os.environ.update(hidden)


def ask(*command: str, timeout_s: float = 10.0) -> str | None:
    """Output of a Slurm command; None where it is missing, fails or doesn't answer in time."""
    try:
        with outside_of_jobs():
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def require_slurm() -> None:
    """Raises UserError where Slurm's commands or submitit are missing."""
    for command in ("sbatch", "srun"):
        if shutil.which(command) is None:
            raise UserError(f"no {command} on this machine: log in to the cluster, or leave out --submit")
    try:
        import submitit  # noqa: F401
    except ImportError as error:
        raise UserError("submitit is not installed: pip install 'uwm[slurm]'") from error


def max_array_size() -> int | None:
    """Tasks that one array may have at this site."""
    for line in (ask("scontrol", "show", "config") or "").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize":
            return max(1, int(value) - 1)
    return None


def queue() -> dict[str, QueueEntry] | None:
    """This user's queued and running jobs by id (`12`, `12_3`); None where squeue doesn't answer."""
    text = ask("squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i|%T|%r|%N")
    if text is None:
        return None
    rows = (line.split("|", 3) for line in text.splitlines() if line.count("|") >= 3)
    entries = {row[0].strip(): QueueEntry(row[1], row[2], row[3].strip()) for row in rows}
    return {job: entry for job, entry in entries.items() if entry.live}


def finished(jobs: Iterable[str]) -> dict[str, QueueEntry]:
    """What accounting, or else the controller's memory, knows of jobs that left the queue."""
    main_ids = sorted({job.partition("_")[0] for job in jobs}, key=int)
    if not main_ids:
        return {}
    text = ask("sacct", "-n", "-X", "-P", "-o", "JobID,State,NodeList", "-j", ",".join(main_ids))
    if text:
        rows = (line.split("|") for line in text.splitlines())
        return {row[0]: QueueEntry(row[1].split(" ")[0], "", row[2]) for row in rows if len(row) == 3}
    return {job: entry for main in main_ids[:20] for job, entry in _controller_entries(main)}


def _controller_entries(job: str) -> Iterator[tuple[str, QueueEntry]]:
    for line in (ask("scontrol", "--oneliner", "show", "job", job) or "").splitlines():
        values = dict(part.split("=", 1) for part in line.split() if "=" in part)
        array, index = values.get("ArrayJobId"), values.get("ArrayTaskId")
        name = f"{array}_{index}" if array and index else values.get("JobId", job)
        yield (
            name,
            QueueEntry(values.get("JobState", ""), values.get("Reason", ""), values.get("NodeList", "")),
        )
