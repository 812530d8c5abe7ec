"""Prepared shards: pairs decoded once, as JPEG or raw pictures in plain tar files (the WebDataset form).

A shard `00000.tar` holds `KEY.0.jpg`, `KEY.1.jpg` (or `.npy`) and `KEY.json` (its manifest row) per pair.
Beside it lies `00000.json`: where each picture starts, what was skipped, and the shard's sha256; it is
written last, so a shard with it is complete. `index.json` closes the folder once all shards are there.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from uwm.data.decoders import BadVideo
from uwm.data.manifest import Manifest
from uwm.data.pairs import to_tensor
from uwm.data.stream import Crop, PairStream, Rows, crop_all, one_thread_in_workers
from uwm.errors import UserError

FORMAT = 1
NPY = b"\x93NUMPY"


@dataclass(frozen=True)
class Sample:
    """One pair as it is stored: its row in the manifest, what is known of it, and the two pictures."""

    row: int
    card: dict[str, Any]
    pictures: tuple[bytes, bytes]


def encode_picture(image: NDArray[np.uint8], quality: int) -> bytes:
    """(H,W,3) -> JPEG with halved colour resolution, as the videos have it; quality 0 -> raw, as `.npy`."""
    buffer = io.BytesIO()
    if quality:
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling="4:2:0")
    else:
        np.save(buffer, image, allow_pickle=False)
    return buffer.getvalue()


def decode_picture(data: bytes) -> NDArray[np.uint8]:
    """(H,W,3) of either form."""
    if data.startswith(NPY):
        raw: NDArray[np.uint8] = np.load(io.BytesIO(data), allow_pickle=False)
        return raw
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def dump(value: Any) -> bytes:
    return (json.dumps(value, sort_keys=True, allow_nan=False) + "\n").encode()


def write_atomically(path: Path, data: bytes) -> None:
    partial_path = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial_path.write_bytes(data)
    os.replace(partial_path, path)


def write_shard(path: Path, samples: Iterable[Sample], skipped: list[tuple[str, str]]) -> None:
    """Write a tar whose bytes depend on the samples alone, then its description.

    `skipped` may grow while the samples are drawn.
    """
    partial_path = path.with_name(f"{path.name}.partial")
    rows, spans = [], []
    with tarfile.open(partial_path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            key = f"{sample.row:09d}"
            span: list[int] = []
            for i, picture in enumerate(sample.pictures):
                span += _add(tar, f"{key}.{i}.{'npy' if picture.startswith(NPY) else 'jpg'}", picture)
            _add(tar, f"{key}.json", dump(sample.card))
            rows.append(sample.row)
            spans.append(span)
    with partial_path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    os.replace(partial_path, path)
    description = {"rows": rows, "spans": spans, "skipped": skipped, "sha256": sha256}
    write_atomically(path.with_suffix(".json"), dump(description))


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> tuple[int, int]:
    """Append a file with fixed owner and date; returns where its bytes start, and how many they are."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return tar.offset - padded, len(data)


@dataclass(frozen=True)
class ShardIndex:
    """What `index.json` says of a folder of shards."""

    format: int
    corpus: str
    split: str
    manifest_sha256: str
    short_side: int
    quality: int
    shards: list[str]
    pairs: int
    skipped: int

    def write(self, folder: Path) -> None:
        write_atomically(folder / "index.json", dump(asdict(self)))


def read_index(folder: Path) -> ShardIndex:
    """`UserError` when the folder is no finished set of shards."""
    try:
        return ShardIndex(**json.loads((folder / "index.json").read_text()))
    except FileNotFoundError:
        raise UserError(f"{folder}: no index.json; make or finish it: python -m uwm.data.prepare") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder / 'index.json'}: not the index of prepared shards ({error})") from None


def describe_shard(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path.with_suffix('.json')}: cannot be read ({error}); prepare it again") from None


