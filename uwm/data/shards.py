"""Prepared shards: pairs decoded once, as JPEG or raw pictures in plain tar files (the WebDataset form).

A shard `00000.tar` holds `KEY.0.jpg`, `KEY.1.jpg` (or `.npy`) and `KEY.json` (its manifest row) per pair.
Beside it lies `00000.json`: where each picture starts, a digest of each pair's pictures, what was skipped,
and the shard's size and sha256; it is written last, so a shard with it is complete. `index.json` closes the
folder once all shards are there, with the sha256 of both files of each.

A stream looks at the size of every shard when it opens a folder, and at the digest of every pair that it
reads: a file that was deleted, cut or changed is never passed over.
"""

import fcntl
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from uwm.data.bad_clips import BadClips
from uwm.data.decoders import BadVideo
from uwm.data.manifest import Manifest
from uwm.data.pairs import to_tensor
from uwm.errors import UserError
from uwm.files import replacing, write_atomically
from uwm.verified import sha256_of

FORMAT = 2  # 1 had neither digests of pairs nor sha256 in the index; such folders are still read
AGAIN = "the same command of uwm.data.prepare makes it again"
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


def write_shard(path: Path, samples: Iterable[Sample], skipped: list[tuple[str, str]]) -> None:
    """Write a tar whose bytes depend on the samples alone, then its description.

    `skipped` may grow while the samples are drawn.
    """
    rows, spans, digests = [], [], []
    with ExitStack() as held, replacing(path) as partial_path:
        file = held.enter_context(_locked(partial_path))  # until it has its name
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                key = f"{sample.row:09d}"
                span: list[int] = []
                for i, picture in enumerate(sample.pictures):
                    span += _add(tar, f"{key}.{i}.{'npy' if picture.startswith(NPY) else 'jpg'}", picture)
                _add(tar, f"{key}.json", dump(sample.card))
                rows.append(sample.row)
                spans.append(span)
                digests.append(pair_digest(sample.pictures))
        file.flush()
        sha256, size = sha256_of(partial_path), partial_path.stat().st_size
    description = {"rows": rows, "spans": spans, "digests": digests, "skipped": skipped, "bytes": size,
                   "sha256": sha256}  # fmt: skip
    write_atomically(path.with_suffix(".json"), dump(description))


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into, marked as being written; where the disk knows no locks, it is not.

    One that another run has meanwhile removed as a leftover is made again.
    """
    while True:
        with path.open("wb") as file:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            if _has_name(file):
                yield file
                return


def _has_name(file: IO[bytes]) -> bool:
    """False where it was removed meanwhile, if need be on another node."""
    try:
        return os.fstat(file.fileno()).st_nlink > 0
    except OSError:
        return False


def remove_leftovers(folder: Path) -> None:
    """Remove the shards that killed runs had begun to write, and nothing that another is writing now.

    Where the disk knows no locks, nothing is taken for a leftover.
    """
    for leftover in folder.glob(".[0-9]*.tar.*.tmp"):
        with suppress(OSError), leftover.open("r+b") as file:  # NFS locks files to write
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _has_name(file):  # else the name may be another's by now
                leftover.unlink()


def pair_digest(pictures: tuple[bytes, bytes]) -> str:
    """16 hex digits of the sha256 of both pictures."""
    return hashlib.sha256(pictures[0] + pictures[1]).hexdigest()[:16]


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> tuple[int, int]:
    """Append a file with fixed owner and date; returns where its bytes start, and how many they are."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return tar.offset - padded, len(data)


@dataclass(frozen=True)
class ShardIndex:
    """What `index.json` says of a folder of shards. `skipped` counts clips of which pairs are missing."""

    format: int
    corpus: str
    split: str
    manifest_sha256: str
    short_side: int
    quality: int
    shards: list[str]
    pairs: int
    skipped: int
    sha256: dict[str, str] = field(default_factory=dict)  # of each .tar and its .json
    listed: int = 0  # pairs of the manifest; in older folders 0

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
    """What lies beside a shard. `UserError` where it is missing or no description."""
    file = path.with_suffix(".json")
    try:
        shard: dict[str, Any] = json.loads(file.read_text())
        if not len(shard["rows"]) == len(shard["spans"]) == len(shard.get("digests", shard["rows"])):
            raise ValueError("its lists are of different lengths")
        return shard
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: cannot be read ({error})") from None


