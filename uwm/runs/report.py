"""What became of a run: `--status`, `--logs`, `--collect`. Works from any shell, later, and never blocks.

Sources in this order: our own records and artifacts, the queue, the traces that the attempts left in the run
folder, submitit's result files, accounting or the controller's memory.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uwm.runs import state
from uwm.runs.experiment import Cell, Context
from uwm.runs.plan import say
from uwm.runs.record import read_record
from uwm.runs.slurm import queue as slurm_queue
from uwm.runs.task import STAGE

Queue = Mapping[str, slurm_queue.QueueEntry] | None  # None: squeue doesn't answer


@dataclass(frozen=True)
class Row:
    """A cell or stage: pending, running, done, skipped, failed, timeout, unknown, or lost (no job left)."""

    item: str
    state: str
    attempts: int = 0
    job: str | None = None
    node: str | None = None
    log: str | None = None
    error: str | None = None


def peek(context: Context, cell: Cell) -> dict[str, Any] | None:
    """The cell's current record, collected or still in the run folder, without the cost of validation."""
    found = None
    for folder in {context.out, context.work / "results"}:
        try:
            content = json.loads((folder / f"{cell.file_name}.json").read_text())
        except (OSError, ValueError):
            continue
        if context.is_current(cell, content) and (found is None or content["status"] == "ok"):
            found = content
    return found


def done_cells(context: Context, cells: list[Cell]) -> set[str]:
    """Cells with a current record that says `ok`."""
    return {cell.name for cell in cells if (peek(context, cell) or {}).get("status") == "ok"}


def rows(context: Context, cells: list[Cell]) -> list[Row]:
    """The state of each stage and cell."""
    submitted = state.submitted_jobs(context.work)
    queue = slurm_queue.queue() if submitted else {}
    found = [
        _stage_row(context, job, submitted, queue)
        for job in context.experiment.stages(context.config, context.data)
    ]
    found += [_cell_row(context, cell, submitted, queue) for cell in cells]
    unclear = {row.job for row in found if row.state == "lost" and row.job}
    known = slurm_queue.finished(job for job in unclear if job)
    return [_explained(row, known) for row in found]


def _stage_row(context: Context, job: Any, submitted: Mapping[str, Any], queue: Queue) -> Row:
    artifact = context.artifacts.find(job.stage(context)) if job.stage else None
    return _row(context, STAGE + job.name, "done" if artifact else None, None, submitted, queue)


def _cell_row(context: Context, cell: Cell, submitted: Mapping[str, Any], queue: Queue) -> Row:
    record = peek(context, cell) or {}
    status = record.get("status")
    return _row(
        context, cell.name, "done" if status == "ok" else status, record.get("error"), submitted, queue
    )


def _row(
    context: Context,
    item: str,
    result: str | None,
    error: str | None,
    submitted: Mapping[str, state.SubmittedJob],
    queue: Queue,
) -> Row:
    job, attempts = submitted.get(item), state.read_attempts(context.work, item)
    entry = queue.get(job.job) if job and queue else None
    node = (entry.nodes if entry else "") or attempts.node
    about: dict[str, Any] = {"attempts": attempts.count, "job": job.job if job else None, "node": node,
                             "log": str(job.log) if job else None}  # fmt: skip
    if result == "done":
        return Row(item, "done", **about)
    if entry:
        waits = entry.state in slurm_queue.WAITING
        return Row(item, "pending" if waits else "running", error=entry.reason if waits else None, **about)
    if result:
        return Row(item, result, error=error, **about)
    found = _row_without_result(context, item, job, attempts, about)
    if (
        queue is None and job and attempts.outcome in (None, "stopped")
    ):  # an earlier attempt's traces say nothing
        return Row(item, "unknown", error="squeue doesn't answer", **about)
    return found


