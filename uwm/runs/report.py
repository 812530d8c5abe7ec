"""`--status`, `--follow`, `--wait`, `--logs` and `--collect`: all from the written listing and the queue.
`--collect` also validates records and prints the experiment's table."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from uwm.files import check_ours, copy_atomically, inside
from uwm.runs import state
from uwm.runs.experiment import Cell, Context
from uwm.runs.listing import STAGE, Listing, listing_of
from uwm.runs.plan import say
from uwm.runs.progress import duration
from uwm.runs.record import Record, is_record, read_record, sample_files
from uwm.runs.rows import UNFINISHED, Row, rows, submitit_failure
from uwm.runs.slurm import queue as slurm_queue

TAIL = 20  # lines of a log


def print_json(content: object) -> None:
    """Machine-readable output on stdout."""
    print(json.dumps(content, indent=1, allow_nan=False))


def status(listing: Listing, *, as_json: bool) -> int:
    """Print the state of each stage and cell."""
    listed = rows(listing)
    if as_json:
        print_json([asdict(row) for row in listed])
        return 0
    for row in listed:
        print(status_line(row))
    say(summary_lines(listed))
    say(f"run folder: {listing.work}{_gpu_hours(listing, listed)}")
    return 0


def _gpu_hours(listing: Listing, listed: list[Row]) -> str:
    """What the run has cost: by Slurm's accounting, jobs that were sent again included, else by our notes."""
    accounted = slurm_queue.gpu_hours(state.all_submitted(listing.folder))
    if accounted is not None:
        return f"; {accounted:.2f} GPU hours so far, says sacct"
    hours = sum(row.gpu_hours or 0 for row in listed)
    return f"; {hours:.2f} GPU hours so far" if hours else ""


def status_line(row: Row) -> str:
    """One row as text."""
    job = f"job {row.job} on {row.node or '-'}, attempt {row.attempts}" if row.job else ""
    elapsed = f"for {duration(row.elapsed_s)}" if row.elapsed_s else ""
    hours = f"{row.gpu_hours:.2f} GPU h" if row.gpu_hours else ""
    log = f"log {row.log}" if row.log and row.state not in ("done", "skipped", "pending") else ""
    facts = "; ".join(fact for fact in (job, elapsed, row.progress, hours, log) if fact)
    return f"{row.item:40s} {row.state:9s} {facts:34s} {row.error or ''}".rstrip()


def summary_lines(listed: list[Row]) -> str:
    """`3 done, 1 failed`."""
    return ", ".join(f"{count} {name}" for name, count in Counter(row.state for row in listed).items())


def follow(
    listing: Listing, *, verbose: bool, every_s: float = 5.0, again: Callable[[], bool] | None = None
) -> int:
    """Wait until nothing is queued or running; with `verbose`, print each change. 0 if all is done, else 1.

    `again` is asked each time; true says that more was submitted.
    """
    before: dict[str, str] = {}
    while True:
        more = again() if again else False
        listed = rows(listing)
        if verbose:
            _print_changes(listed, before)
        if not more and not any(row.state in UNFINISHED for row in listed):
            say(summary_lines(listed))
            return 0 if all(row.state in ("done", "skipped") for row in listed) else 1
        time.sleep(every_s)


def _print_changes(listed: list[Row], before: dict[str, str]) -> None:
    for row in listed:
        mark = f"{row.state} {row.attempts} {row.progress}"
        if before.get(row.item) != mark:
            before[row.item] = mark
            print(time.strftime("%H:%M:%S"), status_line(row), flush=True)


def logs(listing: Listing, *, as_json: bool) -> int:
    """For each cell and stage without a result: how it ended, the traceback, the end of its log."""
    states = ("failed", "timeout", "lost", "cancelled")
    entries = [_log(listing, row) for row in rows(listing) if row.state in states]
    if as_json:
        print_json(entries)
        return 0
    for entry in entries:
        code = f", exit code {entry['exit_code']}" if entry["exit_code"] else ""
        print(f"== {entry['item']}: {entry['state']}{code}; log {entry['log'] or 'none'}")
        if entry["error"]:
            print(entry["error"])
        print(entry["traceback"] or entry["tail"] or "")
    return 0


