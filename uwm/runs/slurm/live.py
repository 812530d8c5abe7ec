"""Which jobs of a run Slurm still has, and how to cancel them."""

import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from uwm.errors import UserError
from uwm.runs import state
from uwm.runs.listing import Listing
from uwm.runs.lock import Lock
from uwm.runs.plan import say
from uwm.runs.slurm import queue as slurm_queue
from uwm.runs.slurm.script import run_mark

SETTLE_S = 60.0  # that a job which is being ended may take to leave the queue, or to be back in it
Entries = Mapping[str, slurm_queue.QueueEntry]


def submit_lock(work: Path) -> Lock:
    """Held while jobs are submitted or cancelled, so that two commands at once don't double them."""
    return Lock(work / "submit.lock", poll_s=0.2)


def live_jobs(work: Path) -> dict[str, str]:
    """Job ids of this run's items that are queued or running.

    A job that is COMPLETING may have been cancelled, or may go back to the queue: it is waited for.

    Raises:
        UserError: there are submitted jobs and squeue doesn't answer.
    """
    submitted = state.submitted_jobs(work)
    if not submitted:
        return {}
    gone = state.cancelled_jobs(work)
    jobs = {item: job.job for item, job in submitted.items() if job.job not in gone}
    queue = _settled(set(jobs.values()))
    if queue is None:
        raise UserError(
            f"squeue doesn't answer; {work} has submitted jobs, so submitting blindly could double them"
        )
    return {item: job for item, job in jobs.items() if job in queue}


def _settled(jobs: set[str]) -> Entries | None:
    """The queue once none of `jobs` is COMPLETING, or after `SETTLE_S` seconds."""
    end = time.monotonic() + SETTLE_S
    while True:
        queue = slurm_queue.queue()
        ending = [job for job in jobs & set(queue or {}) if queue and queue[job].state == "COMPLETING"]
        if not ending or time.monotonic() > end:
            return queue
        time.sleep(1)


def orphans(work: Path, queue: Entries | None = None) -> list[str]:
    """Live jobs that bear this run's mark, though its folder, deleted meanwhile, does not know them."""
    known, mark = state.all_submitted(work), run_mark(work)
    queue = queue or slurm_queue.queue() or {}
    return sorted(job for job, entry in queue.items() if entry.comment.startswith(mark) and job not in known)


def without_folder(runs: Path, experiment: str) -> list[str]:
    """Live jobs of an experiment that their run folder below `runs`, deleted meanwhile, does not know."""
    queue = slurm_queue.queue() or {}
    names = {entry.comment.removeprefix("uwm:").partition("@")[0] for entry in queue.values()}
    works = [runs / name for name in names if name.startswith(f"{experiment}-")]
    return sorted(job for work in works for job in orphans(work, queue))


def orphans_told(work: Path) -> str | None:
    """A line that names live jobs of this run which its folder does not know; None where there are none."""
    jobs = orphans(work)
    if not jobs:
        return None
    return (
        f"jobs {', '.join(jobs[:5])} of this run are queued or running, but {work} does not know them "
        "(was it deleted?); they would fail: --cancel without --only ends them"
    )


def refuse_orphans(work: Path) -> None:
    """Raises UserError where jobs of this run are live that its folder does not know."""
    message = orphans_told(work)
    if message:
        raise UserError(message)


def cancel(listing: Listing, *, whole: bool) -> int:
    """Cancel the live jobs of the listed cells, and those of stages and unknown ones if `whole`."""
    slurm_queue.require_slurm()
    listing.folder.mkdir(parents=True, exist_ok=True)
    with submit_lock(listing.folder):
        return _cancel(listing, whole)


def _cancel(listing: Listing, whole: bool) -> int:
    live = live_jobs(listing.folder)
    jobs = {job for item, job in live.items() if whole or item in listing.cells}
    jobs |= set(orphans(listing.folder)) if whole else set()
    if not jobs:
        say("no job of this run is queued or running")
        return 0
    also = sorted(
        item for item, job in live.items() if job in jobs and item not in listing.cells and not whole
    )
    _scancel(_arguments(jobs) if whole else sorted(jobs))
    state.note_cancelled(listing.folder, sorted(jobs))
    say(f"cancelled {len(jobs)} jobs" + (f"; packed with them: {', '.join(also)}" if also else ""))
    return 0


def _arguments(jobs: Iterable[str]) -> list[str]:
    """Whole arrays by their one id."""
    return sorted({job.partition("_")[0] for job in jobs})


def _scancel(jobs: list[str]) -> None:
    done = subprocess.run(["scancel", *jobs], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise UserError(f"scancel failed: {' '.join(done.stderr.split())}")
