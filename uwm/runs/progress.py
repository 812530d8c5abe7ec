"""How far a running job is: a training by its log files, what shows a bar by its job's log."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Progress:
    """The last logged step of how many, its loss, and the seconds left at the last measured speed."""

    step: int
    steps: int | None = None
    loss: float | None = None
    eta_s: float | None = None

    def __str__(self) -> str:
        of = f" of {self.steps}" if self.steps else ""
        loss = f", loss {self.loss:.4g}" if self.loss is not None else ""
        return f"step {self.step}{of}{loss}" + (f", {duration(self.eta_s)} left" if self.eta_s else "")


def training_progress(folder: Path) -> Progress | None:
    """The progress of the training whose working folder is `folder`; None where it has logged no step."""
    logs = sorted(folder.rglob("log.jsonl"), key=lambda path: path.stat().st_mtime)
    last = next((line for line in reversed(_last_lines(logs[-1])) if "loss" in line), None) if logs else None
    if last is None:
        return None
    times = _last_lines(logs[-1].with_name("timing.jsonl"))
    steps = next((int(line["steps"]) for line in reversed(times) if "steps" in line), None)
    speed = next(
        (float(line["steps_per_second"]) for line in reversed(times) if "steps_per_second" in line), 0
    )
    left = (steps - last["step"]) / speed if steps and speed else None
    return Progress(int(last["step"]), steps, float(last["loss"]), left)


# `ssv2 train:  12%|█▏        | 26501/220847 [10:00<1:13:20, 44.2clip/s]`, as tqdm writes it
BAR = re.compile(r"(.+): +\d+%\|[^|]*\| (\d+)/(\d+) \[[^<\]]*<([^,\]]+)")


MOST_OF_A_BAR = 300  # characters


def bar_progress(log: Path) -> str | None:
    """`ssv2 train: 26501 of 220847, 1:13:20 left` by the last bar in a log; None where there is none, or it
    has come to its end."""
    lines = (line[:MOST_OF_A_BAR] for line in reversed(_end(log).splitlines()))
    bar = next(filter(None, map(BAR.match, lines)), None)
    if bar is None:
        return None
    title, done, total, left = bar.groups()
    text = f"{title.strip()}: {done} of {total}" + ("" if left == "?" else f", {left} left")
    return None if done == total else text


def _last_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines at the end of a file; a line cut short is passed over."""
    entries = []
    for line in _end(path).splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in entries if isinstance(line, dict)]


def _end(path: Path, size: int = 8192) -> str:
    """The last `size` bytes of a file; an empty text for one that cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
