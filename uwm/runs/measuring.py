"""Run one cell, and write its record whatever happens."""

import sys
import time
from datetime import UTC, datetime
from typing import Any

from uwm.errors import Interrupted, UserError, is_machine_fault
from uwm.metrics.spec import versions
from uwm.runs import state
from uwm.runs.experiment import Cell, CellResult, Context, SkipCell
from uwm.runs.provenance import peak_gb
from uwm.runs.record import (
    Record,
    config_digest,
    metric_entry,
    sample_entries,
)


def measure(context: Context, cell: Cell, *, rank: int = 0) -> Record:
    """Run one cell and write its record into `context.out`, whatever happens but bad input or a stop.

    Where several ranks measure a cell together, rank 0 writes the record.

    Raises:
        UserError: bad input, which is no result.
        Interrupted: the run was asked to stop.
        OSError, MemoryError: the machine failed, which is no result either.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    context.artifacts.obtained.clear()
    run = {"command": context.command, "started_utc": started.strftime("%Y-%m-%dT%H:%M:%SZ")}

    def timed() -> dict[str, Any]:
        return {**run, "seconds": time.monotonic() - clock, "peak_gb": peak_gb()}

    write = rank == 0
    state.clear_traceback(context.work, cell.name, rank)
    try:
        result = context.experiment.run_cell(context, cell)
        record = _record(context, cell, "ok", None, timed(), result)
        if write:
            record.write(context.out)
        return record
    except (UserError, Interrupted):
        raise
    except SkipCell as reason:
        record = _record(context, cell, "skipped", f"SkipCell: {reason}", timed())
    except Exception as error:
        if is_machine_fault(error):
            raise
        state.write_traceback(context.work, cell.name, rank)
        record = _record(context, cell, "failed", one_line(error), timed())
    if write:
        _write_unless_measured(context, cell, record)
    return record


def _write_unless_measured(context: Context, cell: Cell, record: Record) -> None:
    """Write a record without a number, but never over one that has the number of the very same cell."""
    if context.measured(cell):
        print(f"{record.cell}: kept the record with status ok of an earlier run", file=sys.stderr)
    else:
        record.write(context.out)


def give_up(context: Context, cell: Cell, reason: str) -> None:
    """Write the record of a cell that ran out of time."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    run = {"command": context.command, "started_utc": now, "seconds": 0.0, "peak_gb": peak_gb()}
    _write_unless_measured(context, cell, _record(context, cell, "timeout", f"TimeoutError: {reason}", run))


def one_line(error: BaseException) -> str:
    """`Type: message`, on one line of at most 500 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]


def _record(
    context: Context,
    cell: Cell,
    status: str,
    error: str | None,
    run: dict[str, Any],
    result: CellResult | None = None,
) -> Record:
    result = result or CellResult({})
    obtained = {**context.artifacts.obtained, **result.stages}
    origin = {"released": "released", "cached": "trained", "computed": "trained"}
    stages = {n: {"digest": a.digest, "origin": origin[a.origin]} for n, a in sorted(obtained.items())}
    experiment, config, measures = context.experiment, context.cell_config(cell), versions(result.metrics)
    return Record(
        experiment=experiment.name,
        version=experiment.version,
        cell=cell.name,
        scale=context.scale,
        config=config,
        config_digest=config_digest(experiment.name, experiment.version, config, cell.name, measures),
        status=status,
        error=error,
        measures=measures,
        metrics={name: metric_entry(name, estimate) for name, estimate in result.metrics.items()},
        samples=sample_entries([result.samples, *result.further_samples], context.out)
        if result.samples
        else None,
        inputs={"manifest_sha256": result.manifest_sha256, "weights": dict(result.weights), "stages": stages},
        code=dict(context.code),
        env=context.env,
        run=run,
    )