def _log(listing: Listing, row: Row) -> dict[str, str | None]:
    job = state.submitted_jobs(listing.folder).get(row.item)
    cause = state.root_cause(listing.folder, row.item, job)
    text = cause[1] if cause else (submitit_failure(job) if job else None)
    tail = _tail(job.log) if job else None
    return {
        "item": row.item,
        "state": row.state,
        "error": row.error,
        "exit_code": row.exit_code,
        "log": row.log,
        "traceback": text,
        "tail": tail,
    }


def _tail(log: Path) -> str:
    """The last lines of a job's log; the job may have ended before it wrote one."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "no log: the job never started"
    return "\n".join(lines[-TAIL:])


def collect(context: Context, cells: list[Cell], *, as_json: bool) -> int:
    """Copy the run folder's records and what belongs to them into `context.out`; name what is missing. A
    current `ok` record that is there stays where the run's own is not `ok`, or older.

    Returns 1 while a cell has no `ok` record.
    """
    _publish(context, cells)
    listing = listing_of(context)
    names = {cell.name for cell in cells}
    listed = [row for row in rows(listing) if row.item in names and not row.item.startswith(STAGE)]
    missing = [row for row in listed if row.state != "done"]
    if as_json:
        print_json({"records": str(context.out), "missing": [asdict(row) for row in missing]})
    else:
        context.experiment.summarize(context)
        say(f"{len(listed) - len(missing)} of {len(listed)} cells in {context.out}")
    for row in missing:
        say(f"missing: {row.item}: {row.state}{f': {row.error}' if row.error else ''}")
    return 1 if missing else 0


def _publish(context: Context, cells: list[Cell]) -> None:
    source = context.work / "results"
    if not source.is_dir() or source.resolve() == context.out.resolve():
        return
    others = {cell.file_name for cell in context.cells} - {cell.file_name for cell in cells}
    records = {path: cell for cell in cells if (path := source / f"{cell.file_name}.json").is_file()}
    kept = _kept(context, records)
    others |= {path.stem for path in kept & records.keys()}
    paths = (path for path in source.rglob("*") if path.is_file())
    files = [path for path in paths if path.stem not in others and path not in kept]
    for path in sorted(files, key=lambda path: path in records):  # samples before the record naming them
        copy_atomically(path, context.out / path.relative_to(source))


def _kept(context: Context, records: Mapping[Path, Cell]) -> set[Path]:
    """Those of a run folder's records in whose place a better one was published already, and their samples.

    Raises:
        UserError: a record cannot be read, or a file that is no record bears its name in `context.out`.
    """
    reasons: dict[str, str] = {}
    files: set[Path] = set()
    for path, cell in records.items():
        record = read_record(path)
        check_ours(context.out / path.name, is_record)
        there = context.measured(cell)
        if there is None or (reason := _worse(context, cell, record, there)) is None:
            continue
        reasons[cell.name] = reason
        files |= {path, *(inside(path.parent, entry["path"]) for entry in sample_files(record.samples))}
    if reasons:
        text = ", ".join(f"{name} ({reason})" for name, reason in reasons.items())
        say(f"kept the record with status ok in {context.out}, for this run's is no better: {text}")
    return files


def _worse(context: Context, cell: Cell, record: Record, there: Mapping[str, Any]) -> str | None:
    """Why a record stays behind the current `ok` one that is there; None where it replaces it."""
    if record.status != "ok":
        return record.status
    if not context.is_current(cell, record.to_json()):
        return "of other settings"
    return "older" if record.run["started_utc"] < there["run"]["started_utc"] else None