def _row_without_result(
    context: Context,
    item: str,
    job: state.SubmittedJob | None,
    attempts: state.Attempts,
    about: dict[str, Any],
) -> Row:
    cause = state.root_cause(context.work, item)
    if cause:
        return Row(item, "failed", error=state.last_line(cause[1]), **(about | {"log": str(cause[0])}))
    if attempts.outcome == "timeout":
        return Row(item, "timeout", error=attempts.error, **about)
    if attempts.outcome == "ok" and item.startswith(STAGE):
        return Row(item, "done", **about)
    if attempts.alive:
        return Row(item, "running", **about)
    if job is None:
        return Row(item, "lost" if attempts.count else "pending", **about)
    failure = _submitit_failure(job)
    if failure:
        return Row(item, "failed", error=state.last_line(failure), **about)
    return Row(item, "lost", **about)


def _submitit_failure(job: state.SubmittedJob) -> str | None:
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


def _explained(row: Row, known: Mapping[str, slurm_queue.QueueEntry]) -> Row:
    entry = known.get(row.job or "") if row.state == "lost" else None
    if entry is None:
        return row
    changed = asdict(row) | {"error": f"no result; Slurm says {entry.state}", "node": entry.nodes or row.node}
    return Row(**changed)


def print_json(content: object) -> None:
    """Machine-readable output on stdout."""
    print(json.dumps(content, indent=1, allow_nan=False))


def status(context: Context, cells: list[Cell], *, as_json: bool) -> int:
    """Print the state of each stage and cell."""
    found = rows(context, cells)
    if as_json:
        print_json([asdict(row) for row in found])
        return 0
    for row in found:
        job = f"job {row.job} on {row.node or '-'}, attempt {row.attempts}" if row.job else ""
        print(f"{row.item:40s} {row.state:8s} {job:34s} {row.error or ''}".rstrip())
    counts = {
        name: sum(row.state == name for row in found) for name in dict.fromkeys(row.state for row in found)
    }
    say(", ".join(f"{count} {name}" for name, count in counts.items()))
    return 0


def logs(context: Context, cells: list[Cell], *, as_json: bool) -> int:
    """Print, for each cell and stage without a result, its log's path and the root cause's traceback."""
    found = []
    for row in rows(context, cells):
        if row.state in ("failed", "timeout", "lost"):
            cause = state.root_cause(context.work, row.item)
            job = state.submitted_jobs(context.work).get(row.item)
            text = cause[1] if cause else (_submitit_failure(job) if job else None)
            found.append(
                {"item": row.item, "state": row.state, "log": row.log, "traceback": text or row.error}
            )
    if as_json:
        print_json(found)
        return 0
    for entry in found:
        print(
            f"== {entry['item']}: {entry['state']}; log {entry['log'] or 'none'}\n{entry['traceback'] or ''}"
        )
    return 0


def collect(context: Context, cells: list[Cell], *, as_json: bool) -> int:
    """Copy the run folder's records and what belongs to them into `context.out`; name what is missing.

    Returns 1 while a cell has no `ok` record.
    """
    _publish(context, cells)
    found = [row for row in rows(context, cells) if not row.item.startswith(STAGE)]
    missing = [row for row in found if row.state != "done"]
    if as_json:
        print_json({"records": str(context.out), "missing": [asdict(row) for row in missing]})
    else:
        context.experiment.summarize(context)
        say(f"{len(found) - len(missing)} of {len(found)} cells in {context.out}")
    for row in missing:
        say(f"missing: {row.item}: {row.state}{f': {row.error}' if row.error else ''}")
    return 1 if missing else 0


def _publish(context: Context, cells: list[Cell]) -> None:
    source = context.work / "results"
    if not source.is_dir() or source.resolve() == context.out.resolve():
        return
    others = {cell.file_name for cell in context.cells} - {cell.file_name for cell in cells}
    chosen = {cell.file_name for cell in cells}
    files = [path for path in source.rglob("*") if path.is_file() and path.stem not in others]
    for path in sorted(
        files, key=lambda path: path.suffix == ".json"
    ):  # samples before the record naming them
        if path.stem in chosen and path.suffix == ".json":
            read_record(path)  # validates
        target = context.out / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        shutil.copyfile(path, temporary)
        os.replace(temporary, target)
