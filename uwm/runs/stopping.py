"""The wish to stop, set by signals: here, and within submitit's protocol on Slurm.

SIGUSR2 is Slurm's warning before a time limit or a preemption: leave a checkpoint, ask for another attempt.
SIGTERM alone (a cancel, or a preemption at a site that sends nothing else): leave a checkpoint and let the
sender end the process. Here, Ctrl-C (SIGINT) and a lost connection (SIGHUP) do the same. A node crash sends
nothing: the next attempt starts from the last checkpoint.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from uwm.runs.plan import say
from uwm.runs.slurm import queue as slurm_queue
from uwm.runs.state import job_name

REQUEUE_EVERY_S = 5.0
ORPHANED = signal.SIGUSR1


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
        for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP, signal.SIGINT, ORPHANED):
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
        """Note the wish; the second time, or where no training asks for it, end at once.

        A parent that ends by the signal that this process got too is no second wish.
        """
        if os.getpid() != self.process:  # a forked worker inherits the handler
            return
        if not (self.asked and number == ORPHANED):
            self.code = 128 + number if number in (signal.SIGINT, signal.SIGHUP) else 143
        if (self.asked and number != ORPHANED) or time.monotonic() - self.last_asked > SILENT_S:
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
        slurm_queue.ask("scontrol", "requeue", job_name() or "")
