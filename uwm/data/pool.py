"""One pool of processes that decodes the training pairs of all corpora, within a bound of memory."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uwm.data.workers import RESULTS_AHEAD, Failure, crash_proof_map, prefetched

WORKER_BYTES = 650e6  # resident memory of a process that decodes (tests/bench/data.py --only memory)
Rows = NDArray[np.int64]
BlockLoad = Callable[[Any], NDArray[np.uint8]]


@dataclass(frozen=True)
class BlockPlan:
    """One block of pairs: its stretches of one unit each, the function that reads them, and for each coming
    batch its rows in the block."""

    runs: list[Rows]
    tasks: list[Any]
    batches: list[Rows]


class Stream(Protocol):
    """The pairs of one corpus: `uwm.data.stream.PairStream`."""

    @property
    def units(self) -> list[Rows]: ...
    @property
    def load(self) -> BlockLoad: ...
    @property
    def announce(self) -> Callable[[Any], None] | None: ...
    @property
    def pair_bytes(self) -> int: ...
    def plans(self, start_step: int, rank: int, world_size: int) -> Iterator[BlockPlan]: ...
    def block_pairs(self, world_size: int = 1) -> int: ...
    def joined(self, parts: list[tuple[Rows, NDArray[np.uint8] | Failure]]) -> NDArray[np.uint8]: ...


def joined_batches(
    streams: Sequence[Stream], workers: int, position: tuple[int, int, int]
) -> Iterator[Tensor]:
    """Endless: each step's pairs (b,2,3,S,S) uint8, the streams' shares one after the other, all read by
    `workers` processes (0: by this one). `position`: the first step, the rank, the number of ranks.

    What a stream gives depends on nothing but itself and `position`.
    """
    waiting: deque[tuple[int, BlockPlan]] = deque()  # the blocks whose tasks were handed out
    tasks = _tasks([stream.plans(*position) for stream in streams], waiting)
    if workers:
        tasks = _announced(streams, tasks, RESULTS_AHEAD * workers)
    results = crash_proof_map(partial(_load, [stream.load for stream in streams]), tasks, workers)
    blocks = prefetched(_blocks(streams, waiting, results), len(streams), active=workers > 0)
    open_blocks: list[Iterator[Tensor]] = [iter(()) for _ in streams]
    with closing(blocks):
        while True:
            parts = []
            for index in range(len(streams)):
                part = next(open_blocks[index], None)
                if part is None:
                    owner, plan, block = next(blocks)
                    assert owner == index
                    open_blocks[index] = _cut(plan, block)
                    del block  # its batches alone hold it now
                    part = next(open_blocks[index])
                parts.append(part)
            yield parts[0] if len(parts) == 1 else torch.cat(parts)


def _cut(plan: BlockPlan, block: NDArray[np.uint8]) -> Iterator[Tensor]:
    for rows in plan.batches:
        yield torch.from_numpy(block[rows])


def plans_in_order(plans: Sequence[Iterator[BlockPlan]]) -> Iterator[tuple[int, BlockPlan]]:
    """The streams' blocks in the order in which steps need them; a step takes a batch of every stream."""
    left = [0] * len(plans)
    while True:
        for index, stream in enumerate(plans):
            if left[index] == 0:
                plan = next(stream)
                left[index] = len(plan.batches)
                yield index, plan
        passed = min(left)
        left = [batches - passed for batches in left]


def _tasks(
    plans: Sequence[Iterator[BlockPlan]], waiting: deque[tuple[int, BlockPlan]]
) -> Iterator[tuple[int, Any]]:
    for index, plan in plans_in_order(plans):
        waiting.append((index, plan))
        yield from ((index, task) for task in plan.tasks)


def _announced(
    streams: Sequence[Stream], tasks: Iterator[tuple[int, Any]], ahead: int
) -> Iterator[tuple[int, Any]]:
    """The same tasks. Each is announced to the system `ahead` tasks early, so that its bytes are there in
    time."""
    coming: deque[tuple[int, Any]] = deque()
    for index, task in tasks:
        if announce := streams[index].announce:
            announce(task)
        coming.append((index, task))
        if len(coming) > ahead:
            yield coming.popleft()


def _load(loads: Sequence[BlockLoad], item: tuple[int, Any]) -> NDArray[np.uint8]:
    index, task = item
    return loads[index](task)


def _blocks(
    streams: Sequence[Stream],
    waiting: deque[tuple[int, BlockPlan]],
    results: Iterator[tuple[Any, NDArray[np.uint8] | Failure]],
) -> Iterator[tuple[int, BlockPlan, NDArray[np.uint8]]]:
    """Whose block, its plan, and its pictures (n,2,3,S,S)."""
    while True:
        parts = [next(results)[1]]  # asking for it makes the plan
        index, plan = waiting.popleft()
        parts += [next(results)[1] for _ in plan.runs[1:]]
        yield index, plan, streams[index].joined(list(zip(plan.runs, parts, strict=True)))
        del parts


class HostMemory(NamedTuple):
    """Most bytes that reading takes beside a training: pairs in blocks, results on their way, processes."""

    blocks: float
    results: float
    processes: float

    @property
    def total(self) -> float:
        """All together."""
        return sum(self)


def host_memory(block_bytes: Sequence[int], unit_bytes: int, workers: int) -> HostMemory:
    """Of one rank that reads blocks of so many bytes, one a corpus, in units of at most `unit_bytes`.

    A block of each corpus is in use and one is ready; one more is put together, from parts of its size.
    """
    blocks = 2 * sum(block_bytes) + 2 * max(block_bytes)
    return HostMemory(blocks, (RESULTS_AHEAD * workers + 1) * unit_bytes, workers * WORKER_BYTES)


def memory_of(streams: Sequence[Stream], workers: int, world_size: int = 1) -> HostMemory:
    """What `joined_batches` takes at most on one rank."""
    blocks = [stream.block_pairs(world_size) * stream.pair_bytes for stream in streams]
    units = [max(map(len, stream.units)) * stream.pair_bytes for stream in streams]
    return host_memory(blocks, max(units), workers)
