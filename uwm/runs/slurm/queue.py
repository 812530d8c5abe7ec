"""What Slurm says about jobs. Every command has a time limit; one that does not answer in time gives None."""

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
    """Slurm's view of a job: its state, the reason for waiting, its nodes, its comment, how it ended."""

    state: str
    reason: str = ""
    nodes: str = ""
    comment: str = ""
    exit_code: str = ""  # `1:0`: code 1, no signal

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


def ask(*command: str, timeout_s: float = 5.0) -> str | None:
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
        raise UserError(
            "submitit is not installed; in the repository: pip install -e '.[slurm]', or pip install submitit"
        ) from error


def max_array_size() -> int | None:
    """Tasks that one array may have at this site."""
    for line in (ask("scontrol", "show", "config") or "").splitlines():
        key, _, value = line.partition("=")
        if key.strip() == "MaxArraySize":
            return max(1, int(value) - 1)
    return None


def queue() -> dict[str, QueueEntry] | None:
    """This user's queued and running jobs by id (`12`, `12_3`); None where squeue doesn't answer."""
    text = ask("squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format", "%i|%T|%r|%N|%k")
    if text is None:
        return None
    rows = (line.split("|", 4) for line in text.splitlines() if line.count("|") >= 4)
    entries = {row[0].strip(): QueueEntry(row[1], row[2], row[3].strip(), row[4].strip()) for row in rows}
    return {job: entry for job, entry in entries.items() if entry.live}


def finished(jobs: Iterable[str]) -> dict[str, QueueEntry]:
    """What accounting, or else the controller's memory, knows of jobs that left the queue."""
    main_ids = sorted({job.partition("_")[0] for job in jobs}, key=int)
    if not main_ids:
        return {}
    columns = "JobID,State,NodeList,ExitCode,Reason"
    text = ask("sacct", "-n", "-X", "-P", "-o", columns, "-j", ",".join(main_ids))
    if text:
        return dict(_accounting_entries(text))
    return {job: entry for main in main_ids[:20] for job, entry in _controller_entries(main)}


def gpu_hours(jobs: Iterable[str]) -> float | None:
    """GPU hours of some jobs so far, every attempt of them; None where accounting doesn't answer, or counts
    no GPU of theirs: without `AccountingStorageTRES=gres/gpu` it never does."""
    unique = set(jobs)
    if not unique:
        return None
    ids = ",".join(sorted({job.partition("_")[0] for job in unique}, key=int))
    columns = "JobID,ElapsedRaw,AllocTRES"
    # -D: a job that was requeued has a line for each attempt, else the last one alone.
    text = ask("sacct", "-n", "-X", "-P", "-D", "-o", columns, "-j", ids)
    by_line = [_gpu_hours(line, unique) for line in (text or "").splitlines()]
    counted = [hours for hours in by_line if hours is not None]
    return sum(counted) if counted else None


def _gpu_hours(line: str, jobs: set[str]) -> float | None:
    """Of a line such as `12_3|7200|billing=8,cpu=8,gres/gpu=8,gres/gpu:h100=8,node=1`."""
    job, seconds, resources = [*line.split("|"), "", ""][:3]
    gpus = dict(part.partition("=")[::2] for part in resources.split(",")).get("gres/gpu", "")
    if job not in jobs or not seconds.isdigit() or not gpus.isdigit():
        return None
    return int(seconds) * int(gpus) / 3600


def _accounting_entries(text: str) -> Iterator[tuple[str, QueueEntry]]:
    """Lines `12|COMPLETED|n1`, `12_3|FAILED|n2`, `12_[4-7%2]|CANCELLED by 0|None assigned`."""
    for line in text.splitlines():
        name, state, nodes, code, reason = [*line.split("|"), "", "", "", ""][:5]
        main, _, index = name.partition("_")
        nodes = "" if nodes == "None assigned" else nodes
        entry = QueueEntry(state.partition(" ")[0], reason, nodes, exit_code=code)
        if index.startswith("["):
            yield from ((f"{main}_{number}", entry) for number in _indices(index.strip("[]")))
        else:
            yield name, entry


def _controller_entries(job: str) -> Iterator[tuple[str, QueueEntry]]:
    for line in (ask("scontrol", "--oneliner", "show", "job", job) or "").splitlines():
        values = dict(part.split("=", 1) for part in line.split() if "=" in part)
        nodes = values.get("NodeList", "").replace("(null)", "")
        entry = QueueEntry(
            values.get("JobState", ""), values.get("Reason", ""), nodes, exit_code=values.get("ExitCode", "")
        )
        indices = _indices(values.get("ArrayTaskId", ""))
        for name in [f"{values['ArrayJobId']}_{index}" for index in indices] or [values.get("JobId", job)]:
            yield name, entry


def _indices(text: str) -> list[int]:
    """Tasks of an array that Slurm still keeps together: `0-2,5%4` -> 0, 1, 2, 5."""
    indices: list[int] = []
    for part in text.partition("%")[0].split(","):
        first, dash, last = part.partition("-")
        if first.isdigit():
            indices += range(int(first), int(last if dash else first) + 1)
    return indices