def read_spans(path: Path, spans: list[list[int]]) -> list[tuple[bytes, bytes]]:
    """The two pictures of some pairs of a shard; each span is (start, size, start, size)."""
    try:
        with path.open("rb") as file:
            return [(_read(file, *span[:2]), _read(file, *span[2:])) for span in spans]
    except OSError as error:
        raise BadVideo(path, f"cannot be read: {error.strerror}") from None


def _read(file: Any, start: int, size: int) -> bytes:
    file.seek(start)
    data: bytes = file.read(size)
    return data


@dataclass(frozen=True)
class ShardTask:
    path: Path
    rows: list[int]
    spans: list[list[int]]
    epoch: int


def _load_rows(crop: Crop, task: ShardTask) -> NDArray[np.uint8]:
    """(m,2,3,S,S) of some rows of one shard."""
    one_thread_in_workers()
    out = np.empty((len(task.rows), 2, 3, crop.image_size, crop.image_size), np.uint8)
    try:
        for i, (row, stored) in enumerate(zip(task.rows, read_spans(task.path, task.spans), strict=True)):
            frames = to_tensor(np.stack([decode_picture(picture) for picture in stored]))  # (2,3,H,W)
            out[i] = crop_all(crop, frames, task.epoch, [row])[0]
    except (OSError, ValueError, SyntaxError) as error:
        raise BadVideo(task.path, f"holds a broken picture ({error})") from None
    return out


def load_row(folder: Path, row: int) -> Tensor:
    """One stored pair by its manifest row: (2,3,H,W) uint8, uncropped. For looking at and testing."""
    for name in read_index(folder).shards:
        description = describe_shard(folder / name)
        if row in description["rows"]:
            [stored] = read_spans(folder / name, [description["spans"][description["rows"].index(row)]])
            return to_tensor(np.stack([decode_picture(picture) for picture in stored]))
    raise UserError(f"{folder}: no shard holds row {row}")


def shard_stream(
    folder: Path | str,
    image_size: int,
    batch_size: int,
    *,
    seed: int = 0,
    workers: int = 0,
    buffer: int = 1024,
    piece: int = 64,
) -> PairStream:
    """The stream of `uwm.data.stream` from prepared shards: same interface, same crops for the same rows.

    A shard is read in pieces of `piece` neighbouring pairs, shuffled among those of all shards.
    """
    root = Path(folder)
    index = read_index(root)
    crop = Crop(image_size, index.short_side, seed)
    units: list[Rows] = []
    spans: list[Rows] = []
    names: list[str] = []
    for name in index.shards:
        description = describe_shard(root / name)
        rows = np.asarray(description["rows"], np.int64)
        cuts = range(piece, len(rows), piece)
        units += np.split(rows, cuts)
        spans += np.split(np.asarray(description["spans"], np.int64).reshape(-1, 4), cuts)
        names += [name] * (len(cuts) + 1)
    task = partial(_shard_task, root, names, units, spans)
    return PairStream(units, names, task, partial(_load_rows, crop), batch_size, seed, workers, buffer)


def _shard_task(
    root: Path, names: list[str], units: list[Rows], spans: list[Rows], unit: int, rows: Rows, epoch: int
) -> ShardTask:
    first = int(np.flatnonzero(units[unit] == rows[0])[0])  # `rows` is a stretch of the unit's
    wanted = spans[unit][first : first + len(rows)]
    return ShardTask(root / names[unit], rows.tolist(), wanted.tolist(), epoch)


def find_shards(root: Path, manifest: Manifest, short_side: int, quality: int) -> Path:
    """The folder directly below `root` with the shards of this very manifest, at this size and quality.

    Raises `UserError` where there is none: never are other pairs or pictures taken instead.
    """
    wanted = (manifest.sha256, short_side, quality)
    for file in sorted(root.glob("*/index.json")):
        index = read_index(file.parent)
        if (index.manifest_sha256, index.short_side, index.quality) == wanted:
            return file.parent
    raise UserError(
        f"{root}: no folder holds shards of the manifest {manifest.sha256[:12]} at short side {short_side} "
        f"and quality {quality}"
    )