def shard_fault(path: Path, known: Mapping[str, str], *, whole: bool) -> str | None:
    """What is wrong with a shard, None if nothing: its description, its size, and if `whole` its sha256.

    `known` are the sha256 of an index, where there is one.
    """
    file = path.with_suffix(".json")
    try:
        described = describe_shard(path)
        size = path.stat().st_size
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{path}: {error.strerror}"
    if sha256_of(file) != known.get(file.name, sha256_of(file)):
        return f"{file}: was changed (its sha256 is another)"
    least = described.get("bytes") or max((span[2] + span[3] for span in described["spans"]), default=0)
    if size < least or size != described.get("bytes", size):
        return f"{path}: has {size} bytes of {least}"
    if whole and sha256_of(path) != described["sha256"]:
        return f"{path}: was changed (its sha256 is another)"
    return None


def check_shards(folder: Path, index: ShardIndex) -> None:
    """`UserError` naming the shards that are missing, cut or not those of the index. Reads no pictures."""
    checked = [shard_fault(folder / name, index.sha256, whole=False) for name in index.shards]
    if faults := [fault for fault in checked if fault]:
        raise UserError(f"{faults[0]} ({len(faults)} of {len(checked)} shards are damaged); {AGAIN}")


def read_spans(
    path: Path, spans: list[list[int]], digests: list[str] | None = None
) -> list[tuple[bytes, bytes]]:
    """The two pictures of some pairs of a shard; each span is (start, size, start, size).

    `BadVideo` where the file cannot be read, or a pair is not the one that was stored.
    """
    try:
        with path.open("rb") as file:
            pairs = [(_read(file, *span[:2]), _read(file, *span[2:])) for span in spans]
    except OSError as error:
        raise BadVideo(path, f"cannot be read: {error.strerror}") from None
    for pair, digest in zip(pairs, digests or [], strict=bool(digests)):
        if pair_digest(pair) != digest:
            raise BadVideo(path, f"was changed after it was made; {AGAIN}")
    return pairs


def _read(file: Any, start: int, size: int) -> bytes:
    file.seek(start)
    data: bytes = file.read(size)
    return data


def load_row(folder: Path, row: int) -> Tensor:
    """One stored pair by its manifest row: (2,3,H,W) uint8, uncropped. For looking at and testing."""
    for name in read_index(folder).shards:
        description = describe_shard(folder / name)
        if row in description["rows"]:
            [stored] = read_spans(folder / name, [description["spans"][description["rows"].index(row)]])
            return to_tensor(np.stack([decode_picture(picture) for picture in stored]))
    raise UserError(f"{folder}: no shard holds row {row}")


def folders_of_shards(root: Path) -> list[Path]:
    """The folders directly below `root` whose shards are finished."""
    return sorted(file.parent for file in root.glob("*/index.json"))


class NoShards(UserError):  # noqa: N818
    """There are no shards of a manifest."""


def find_shards(root: Path, manifest: Manifest, short_side: int, quality: int) -> Path:
    """The folder directly below `root` with the shards of this very manifest, at this size and quality.

    Never are other pairs or pictures taken instead. Pairs of damaged clips may be missing (`pairs_missing`).

    Raises:
        NoShards: there is no such folder.
        UserError: pairs are missing of more clips than may be bad, or for no reason.
    """
    expected = (manifest.sha256, short_side, quality)
    for folder in folders_of_shards(root):
        index = read_index(folder)
        if (index.manifest_sha256, index.short_side, index.quality) == expected:
            _check_pairs(folder, index, manifest)
            return folder
    raise NoShards(
        f"{root}: no folder holds shards of the manifest {manifest.sha256[:12]} at short side {short_side} "
        f"and quality {quality}"
    )


def _check_pairs(folder: Path, index: ShardIndex, manifest: Manifest) -> None:
    clips, missing = manifest.table["video"].nunique(), len(manifest.table) - index.pairs
    if missing and (not index.skipped or BadClips().too_many(index.skipped, clips)):
        raise UserError(
            f"{folder}: {missing} of the list's {len(manifest.table)} pairs are missing, of {index.skipped} "
            f"of {clips} clips, more than UWM_MAX_BAD_SHARE allows; start its uwm.data.prepare again"
        )


def pairs_missing(folder: Path, manifest: Manifest) -> str | None:
    """One line on the pairs of a manifest that its shards do not hold; None where they hold all."""
    index, listed = read_index(folder), len(manifest.table)
    if index.pairs == listed:
        return None
    return (
        f"{folder}: holds {index.pairs} of the list's {listed} pairs; those of {index.skipped} clips could "
        f"not be read ({folder / 'skipped.csv'})"
    )
