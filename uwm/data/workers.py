"""A parallel map that survives what a decoder can do to its process: crash it, or never return."""

import multiprocessing
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from uwm.data.decoders import BadVideo

Given = TypeVar("Given")
Result = TypeVar("Result")
RESULTS_AHEAD = 4  # results per worker that may wait for the one that is due
ITEM_TIMEOUT = 1800.0  # s for one item before its worker is replaced; hours of video are scanned in less
# How a decoder dies of a file. Any other end, such as SIGKILL for lack of memory, came from outside.
CRASHES = frozenset({-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL})


@dataclass(frozen=True)
class Failure:
    """An item that gave no result, and why. `machine`: another try may succeed, for the file need not be
    damaged; it could not be read, its process was killed or took too long."""

    reason: str
    machine: bool = False


def crash_proof_map(
    function: Callable[[Given], Result],
    items: Iterable[Given],
    workers: int,
    *,
    timeout: float = ITEM_TIMEOUT,
) -> Iterator[tuple[Given, Result | Failure]]:
    """`(item, function(item))` in the order of `items`, computed by `workers` processes (0: in this one).

    A `BadVideo`, a crash of the process or a timeout becomes a `Failure`; the other items are not touched.
    Any other exception is raised here. `function` must be picklable.
    """
    if workers == 0:
        for item in items:
            yield item, _attempt(function, item)
        return
    pool = [_Worker(function, timeout) for _ in range(workers)]
    try:
        yield from _serve_in_order(pool, iter(items))
    finally:
        for worker in pool:
            worker.stop()


def _serve_in_order(pool: list["_Worker[Any, Any]"], items: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    """Keep all workers busy, but at most `RESULTS_AHEAD` results per worker ahead of the one that is due."""
    asked: dict[int, Any] = {}  # the items that are computing or wait to be handed out
    done: dict[int, Any] = {}
    due = count = 0
    exhausted = False
    while not exhausted or asked:
        for worker in pool:
            if worker.index is None and not exhausted and len(asked) < RESULTS_AHEAD * len(pool):
                try:
                    asked[count] = next(items)
                except StopIteration:
                    exhausted = True
                    break
                worker.send(count, asked[count])
                count += 1
        for worker in _ready(pool):
            index, result = worker.receive()
            done[index] = result
        while due in done:
            result = done.pop(due)
            if isinstance(result, BaseException):
                raise result
            yield asked.pop(due), result
            due += 1


def _ready(pool: list["_Worker[Any, Any]"]) -> list["_Worker[Any, Any]"]:
    busy = [worker for worker in pool if worker.index is not None]
    if not busy:
        return []
    first = min(worker.deadline for worker in busy)
    open_pipes = wait([worker.pipe for worker in busy], timeout=max(0.0, first - time.monotonic()))
    late = time.monotonic()
    return [worker for worker in busy if worker.pipe in open_pipes or worker.deadline <= late]


class _Worker(Generic[Given, Result]):
    """One process that computes one item at a time; replaced when it dies."""

    def __init__(self, function: Callable[[Given], Result], timeout: float) -> None:
        self.function, self.timeout = function, timeout
        self.index: int | None = None
        self.deadline = 0.0
        self._start()

    def _start(self) -> None:
        # spawn: a fork of a process with running threads (torch's, a decoder's) may hang
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(self.function, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def send(self, index: int, item: Given) -> None:
        self.index, self.deadline = index, time.monotonic() + self.timeout
        try:
            self.pipe.send(item)
        except OSError:  # killed while it had nothing to do
            self.stop()
            self._start()
            self.pipe.send(item)

    def receive(self) -> tuple[int, Result | Failure]:
        assert self.index is not None
        index, self.index = self.index, None
        try:
            if self.pipe.poll():
                return index, self.pipe.recv()
            failure = Failure(f"the decoder did not return within {self.timeout:g} s", machine=True)
        except (EOFError, ConnectionResetError):
            self.process.join()
            if self.process.exitcode == 1:  # Python's own exit: no decoder did that
                raise RuntimeError("a worker process could not start; see its error above") from None
            code = self.process.exitcode
            failure = Failure(f"the decoder crashed (exit code {code})", machine=code not in CRASHES)
        self.stop()
        self._start()
        return index, failure

    def stop(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _attempt(function: Callable[[Given], Result], item: Given) -> Result | Failure:
    try:
        return function(item)
    except BadVideo as error:
        return Failure(error.reason, error.machine)


def _work(function: Callable[[Any], Any], pipe: Connection) -> None:
    while True:
        try:
            item = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            pipe.send(_attempt(function, item))
        except Exception as error:  # shown by the parent
            pipe.send(error)


def prefetched(
    items: Iterator[Given], ahead: int = 1, *, active: bool = True
) -> Generator[Given, None, None]:
    """The same items, up to `ahead` of them made by a thread while others are in use; exceptions too."""
    if not active:
        yield from items
        return
    box: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not stopped.is_set():
            try:
                return box.put((kind, value), timeout=0.1)
            except queue.Full:
                continue

    def fill() -> None:
        try:
            for item in items:
                put("item", item)
                if stopped.is_set():
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)
        finally:
            items.close()  # type: ignore[attr-defined]  # stops the workers of a generator

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = box.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stopped.set()
        thread.join()
