"""What happened to each item (a cell or a stage) of a run, as small append-only files in the run folder.

`state/<item>.jsonl` holds a line per start and end of an attempt, `jobs.jsonl` a line per submitted job,
`logs/<item>.rank<r>.txt` the traceback of a rank that failed. They are read by any process at any time.
"""

import json
import os
import socket
import time
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from uwm.files import appending, write_atomically
from uwm.runs.lock import machine_id, process_lives
from uwm.runs.record import file_stem


def append_lines(path: Path, contents: Iterable[Mapping[str, Any]]) -> None:
    """Append JSON lines (a single write, so that lines of several processes don't mix)."""
    text = "".join(json.dumps(content, allow_nan=False) + "\n" for content in contents)
    with appending(path) as file:
        file.write(text.encode())


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Append one JSON line, as `append_lines`."""
    append_lines(path, [content])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; none if it is missing; a line cut short is passed over."""
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            content = json.loads(line)
        except ValueError:
            continue
        if isinstance(content, dict):
            lines.append(content)
    return lines


@dataclass(frozen=True)
class Attempts:
    """The attempts at one item: how many began, and the last one's job, node and outcome (None: none yet)."""

    count: int = 0
    job: str | None = None
    node: str | None = None
    outcome: str | None = None
    error: str | None = None
    alive: bool | None = None  # None: it ran on another machine, so only Slurm can tell
    started: float | None = None  # the last one, in seconds since the epoch
    seconds: float = 0.0  # of all attempts together; those that ended without a word count up to the next one


def job_name() -> str | None:
    """This process's Slurm job, `12` or `12_3` in an array; None outside of one."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array else os.environ.get("SLURM_JOB_ID")


def node_name() -> str:
    """The node as Slurm calls it, else the host."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _state_path(work: Path, item: str) -> Path:
    return work / "state" / f"{file_stem(item)}.jsonl"


def note_start(work: Path, item: str, data: Mapping[str, Any]) -> None:
    """An attempt at `item` begins in this process. `data`: what it reads, `uwm.runs.data_notes`."""
    owner = {"pid": os.getpid(), "machine": machine_id(), "job": job_name(), "node": node_name()}
    append_line(_state_path(work, item), {"event": "start", "time": time.time(), **owner, "data": data})


def measured_on(work: Path, item: str) -> dict[str, Any]:
    """The `data` of the last attempt that ended well; nothing where none did, or it was not noted."""
    data: dict[str, Any] = {}
    begun: dict[str, Any] = {}
    for event in read_lines(_state_path(work, item)):
        if event.get("event") == "start":
            begun = event.get("data", {})
        elif event.get("outcome") == "ok":
            data = begun
    return data


def note_end(work: Path, item: str, outcome: str, error: str | None = None) -> None:
    """The attempt ended: `ok`, `failed`, `skipped`, `timeout` or `stopped` (to be continued)."""
    append_line(
        _state_path(work, item), {"event": "end", "time": time.time(), "outcome": outcome, "error": error}
    )


def read_attempts(work: Path, item: str) -> Attempts:
    """What the state file of `item` says."""
    events = [event for event in read_lines(_state_path(work, item)) if "event" in event]
    starts = [event for event in events if event["event"] == "start"]
    if not starts:
        return Attempts()
    last = starts[-1]
    ended = events[-1] if events[-1]["event"] == "end" else {}
    here = last["machine"] == machine_id() and last["job"] is None
    alive = (not ended and process_lives(last["pid"])) if here else None
    seconds = _seconds(events)
    outcome, error = ended.get("outcome"), ended.get("error")
    return Attempts(len(starts), last["job"], last["node"], outcome, error, alive, last["time"], seconds)


def _seconds(events: list[dict[str, Any]]) -> float:
    """Time from each start to the event after it; nothing for an attempt that has not ended yet."""
    pairs = pairwise(events)
    return float(sum(after["time"] - event["time"] for event, after in pairs if event["event"] == "start"))


def rank_log(work: Path, item: str, rank: int) -> Path:
    """Where a failed rank leaves its traceback."""
    return work / "logs" / f"{file_stem(item)}.rank{rank}.txt"


def write_traceback(work: Path, item: str, rank: int) -> None:
    """Write the exception being handled, headed by the time, so that the first rank to fail is known."""
    text = f"{time.time():.6f} {job_name() or 'local'} rank {rank} on {node_name()}\n{traceback.format_exc()}"
    write_atomically(rank_log(work, item, rank), text)


def clear_traceback(work: Path, item: str, rank: int) -> None:
    """Forget the traceback of this rank's earlier attempt."""
    rank_log(work, item, rank).unlink(missing_ok=True)


def root_cause(work: Path, item: str, job: "SubmittedJob | None" = None) -> tuple[Path, str] | None:
    """File and text of the traceback of the rank that failed first; of none from before `job`."""
    folder = work / "logs"
    texts = [(path.read_text(), path) for path in folder.glob(f"{file_stem(item)}.rank*.txt")]
    tracebacks = [(text, path) for text, path in texts if not (job and job.comes_after(*_heading(text)))]
    if not tracebacks:
        return None
    text, path = min(tracebacks, key=lambda pair: _heading(pair[0]))
    return path, text


def _heading(text: str) -> tuple[float, str]:
    """Time and job of a traceback."""
    time_s, job = text.split(" ", 2)[:2]
    return float(time_s), job


def last_line(text: str) -> str:
    """`Type: message` of a traceback: its last line that isn't indented."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(" ")]
    return lines[-1] if lines else ""


@dataclass(frozen=True)
class SubmittedJob:
    """One line of `jobs.jsonl`: which job works on an item."""

    item: str
    job: str
    folder: str  # submitit's folder, with the logs
    time: float
    gpus: int = 0  # of the job, on all its nodes

    @property
    def log(self) -> Path:
        """Standard output and error of rank 0."""
        return Path(self.folder) / f"{self.job}_0_log.out"

    def comes_after(self, time_s: float, job: str | None = None) -> bool:
        """True of what was left before this job was submitted, by another `job` or by none. Times of records
        are whole seconds, rounded down. What the job itself leaves is its own whatever its node's clock says.
        """
        return job != self.job and time_s < self.time - 1


def note_jobs(work: Path, jobs: Iterable[SubmittedJob]) -> None:
    """Append submitted jobs."""
    append_lines(work / "jobs.jsonl", map(vars, jobs))


def note_cancelled(work: Path, jobs: Iterable[str]) -> None:
    """Append jobs that this project cancelled: what they still do, for a moment, counts no longer."""
    append_lines(work / "cancelled.jsonl", ({"job": job, "time": time.time()} for job in jobs))


def cancelled_jobs(work: Path) -> set[str]:
    """Jobs that this project cancelled."""
    return {str(line["job"]) for line in read_lines(work / "cancelled.jsonl")}


def all_submitted(work: Path) -> set[str]:
    """Every job that was ever submitted for this run."""
    return {str(line["job"]) for line in read_lines(work / "jobs.jsonl")}


def submitted_jobs(work: Path) -> dict[str, SubmittedJob]:
    """The latest job of each item."""
    return {line["item"]: SubmittedJob(**line) for line in read_lines(work / "jobs.jsonl")}
