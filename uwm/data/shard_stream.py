"""The stream of training batches from prepared shards."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uwm.data.decoders import BadVideo
from uwm.data.pairs import to_tensor
from uwm.data.pool import Rows
from uwm.data.shards import check_shards, decode_picture, describe_shard, read_index, read_spans
from uwm.data.stream import BUFFER, Crop, PairStream, crop_all, one_thread_in_workers

PIECE = 64  # pairs of a shard that are read together


@dataclass(frozen=True)
class ShardTask:
    path: Path
    rows: list[int]
    spans: list[list[int]]
    digests: list[str]
    epoch: int


def _load_rows(crop: Crop, task: ShardTask) -> NDArray[np.uint8]:
    """(m,2,3,S,S) of some rows of one shard."""
    one_thread_in_workers()
    out = np.empty((len(task.rows), 2, 3, crop.image_size, crop.image_size), np.uint8)
    try:
        pairs = read_spans(task.path, task.spans, task.digests)
        for i, (row, stored) in enumerate(zip(task.rows, pairs, strict=True)):
            frames = to_tensor(np.stack([decode_picture(picture) for picture in stored]))  # (2,3,H,W)
            out[i] = crop_all(crop, frames, task.epoch, [row])[0]
    except (OSError, ValueError, SyntaxError) as error:
        raise BadVideo(task.path, f"holds a broken picture ({error})") from None
    return out


def shard_stream(
    folder: Path | str,
    image_size: int,
    batch_size: int,
    *,
    seed: int = 0,
    workers: int = 0,
    buffer: int = BUFFER,
    piece: int = PIECE,
) -> PairStream:
    """The stream of `uwm.data.stream` from prepared shards: same interface, same crops for the same rows.

    A shard is read in pieces of `piece` neighbouring pairs, shuffled among those of all shards.
    """
    root = Path(folder)
    index = read_index(root)
    check_shards(root, index)
    crop = Crop(image_size, index.short_side, seed)
    units = [unit for name in index.shards for unit in _units(root / name, piece)]
    task = partial(_shard_task, units)
    names = [unit.path.name for unit in units]
    rows = [unit.rows for unit in units]
    load = partial(_load_rows, crop)
    size = crop.pair_bytes
    return PairStream(rows, names, task, load, batch_size, seed, workers, buffer, size, announce=_announce)


def _announce(task: ShardTask) -> None:
    """Ask the system for the bytes of a task; a disk far away takes longer than decoding."""
    spans = np.asarray(task.spans).reshape(-1, 2)  # (2m, 2): start, size
    if not hasattr(os, "posix_fadvise") or not len(spans):
        return
    first, end = int(spans[:, 0].min()), int(spans.sum(1).max())
    try:
        with task.path.open("rb") as file:
            os.posix_fadvise(file.fileno(), first, end - first, os.POSIX_FADV_WILLNEED)
    except OSError:  # whoever reads it says so
        return


@dataclass(frozen=True)
class _Unit:
    """Neighbouring pairs of one shard: rows (m,), spans (m,4), digests (m,) or none in an old folder."""

    path: Path
    rows: Rows
    spans: Rows
    digests: list[str]


def _units(path: Path, piece: int) -> list[_Unit]:
    described = describe_shard(path)
    rows = np.asarray(described["rows"], np.int64)
    spans = np.asarray(described["spans"], np.int64).reshape(-1, 4)
    digests = described.get("digests", [])
    starts = range(0, max(len(rows), 1), piece)
    return [_Unit(path, rows[i : i + piece], spans[i : i + piece], digests[i : i + piece]) for i in starts]


def _shard_task(units: list[_Unit], unit: int, rows: Rows, epoch: int) -> ShardTask:
    chosen = units[unit]
    first = int(np.flatnonzero(chosen.rows == rows[0])[0])  # `rows` is a stretch of the unit's
    part = slice(first, first + len(rows))
    return ShardTask(chosen.path, rows.tolist(), chosen.spans[part].tolist(), chosen.digests[part], epoch)
