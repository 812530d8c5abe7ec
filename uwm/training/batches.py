"""Streams of batches that are pure functions of the seed and the step: a resumed run sees the data of an
undisturbed one."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch

from uwm.data.draws import Draws
from uwm.errors import UserError

Batch = Any  # a tensor, or a tuple, list or dict of tensors


class BatchSource(Protocol):
    """Yields, from `start_step` on, the micro-batches of this rank: `accumulate` items per optimiser step."""

    def batches(self, start_step: int, rank: int, world_size: int) -> Iterator[Batch]: ...


def seeded_generator(*key: int, stream: int = 0) -> torch.Generator:
    """A CPU generator whose seed mixes all numbers of `key` (>= 0); different `stream`s never share draws."""
    state = np.random.SeedSequence(list(key), spawn_key=(stream,)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


@lru_cache(maxsize=4)
def _permutation(rows: int, epoch: int, seed: int) -> np.ndarray:
    order = np.random.default_rng(np.random.SeedSequence([seed, epoch])).permutation(rows)
    order.setflags(write=False)
    return order


def epoch_indices(rows: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Row numbers (batch_size,) int64 of the global batch of `step` (from 0).

    The steps read one endless stream of epochs, each a fresh permutation of the rows, so a batch may begin in
    one epoch and end in the next, and no row is dropped or drawn twice within an epoch.
    """
    if rows < 1:
        raise UserError("there is nothing to train on: the data set has no rows")
    epochs, indices = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), rows)
    parts = [_permutation(rows, int(epoch), seed)[indices[epochs == epoch]] for epoch in np.unique(epochs)]
    return np.concatenate(parts)


def micro_batch_size(batch_size: int, accumulate: int, world_size: int) -> int:
    """Samples per forward pass: the global batch is split over ranks, then over accumulated micro-batches."""
    pieces = world_size * accumulate
    if batch_size % pieces:
        raise UserError(
            f"batch_size {batch_size} can't be split over {world_size} processes x {accumulate} accumulated "
            f"micro-batches; choose a multiple of {pieces}"
        )
    return batch_size // pieces


class IndexSource:
    """Batches of a data set of `rows` rows, shuffled anew each epoch.

    `load(indices (b,) int64, draws) -> Batch` makes one micro-batch; random crops and flips come from its
    `draws`. With `workers` > 0 that many threads load ahead (`load` must then be thread-safe); the
    batches and their order are the same.
    """

    def __init__(
        self,
        rows: int,
        load: Callable[[torch.Tensor, Draws], Batch],
        *,
        batch_size: int,
        accumulate: int = 1,
        seed: int = 0,
        workers: int = 0,
    ) -> None:
        self.rows, self.load = rows, load
        self.batch_size, self.accumulate, self.seed, self.workers = batch_size, accumulate, seed, workers

    def batches(self, start_step: int, rank: int, world_size: int) -> Iterator[Batch]:
        requests = self.requests(start_step, rank, world_size)
        if not self.workers:
            for indices, draws in requests:
                yield self.load(indices, draws)
        else:
            yield from self._ahead(requests)

    def requests(self, start_step: int, rank: int, world_size: int) -> Iterator[tuple[torch.Tensor, Draws]]:
        """The arguments of `load`, micro-batch by micro-batch, without end."""
        size = micro_batch_size(self.batch_size, self.accumulate, world_size)
        step = start_step
        while True:
            rows = epoch_indices(self.rows, self.batch_size, step, self.seed)
            # Micro-batch by micro-batch, the ranks together see what one process would see. They take the
            # samples in turn, so that each part of a batch (an MAE's mask ratios) is shared evenly.
            share = rows.reshape(self.accumulate, size, world_size)[:, :, rank]  # (accumulate, size)
            for micro, indices in enumerate(share):
                generator = seeded_generator(self.seed, step, micro, 0, stream=1)  # for all ranks
                yield torch.from_numpy(indices.copy()), Draws(generator, rank, world_size)
            step += 1

    def _ahead(self, requests: Iterator[tuple[torch.Tensor, Draws]]) -> Iterator[Batch]:
        queue: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for request in requests:
                    queue.append(pool.submit(self.load, *request))
                    if len(queue) > self.workers:
                        yield queue.popleft().result()
            finally:
                for future in queue:
                    future.cancel()
