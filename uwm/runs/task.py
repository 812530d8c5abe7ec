"""The work of one item (a cell or a stage) in one process, the same in every executor."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uwm.env import REPOSITORY, launched_rank
from uwm.errors import Interrupted, UserError
from uwm.runs import ranks, state
from uwm.runs.data_notes import data_of
from uwm.runs.experiment import Cell, Context, SkipCell
from uwm.runs.listing import STAGE
from uwm.runs.measuring import give_up, measure, one_line
from uwm.runs.plan import RunPlan, find_cell, find_stage, say
from uwm.runs.record import file_stem
from uwm.runs.slurm import queue as slurm_queue
from uwm.runs.snapshot import code_digest
from uwm.runs.stopping import OutOfTime, SlurmStop, Stop


class CellFailed(RuntimeError):  # noqa: N818
    """The cell's record says `failed`; raised so that the process ends with an error, too."""


def run_item(context: Context, item: str, stop: Stop) -> str:
    """Work on an item until it ends. Returns `ok` or `skipped`.

    Raises:
        CellFailed: a cell failed; its record says how.
        UserError: bad input; it was said.
        OutOfTime: no attempt is left.
        SystemExit: asked to stop; a checkpoint was left.
    """
    rank, _ = launched_rank()
    context.stop = lambda: stop.wished() or context.artifacts.lock_lost()
    leads = rank == 0
    if leads:
        data = {} if item.startswith(STAGE) else data_of(context, find_cell(context, item))
        state.note_start(context.work, item, data)
    else:  # what other ranks write is no result
        context.out = context.work / "ranks" / str(rank)
    try:
        outcome = _in_step(context, item, stop, rank)
    except (SystemExit, KeyboardInterrupt):
        if leads:
            state.note_end(context.work, item, "stopped")
        raise
    except OutOfTime as error:
        if leads:
            _note_timeout(context, item, str(error))
        raise
    except BaseException as error:
        if not isinstance(error, CellFailed):
            state.write_traceback(context.work, item, rank)
        if leads:
            state.note_end(context.work, item, "failed", one_line(error))
        raise
    if leads:
        state.note_end(context.work, item, outcome)
    return outcome


def _in_step(context: Context, item: str, stop: Stop, rank: int) -> str:
    """All ranks leave an item together, failed or not, so that the next one finds them at the same place."""
    try:
        outcome = _until_done(context, item, stop, rank)
    except CellFailed:
        ranks.meet(f"end of {item}", failed=True)
        raise
    except UserError as error:
        state.write_traceback(context.work, item, rank)  # first: one that met it alone ends as it waits
        say(f"{item}: {error}")
        ranks.meet(f"end of {item}", failed=True)
        raise
    ranks.meet(f"end of {item}", failed=False)
    return outcome


def _until_done(context: Context, item: str, stop: Stop, rank: int) -> str:
    while True:
        try:
            return _attempt(context, item, rank)
        except Interrupted:
            if stop.asked:
                stop.after_checkpoint()


def run_part(context: Context, cell: Cell, part: str, stop: Stop) -> None:
    """A part of a cell, ahead of it. SystemExit: asked to stop, a checkpoint was left."""
    context.stop = lambda: stop.wished() or context.artifacts.lock_lost()
    while True:
        try:
            return context.experiment.parts.run(context, cell, part)
        except Interrupted:
            if stop.asked:
                stop.after_checkpoint()


def _attempt(context: Context, item: str, rank: int) -> str:
    if item.startswith(STAGE):
        state.clear_traceback(context.work, item, rank)
        try:
            find_stage(context, item.removeprefix(STAGE)).run(context)
        except SkipCell:  # its cells say why
            return "skipped"
        return "ok"
    record = measure(context, find_cell(context, item), rank=rank)
    if record.status == "failed":
        raise CellFailed(record.error)
    return record.status


def _note_timeout(context: Context, item: str, reason: str) -> None:
    if not item.startswith(STAGE):
        give_up(context, find_cell(context, item), reason)
    state.note_end(context.work, item, "timeout", reason)


@dataclass(frozen=True)
class Task:
    """What a Slurm job is given: names only, so that nothing of the submitting process is pickled."""

    plan: str  # file
    items: tuple[str, ...]
    code: str  # folder of the snapshot
    code_digest: str
    grace_s: float
    submitted: float = 0.0  # seconds since the epoch

    def __call__(self) -> str:
        """Run the items in this job's process; a cell that fails, or finds bad input, stops no other.

        Raises:
            CellFailed: a cell failed, or one of several found bad input.
        """
        stop = SlurmStop(self.grace_s)
        stop.install()
        self.check_code()
        if int(os.environ["SLURM_NTASKS"]) > 1:
            os.environ.update(slurm_ranks(os.environ))
        join_ranks()
        context = RunPlan.read(Path(self.plan)).context()
        if len(self.items) == 1:
            return run_item(context, self.items[0], stop)
        return self.run_all(context, stop)

    def run_all(self, context: Context, stop: Stop) -> str:
        """The items in turn, but for those that an earlier attempt has measured."""
        failed = []
        for item in self.items:
            if ranks.together(f"before {item}", lambda: stop.asked):
                stop.after_checkpoint()
            if self.is_measured(context, item):
                continue
            try:
                run_item(context, item, stop)
            except (CellFailed, UserError) as error:
                failed.append(f"{item}: {error}")
        if failed:
            raise CellFailed("; ".join(failed)[:500])
        return "ok"

    def is_measured(self, context: Context, item: str) -> bool:
        """True when an earlier attempt of this job has measured the cell."""
        path = Path(context.work) / "results" / f"{file_stem(item)}.json"
        fresh = path.is_file() and path.stat().st_mtime >= self.submitted
        return ranks.together(f"is {item} measured", lambda: fresh)

    def checkpoint(self) -> Any:
        """Submitit's protocol: what the next attempt runs. The state itself is on disk already."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def check_code(self) -> None:
        """Refuse to run other code than what was submitted."""
        here = REPOSITORY
        if here != Path(self.code).resolve():
            raise UserError(f"the job runs the code in {here}, submitted was {self.code}")
        digest = code_digest(here)
        if digest != self.code_digest:
            raise UserError(f"the code in {here} changed since submission ({digest}, was {self.code_digest})")


def join_ranks() -> None:
    """Join the other ranks of this job, if there are any, so that they look for stages together."""
    if launched_rank()[1] > 1:
        from uwm.training import distributed

        ranks = distributed.environment_ranks()
        distributed.join(ranks, distributed.default_device(ranks))


def slurm_ranks(environment: Any) -> dict[str, str]:
    """PyTorch's rank variables from those of a Slurm step."""
    from submitit import JobEnvironment

    job, restart = int(environment["SLURM_JOB_ID"]), int(environment.get("SLURM_RESTART_COUNT", "0"))
    return {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "WORLD_SIZE": environment["SLURM_NTASKS"],
        "MASTER_ADDR": _address(JobEnvironment().hostnames[0]),
        "MASTER_PORT": str(20000 + (7 * job + restart) % 20000),
    }


def _address(node: str) -> str:
    """The node's name, or, where that doesn't resolve, the address by which Slurm reaches it."""
    try:
        socket.gethostbyname(node)
    except OSError:
        about = slurm_queue.ask("scontrol", "--oneliner", "show", "node", node) or ""
        return next((part.partition("=")[2] for part in about.split() if part.startswith("NodeAddr=")), node)
    return node
