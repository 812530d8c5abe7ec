"""Manifests kept between runs: making one reads every file of a split once, which takes hours for Ego4D."""

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from uwm.data.corpora import Corpus
from uwm.data.manifest import (
    Manifest,
    build_manifest,
    read_manifest,
    read_skipped,
    skipped_path,
    write_manifest,
    write_skipped,
)
from uwm.data.robomimic.hdf5 import split_path
from uwm.errors import UserError
from uwm.files import write_atomically
from uwm.garbage import no_collection
from uwm.verified import damage, digests_of

VERSION = 2  # raise it when the same files and arguments come to give other pairs


def cached_manifest(
    cache: Path, corpus: Corpus, split: str, *, workers: int = 0, **arguments: Any
) -> Manifest:
    """`build_manifest(corpus, split, **arguments)`, or what it made of the same files before, from `cache`.

    A file counts as the same while its path, size and time of change are. `workers` only makes it faster.
    A run that was stopped goes on where it was. Of several processes, such as the ranks of a training, one
    makes it and the others wait.
    """
    path = kept_manifest(cache, corpus, split, arguments)
    if _is_whole(path):
        return _kept(path)
    cache.mkdir(parents=True, exist_ok=True)
    before = _stamp(str(digests_path(path)))
    with _one_at_a_time(path.with_suffix(".lock")):
        if _stamp(str(digests_path(path))) != before:  # another process made it meanwhile
            return _kept(path)
        return _made(path, corpus, split, workers, arguments)


def _kept(path: Path) -> Manifest:
    return Manifest(read_manifest(path).table, read_skipped(path))


@contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    """Others that come meanwhile wait. Where the disk knows no locks, each makes the same file."""
    with file.open("w") as opened:
        with suppress(OSError):
            fcntl.flock(opened, fcntl.LOCK_EX)
        yield


def _made(path: Path, corpus: Corpus, split: str, workers: int, arguments: dict[str, Any]) -> Manifest:
    cache, journal = path.parent, path.with_suffix(".journal")
    manifest = build_manifest(
        corpus, split, workers=workers, progress=workers > 0, journal=journal, **arguments
    )
    write_skipped(manifest.skipped, skipped_path(path))
    write_manifest(manifest, path)
    digests = digests_of(cache, [path.name, skipped_path(path).name])
    write_atomically(digests_path(path), json.dumps(digests, indent=1) + "\n")
    journal.unlink(missing_ok=True)
    return manifest


def kept_manifest(cache: Path, corpus: Corpus, split: str, arguments: dict[str, Any]) -> Path:
    """Where `cached_manifest` keeps what it makes."""
    return cache / f"{corpus.name}-{split}-{files_key(corpus, split, arguments)}.csv"


def digests_path(manifest: Path) -> Path:
    """Beside a kept manifest: what its files must be."""
    return manifest.with_suffix(".digests.json")


def _is_whole(path: Path) -> bool:
    """Is the kept manifest there as it was written? One that was cut or edited is said and made again."""
    if not path.is_file():
        return False
    try:
        reason = damage(path.parent, json.loads(digests_path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
        reason = "its digests cannot be read"
    if reason:
        print(f"manifest {path}: {reason}; making it again", file=sys.stderr)
    return reason is None


def files_key(corpus: Corpus, split: str, arguments: dict[str, Any]) -> str:
    """What a list of pairs is made of: the split's files as they are now, and the arguments. Opens none."""
    folder = str(corpus.folder)  # text: a `Path` for each of 200,000 files would take seconds
    with no_collection():
        files = [(clip.path, clip.cuts, *_stamp(f"{folder}/{clip.path}")) for clip in corpus.of(split)]
    text = json.dumps([VERSION, split, sorted(arguments.items()), files], allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stamp(path: Path | str) -> tuple[int, int]:
    """Size and time of change, of the file itself or the one that it lies in; (0, 0) for a missing file."""
    try:
        status = os.stat(path)
    except OSError:
        inside = split_path(path)
        if inside is None:
            return 0, 0
        status = inside[0].stat()
    return status.st_size, status.st_mtime_ns
