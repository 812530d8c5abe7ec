"""What became of each stage and cell of a run. Works from any shell, later, and never blocks.

Sources in this order: our own records and artifacts, the queue, the traces that the attempts left in the run
folder, submitit's result files, accounting or the controller's memory.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from uwm.runs import state
from uwm.runs.listing import STAGE, Listing
from uwm.runs.progress import bar_progress, training_progress
from uwm.runs.slurm import queue as slurm_queue

Queue = Mapping[str, slurm_queue.QueueEntry] | None  # None: squeue doesn't answer
Submitted = Mapping[str, state.SubmittedJob]
UNFINISHED = ("pending", "running", "unknown")  # states that may still change by themselves


@dataclass(frozen=True)
class Row:
    """A cell or stage: done, skipped, failed, timeout; pending, running; cancelled, lost (no job left);
    missing (never sent); unknown (Slurm doesn't answer)."""

    item: str
    state: str
    attempts: int = 0
    job: str | None = None
    node: str | None = None
    log: str | None = None
    error: str | None = None
    elapsed_s: float | None = None  # of the running attempt
    gpu_hours: float | None = None  # of all attempts, by their own notes
    progress: str | None = None
    exit_code: str | None = None


def rows(listing: Listing) -> list[Row]:
    """The state of each cell, and of each stage behind them that has had a job."""
    work = listing.folder
    submitted = state.submitted_jobs(work)
    cancelled = state.cancelled_jobs(work)
    queue = slurm_queue.queue() if submitted else {}
    if queue:  # a cancelled job may be shown for a while as it ends
        queue = {job: entry for job, entry in queue.items() if job not in cancelled}
    stages = dict.fromkeys([*(STAGE + name for name in listing.stages), *submitted])
    items = [item for item in stages if item.startswith(STAGE) and _known(listing, item, submitted)]
    listed = [_row(listing, item, submitted.get(item), queue) for item in [*items, *listing.cells]]
    unclear = {row.job for row in listed if row.state in ("lost", "failed", "timeout") and row.job}
    known = slurm_queue.finished(job for job in unclear if job)
    return [_beside_a_record(listing, _explained(row, known, cancelled)) for row in listed]


def _known(listing: Listing, item: str, submitted: Submitted) -> bool:
    had_a_job = item in submitted or state.read_attempts(listing.folder, item).count > 0
    return had_a_job and listing.stands_behind(item.removeprefix(STAGE))


def _row(listing: Listing, item: str, job: state.SubmittedJob | None, queue: Queue) -> Row:
    attempts = state.read_attempts(listing.folder, item)
    if job and attempts.started is not None and job.comes_after(attempts.started, attempts.job):
        attempts = replace(attempts, outcome=None, error=None, node=None, started=None)
    entry = queue.get(job.job) if job and queue else None
    about = _about(listing, item, job, attempts, entry)
    result, error = _result(listing, item, job, attempts)
    if result == "done":
        return Row(item, "done", **about)
    if entry:
        waits = entry.state in slurm_queue.WAITING
        return Row(item, "pending" if waits else "running", error=entry.reason if waits else None, **about)
    if result:
        return Row(item, result, error=error, **about)
    if queue is None and job and attempts.outcome in (None, "stopped"):  # earlier traces say nothing
        return Row(item, "unknown", error="squeue doesn't answer", **about)
    return _row_without_result(listing.folder, item, job, attempts, about)


def _about(
    listing: Listing,
    item: str,
    job: state.SubmittedJob | None,
    attempts: state.Attempts,
    entry: slurm_queue.QueueEntry | None,
) -> dict[str, Any]:
    started = attempts.started if attempts.outcome is None else None
    runs = (entry.state in slurm_queue.RUNNING if entry else attempts.alive) and started
    elapsed = time.time() - started if runs and started else None
    hours = job.gpus * (attempts.seconds + (elapsed or 0)) / 3600 if job and job.gpus else None
    return {
        "attempts": attempts.count,
        "job": job.job if job else None,
        "node": (entry.nodes if entry else "") or attempts.node,
        "log": str(job.log) if job else None,
        "elapsed_s": elapsed and round(elapsed, 1),
        "gpu_hours": None if hours is None else round(hours, 3),
        "progress": _progress(listing, item, job) if runs else None,
    }


def _progress(listing: Listing, item: str, job: state.SubmittedJob | None) -> str | None:
    name = listing.stages.get(item.removeprefix(STAGE)) if item.startswith(STAGE) else None
    progress = training_progress(Path(listing.cache) / f"{name}.partial") if name else None
    if progress:
        return str(progress)
    return bar_progress(job.log) if job else None


def _result(
    listing: Listing, item: str, job: state.SubmittedJob | None, attempts: state.Attempts
) -> tuple[str | None, str | None]:
    """`done`, or the status of a record that is not ok with its error; None where there is neither, or where
    the record is older than the item's job: `--rerun` asked for another one."""
    if item.startswith(STAGE):
        return ("done" if listing.artifact(item.removeprefix(STAGE)) else None), None
    record = listing.record(item) or {}
    if job and record and not _is_ours(record, job, attempts):
        return None, None
    status = record.get("status")
    return ("done" if status == "ok" else status), record.get("error")


def _is_ours(record: Mapping[str, Any], job: state.SubmittedJob, attempts: state.Attempts) -> bool:
    """True for a record that began after the job was sent, or where the job's notes say that it measured."""
    measured = attempts.job == job.job and attempts.outcome == "ok"  # whatever its node's clock says
    return measured or not job.comes_after(_seconds_utc(record["run"]["started_utc"]))


def _seconds_utc(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def _row_without_result(
    work: Path, item: str, job: state.SubmittedJob | None, attempts: state.Attempts, about: dict[str, Any]
) -> Row:
    cause = state.root_cause(work, item, job)
    if cause:
        return Row(item, "failed", error=state.last_line(cause[1]), **(about | {"log": str(cause[0])}))
    if attempts.outcome == "timeout":
        return Row(item, "timeout", error=attempts.error, **about)
    if attempts.outcome == "skipped":  # of a cell where an older record with a number was kept
        return Row(item, "skipped", **about)
    if attempts.outcome == "ok" and item.startswith(STAGE):
        return Row(item, "done", **about)
    if attempts.alive:
        return Row(item, "running", **about)
    if job is None:
        return Row(item, "lost" if attempts.count else "missing", **about)
    failure = submitit_failure(job)
    if failure:
        return Row(item, "failed", error=state.last_line(failure), **about)
    return Row(item, "lost", **about)


def submitit_failure(job: state.SubmittedJob) -> str | None:
    """The traceback in submitit's result files: of the first rank (by time) that ended with an error."""
    paths = sorted(Path(job.folder).glob(f"{job.job}_*_result.pkl"), key=lambda path: path.stat().st_mtime)
    if not paths:
        return None
    from submitit.core.utils import pickle_load

    for path in paths:
        outcome, value = pickle_load(path)
        if outcome == "error":
            return str(value)
    return None


def _explained(row: Row, known: Mapping[str, slurm_queue.QueueEntry], cancelled: set[str]) -> Row:
    """What Slurm knows of a job that has left the queue; one that was cancelled is not lost."""
    entry = known.get(row.job or "")
    if row.state == "lost" and row.job in cancelled:
        return Row(**(asdict(row) | {"state": "cancelled", "error": "by --cancel"}))
    if entry is None or row.state not in ("lost", "failed", "timeout"):
        return row
    changed = {"node": entry.nodes or row.node, "exit_code": entry.exit_code or None}
    if row.state == "lost":
        stopped = entry.state == "CANCELLED"
        changed |= {"state": "cancelled" if stopped else "lost", "error": _reason(entry)}
    return Row(**(asdict(row) | changed))


def _beside_a_record(listing: Listing, row: Row) -> Row:
    """Says so where a cell whose job came to nothing has a number from before it."""
    nothing = row.state in ("failed", "timeout", "lost", "cancelled") and not row.item.startswith(STAGE)
    if not nothing or (listing.record(row.item) or {}).get("status") != "ok":
        return row
    return replace(row, error=f"{row.error or row.state}; its record is older than this job")


def _reason(entry: slurm_queue.QueueEntry) -> str:
    if entry.state == "CANCELLED" and entry.reason.startswith("Dependency"):
        return "a job that it waited for failed"
    if entry.state == "CANCELLED":
        return "Slurm says CANCELLED"
    reason = f" ({entry.reason})" if entry.reason not in ("", "None") else ""
    code = f", exit code {entry.exit_code}" if entry.exit_code not in ("", "0:0") else ""
    return f"no result; Slurm says {entry.state}{reason}{code}"
