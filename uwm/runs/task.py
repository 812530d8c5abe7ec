"""The work of one item (a cell or a stage) in one process, the same in every executor.

Signals: SIGUSR2 is Slurm's warning before a time limit or a preemption: leave a checkpoint, ask for another
attempt. SIGTERM alone (a cancel, or a preemption at a site that sends nothing else): leave a checkpoint and
let the sender end the process. Here, Ctrl-C (SIGINT) and a lost connection (SIGHUP) do the same. A node crash
sends nothing: the next attempt starts from the last checkpoint.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from uwm.env import REPOSITORY, launched_rank
from uwm.errors import Interrupted, UserError
from uwm.runs import ranks, state
from uwm.runs.experiment import Context, give_up, measure, one_line
from uwm.runs.listing import STAGE
from uwm.runs.plan import Plan, find_cell, find_stage, say
from uwm.runs.record import file_stem
from uwm.runs.slurm import queue as slurm_queue
from uwm.runs.snapshot import code_digest

REQUEUE_EVERY_S = 5.0


class CellFailed(RuntimeError):  # noqa: N818
    """The cell's record says `failed`; raised so that the process ends with an error, too."""


class OutOfTime(BaseException):
    """No attempt is left. Not an Exception, so that no cell takes it for a failure of its own."""


SILENT_S = 30.0  # a training asks more often than that whether to stop


class Stop:
    """The wish to stop, set by signals; a training asks for it at each step."""

    def __init__(self) -> None:
        self.asked = False
        self.code = 143  # what the process ends with: 128 and the signal's number
        self.last_asked = -SILENT_S  # when a training last wanted to know, in `time.monotonic()`
        self.process = os.getpid()
        self.before: dict[int, Any] = {}

    def install(self) -> None:
        """Listen to the signals (main thread only), but to none that is ignored, as SIGHUP is under nohup."""
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT):
            if signal.getsignal(number) != signal.SIG_IGN:
                self.before[number] = signal.signal(number, self.on_term)

    def wished(self) -> bool:
        """What a training asks at each step."""
        self.last_asked = time.monotonic()
        return self.asked

    def uninstall(self) -> None:
        """Leave the signals as they were."""
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def on_term(self, number: int = signal.SIGTERM, *_: object) -> None:
        """Note the wish; the second time, or where no training asks for it, end at once."""
        if os.getpid() != self.process:  # a forked worker inherits the handler
            return
        self.code = 128 + number if number in (signal.SIGINT, signal.SIGHUP) else 143
        if self.asked or time.monotonic() - self.last_asked > SILENT_S:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(self.code)
        self.asked = True
        if number == signal.SIGINT:
            say("stopping after this step, with a checkpoint; Ctrl-C again ends at once")

    def after_checkpoint(self) -> None:
        """A checkpoint was left because of this wish."""
        say("stopped with a checkpoint; the same command goes on from there")
        raise SystemExit(self.code)


class SlurmStop(Stop):
    """As `Stop`, within submitit's protocol: its handler of SIGUSR2 requeues the job and ends the process.

    It is called once a checkpoint is there, or after `grace_s` seconds without one.
    """

    def __init__(self, grace_s: float) -> None:
        super().__init__()
        self.grace_s, self.requeue = grace_s, False
        self.handler: Any = signal.getsignal(signal.SIGUSR2)

    def install(self) -> None:
        signal.signal(signal.SIGTERM, self.on_term)
        signal.signal(signal.SIGUSR2, self.on_warning)
        signal.signal(signal.SIGALRM, self.on_alarm)
        # The batch script held back what came before Python could listen.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGUSR2})

    def on_term(self, *_: object) -> None:
        if os.getpid() == self.process:
            self.asked = True

    def on_warning(self, *_: object) -> None:
        """SIGUSR2: stop at the next step, and be requeued."""
        if os.getpid() == self.process:
            self.asked = self.requeue = True
            signal.setitimer(signal.ITIMER_REAL, self.grace_s)

    def on_alarm(self, *_: object) -> None:
        """No step has ended in time: requeue without a new checkpoint."""
        if os.getpid() == self.process:
            self.give_back(None)

    def give_back(self, frame: FrameType | None) -> None:
        """Let submitit requeue the job (rank 0 ends here; the others wait to be ended with it)."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            self.handler(signal.SIGUSR2, frame)
        except RuntimeError as error:  # submitit's UncompletedJobError
            raise OutOfTime(str(error)) from error
        except (OSError, subprocess.SubprocessError) as error:
            requeue_until_ended(error)
        time.sleep(300)
        raise SystemExit(143)

    def after_checkpoint(self) -> None:
        for _ in range(300):
            if self.requeue:
                self.give_back(None)
            time.sleep(1)
        self.asked = False  # nobody ended this process: go on


def requeue_until_ended(error: Exception) -> NoReturn:
    """Ask for another attempt until Slurm ends this one. What that attempt runs is on disk already.

    Without `scontrol` (in a container) this process ends and leaves the asking to the batch script. At a
    preemption Slurm requeues the job by itself.
    """
    if shutil.which("scontrol") is None:
        mark = Path(os.environ["SUBMITIT_FOLDER"]) / f"{os.environ['SLURM_JOB_ID']}.requeue"
        mark.touch()
        raise SystemExit(143)
    say(f"scontrol requeue failed ({error}); asking again until this job is ended")
    while True:
        time.sleep(REQUEUE_EVERY_S)
        slurm_queue.ask("scontrol", "requeue", os.environ.get("SLURM_JOB_ID", ""))


def run_item(context: Context, item: str, stop: Stop) -> str:
    """Work on an item until it ends. Returns `ok` or `skipped`.

    Raises:
        CellFailed: a cell failed; its record says how.
        OutOfTime: no attempt is left.
        SystemExit: asked to stop; a checkpoint was left.
    """
    rank, _ = launched_rank()
    context.stop = lambda: stop.wished() or context.artifacts.lock_lost()
    leads = rank == 0
    if leads:
        state.note_start(context.work, item)
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
    ranks.meet(f"end of {item}", failed=False)
    return outcome


def _until_done(context: Context, item: str, stop: Stop, rank: int) -> str:
    while True:
        try:
            return _attempt(context, item, rank)
        except Interrupted:
            if stop.asked:
                stop.after_checkpoint()


def _attempt(context: Context, item: str, rank: int) -> str:
    if item.startswith(STAGE):
        state.clear_traceback(context.work, item, rank)
        find_stage(context, item.removeprefix(STAGE)).run(context)
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
        """Run the items in this job's process; a failed cell keeps no other from running.

        Raises:
            CellFailed: a cell failed.
        """
        stop = SlurmStop(self.grace_s)
        stop.install()
        self.check_code()
        if int(os.environ["SLURM_NTASKS"]) > 1:
            os.environ.update(slurm_ranks(os.environ))
        join_ranks()
        context = Plan.read(Path(self.plan)).context()
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
            except CellFailed as error:
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
        found = code_digest(here)
        if found != self.code_digest:
            raise UserError(f"the code in {here} changed since submission ({found}, was {self.code_digest})")


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
