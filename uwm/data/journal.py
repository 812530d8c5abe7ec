"""What was found of each clip while a list of pairs is being made, so that a stopped run goes on."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from uwm.data.offers import Offer, loaded_offer
from uwm.data.workers import Failure
from uwm.files import appending

Outcome = Offer | Failure


class Journal:
    """A file with one line of JSON per clip. A line that a kill cut off counts as not written.

    Used as a context it is appended to; `known` are the outcomes of an earlier run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, Outcome] = dict(_read(path))
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Journal":
        self._file = appending(self.path)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._file is not None
        self._file.close()

    def add(self, clip: str, outcome: Outcome) -> None:
        """Write down an outcome; not that the machine failed at a clip, for the next run tries it again."""
        assert self._file is not None
        if isinstance(outcome, Failure) and outcome.machine:
            return
        failed = isinstance(outcome, Failure)
        value: Any = outcome.reason if isinstance(outcome, Failure) else outcome.dumped()
        line = json.dumps({"clip": clip, "damaged" if failed else "offer": value}, allow_nan=False)
        self._file.write(f"{line}\n".encode())
        self._file.flush()


def _read(path: Path) -> Iterator[tuple[str, Outcome]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            outcome = Failure(entry["damaged"]) if "damaged" in entry else loaded_offer(entry["offer"])
            yield str(entry["clip"]), outcome
        except (ValueError, KeyError, TypeError):
            continue
