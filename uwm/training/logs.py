"""The files that a training writes about itself.

`log.jsonl` holds one line per step and per validation, reproducible numbers only, so that it is bit-identical
after a kill and a resume. Times and the machine's settings go to `timing.jsonl`.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from uwm.files import appending

log = logging.getLogger(__name__)

_TIMING_EVERY = 10.0  # seconds between two lines of timing.jsonl
_TENSORBOARD_EVERY = 10  # steps


class TrainingLog:
    """Rank 0's log files and progress bar; on other ranks (`enabled` False) it does nothing.

    Opening it cuts `log.jsonl` back to `length` bytes, the length that the checkpoint remembers.
    """

    def __init__(
        self, run_dir: Path, name: str, step: int, steps: int, length: int, enabled: bool, tensorboard: bool
    ) -> None:
        self.enabled = enabled
        if not enabled:
            return
        path = run_dir / "log.jsonl"
        self._file = open(path, "ab")  # noqa: SIM115 (closed in close)
        if self._file.tell() < length:
            log.warning("%s is shorter than its checkpoint says: lines are missing from it", path)
        self._file.truncate(min(length, self._file.tell()))
        self._timing = appending(run_dir / "timing.jsonl")
        self._mark = time.monotonic()
        self._writer = _tensorboard(run_dir / "tensorboard", step) if tensorboard else None
        interval = 0.5 if sys.stderr.isatty() else 30.0  # seconds
        self._bar = tqdm(total=steps, initial=step, desc=name, mininterval=interval, miniters=1)

    def start(self, **facts: Any) -> None:
        """One line of `timing.jsonl` on what bit-identity depends on besides the seed."""
        if self.enabled:
            facts |= {"threads": torch.get_num_threads(), "torch": torch.__version__}
            self._time({"event": "start", **facts})

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append {"step": step, **values}; `values` must be finite."""
        if not self.enabled:
            return
        self._file.write((json.dumps({"step": step, **values}, allow_nan=False) + "\n").encode())
        if self._writer and (step % _TENSORBOARD_EVERY == 0 or any(key.startswith("val/") for key in values)):
            for key, value in values.items():
                self._writer.add_scalar(key, value, step)

    def advance(self, loss: float, speed: Callable[[], dict[str, float]]) -> None:
        """Move the progress bar; now and then note the `speed`."""
        if not self.enabled:
            return
        self._bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
        self._bar.update()
        now = time.monotonic()
        if now - self._mark >= _TIMING_EVERY or self._bar.n == self._bar.total:  # short ones too
            self._time({"step": self._bar.n, **speed()})
            self._mark = now
            self._file.flush()

    def sync(self) -> int:
        """Put all lines on the disk; returns the length of `log.jsonl` in bytes."""
        if not self.enabled:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        if not self.enabled:
            return
        self._bar.close()
        self._file.close()
        self._timing.close()
        if self._writer:
            self._writer.close()

    def _time(self, row: dict[str, Any]) -> None:
        self._timing.write((json.dumps(row, allow_nan=False) + "\n").encode())
        self._timing.flush()


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # the optional extra `logs`
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)
