"""Endless batches of pairs for training, from videos or from prepared shards.

The order of an epoch is a pure function of (seed, epoch), and the crop and flip of a pair of (seed, epoch,
place in the manifest). So neither the number of workers nor a restart in the middle changes what is seen.

Pairs come in units that are cheap to read together: a *visit* (pairs of one open video) or a shard. Each
epoch shuffles the units, lays their pairs in a row, gives each rank an equal stretch of it, and shuffles the
stretch in blocks of `buffer` pairs, so that the pairs of a unit end up in different batches.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from uwm.data.bad_clips import BadClips
from uwm.data.corpora import Corpus
from uwm.data.manifest import Manifest
from uwm.data.pairs import resize_short_side, to_tensor
from uwm.data.pool import BlockPlan, Rows, joined_batches
from uwm.data.sampling import VISIT_SECONDS
from uwm.data.video import DecoderName, read_frames
from uwm.data.workers import Failure
from uwm.errors import UserError

BUFFER = 1024  # pairs of a rank that are shuffled together
PER_VISIT = 8  # pairs of a video that are decoded together


@dataclass(frozen=True)
class Crop:
    """Short side to `short_side`, then the same random crop and flip of both frames of a pair."""

    image_size: int
    short_side: int
    seed: int = 0
    flip: bool = True

    @property
    def pair_bytes(self) -> int:
        """Of both pictures of a pair, uint8."""
        return 2 * 3 * self.image_size**2

    def __call__(self, pair: Tensor, epoch: int, row: int) -> Tensor:
        """(2,3,H,W) uint8 with a short side of `short_side` -> (2,3,S,S)."""
        size = self.image_size
        draw = np.random.default_rng([self.seed, epoch, row])
        top = int(draw.integers(pair.shape[-2] - size + 1))
        left = int(draw.integers(pair.shape[-1] - size + 1))
        pair = pair[..., top : top + size, left : left + size]
        return pair.flip(-1) if self.flip and draw.random() < 0.5 else pair


def crop_all(crop: Crop, frames: Tensor, epoch: int, rows: Sequence[int]) -> NDArray[np.uint8]:
    """(2m,3,H,W) frames of `rows` -> (m,2,3,S,S) array."""
    pairs = frames.unflatten(0, (-1, 2))  # (m,2,3,H,W)
    size = crop.image_size
    out = np.empty((len(rows), 2, 3, size, size), np.uint8)
    for i, row in enumerate(rows):
        out[i] = crop(pairs[i], epoch, row).numpy()
    return out


@dataclass(frozen=True)
class Visit:
    """Some pairs of one video: rows of the manifest, with frames (m,2) and times (m,2)."""

    video: str
    rows: Rows
    frames: NDArray[np.int64]
    times: NDArray[np.float64]
    epoch: int = 0


def visits(table: pd.DataFrame, pairs_per_visit: int) -> list[Visit]:
    """Cut a manifest into visits: at most so many pairs of one video that start within `VISIT_SECONDS`."""
    video = table["video"].to_numpy()
    frames = table[["frame0", "frame1"]].to_numpy(np.int64)
    times = table[["t0", "t1"]].to_numpy(np.float64)
    all_visits, start = [], 0
    for i in range(1, len(table) + 1):
        far = i < len(table) and (video[i] != video[start] or times[i, 0] - times[start, 0] > VISIT_SECONDS)
        if i == len(table) or far or i - start == pairs_per_visit:
            rows = np.arange(start, i)
            all_visits.append(Visit(str(video[start]), rows, frames[rows], times[rows]))
            start = i
    return all_visits


def decode_visit(folder: Path, short_side: int, decoder: DecoderName, visit: Visit) -> Tensor:
    """All frames of a visit: (2m,3,H,W) uint8 with the wanted short side; every frame is decoded once."""
    frames, inverse = np.unique(visit.frames.reshape(-1), return_inverse=True)  # (2m,) -> (u,), (2m,)
    times = np.empty(len(frames))
    times[inverse] = visit.times.reshape(-1)
    decoded = read_frames(folder / visit.video, frames.tolist(), times=times.tolist(), decoder=decoder)
    return resize_short_side(to_tensor(decoded), short_side)[torch.from_numpy(inverse)]


def _load_visit(folder: Path, crop: Crop, decoder: DecoderName, visit: Visit) -> NDArray[np.uint8]:
    one_thread_in_workers()
    frames = decode_visit(folder, crop.short_side, decoder, visit)
    return crop_all(crop, frames, visit.epoch, visit.rows.tolist())


def one_thread_in_workers() -> None:
    if torch.multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)


@dataclass
class PairStream:
    """A source of batches (b,2,3,S,S) uint8 for the training loop: `batches(start_step, rank, world_size)`.

    `units` are the rows that are read together, `task(unit, rows, epoch)` makes what `load` reads, and `load`
    gives the pictures of those rows. `batch_size` counts over all ranks. A unit that cannot be read is named
    in `bad.skipped` and on stderr, and other pairs of the same block stand in for its pairs, which `report`
    counts; too many stop the run.
    """

    units: list[Rows]
    names: list[str]
    task: Callable[[int, Rows, int], Any]
    load: Callable[[Any], NDArray[np.uint8]]
    batch_size: int
    seed: int = 0
    workers: int = 0
    buffer: int = BUFFER
    pair_bytes: int = 0  # of the two pictures of a pair
    announce: Callable[[Any], None] | None = None  # of a task that is read soon
    bad: BadClips = field(default_factory=BadClips)

    def __post_init__(self) -> None:
        self.pairs = sum(len(unit) for unit in self.units)
        if self.pairs < self.batch_size:
            raise UserError(f"{self.pairs} pairs do not fill a batch of {self.batch_size}")
        self._read = 0
        self.pairs_read = self.pairs_replaced = 0

    def report(self) -> dict[str, Any]:
        """What was read so far, for a log or a record: pairs, those that others stood in for, and why."""
        return {
            "pairs_read": self.pairs_read,
            "pairs_replaced": self.pairs_replaced,
            "skipped": list(self.bad.skipped),
        }

    def steps_per_epoch(self, world_size: int = 1) -> int:
        return self.pairs // world_size // self._local(world_size)

    def _local(self, world_size: int) -> int:
        if self.batch_size % world_size:
            raise UserError(f"a batch of {self.batch_size} cannot be shared by {world_size} ranks")
        return self.batch_size // world_size

    def batches(self, start_step: int = 0, rank: int = 0, world_size: int = 1) -> Iterator[Tensor]:
        """Endless: a rank's share (b,2,3,S,S) uint8 of each step, from `start_step` on."""
        return joined_batches([self], self.workers, (start_step, rank, world_size))

    def plans(self, start_step: int, rank: int, world_size: int) -> Iterator[BlockPlan]:
        """Endless: the blocks that a rank reads, epoch after epoch; none without a whole batch."""
        local = self._local(world_size)
        steps = self.block_pairs(world_size) // local  # per block, so that each batch lies in one block
        epoch, step = divmod(start_step, self.steps_per_epoch(world_size))
        while True:
            first, skip = divmod(step, steps)
            for number, block in enumerate(self.blocks(epoch, rank, world_size, steps * local)):
                if number < first:
                    continue
                shuffle = np.random.default_rng([self.seed, epoch, rank, number]).permutation(len(block))
                starts = range(skip * local, len(block) - local + 1, local)
                batches, skip = [shuffle[start : start + local] for start in starts], 0
                if batches:
                    runs = _runs(block)
                    yield BlockPlan(
                        runs, [self.task(int(run[0, 0]), run[:, 1], epoch) for run in runs], batches
                    )
            epoch, step = epoch + 1, 0

    def block_pairs(self, world_size: int = 1) -> int:
        """Pairs of a block of one rank."""
        return -(-self.buffer // self._local(world_size)) * self._local(world_size)

    def blocks(self, epoch: int, rank: int, world_size: int, size: int) -> list[Rows]:
        """One rank's epoch, in blocks of (unit, row) (n,2) before the shuffle inside each."""
        sequence = np.random.default_rng([self.seed, epoch]).permutation(len(self.units))
        units = np.repeat(sequence, [len(self.units[unit]) for unit in sequence])
        rows = np.concatenate([self.units[unit] for unit in sequence])
        length = self.pairs // world_size
        share = np.stack([units, rows], axis=1)[rank * length : (rank + 1) * length]  # (length, 2)
        return [share[start : start + size] for start in range(0, length, size)]

    def joined(self, parts: list[tuple[Rows, NDArray[np.uint8] | Failure]]) -> NDArray[np.uint8]:
        """The pictures of a block (n,2,3,S,S); the good pairs stand in for those that could not be read."""
        self._read += len(parts)
        for run, part in parts:
            name = self.names[run[0, 0]]
            self.pairs_read += len(run)
            if not isinstance(part, Failure):
                continue
            self.pairs_replaced += len(run)
            if name not in dict(self.bad.skipped):
                self.bad.add(name, part.reason)
                print(f"skipped {name}: {part.reason}; other pairs stand in for it", file=sys.stderr)
        self.bad.check(self._read)
        good = [part for _, part in parts if not isinstance(part, Failure)]
        if not good:
            first = ": ".join(self.bad.skipped[0])
            raise UserError(f"none of {len(parts)} videos in a row can be read; the first: {first}")
        block = np.concatenate(good)
        length = sum(len(run) for run, _ in parts)
        return block if length == len(block) else block[np.arange(length) % len(block)]


def _runs(block: Rows) -> list[Rows]:
    """Cut a block of (unit, row) into stretches of one unit."""
    return np.split(block, np.flatnonzero(np.diff(block[:, 0])) + 1)


def video_stream(
    corpus: Corpus,
    manifest: Manifest,
    image_size: int,
    batch_size: int,
    *,
    short_side: int | None = None,
    seed: int = 0,
    workers: int = 0,
    buffer: int = BUFFER,
    pairs_per_visit: int = PER_VISIT,
    decoder: DecoderName = "auto",
) -> PairStream:
    """Pairs decoded live. `short_side` is by default 8/7 of the crop (256 for 224)."""
    crop = Crop(image_size, short_side or round(image_size * 8 / 7), seed)
    all_visits = visits(manifest.table, pairs_per_visit)
    load = partial(_load_visit, corpus.folder, crop, decoder)
    task = partial(_visit_task, all_visits)
    names = [visit.video for visit in all_visits]
    rows, size = [visit.rows for visit in all_visits], crop.pair_bytes
    return PairStream(rows, names, task, load, batch_size, seed, workers, buffer, size)


def _visit_task(all_visits: list[Visit], unit: int, rows: Rows, epoch: int) -> Visit:
    visit = all_visits[unit]
    index = rows - visit.rows[0]
    return Visit(visit.video, rows, visit.frames[index], visit.times[index], epoch)
