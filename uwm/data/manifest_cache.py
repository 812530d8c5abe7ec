"""Manifests kept between runs: making one reads every file of a split once, which takes hours for Ego4D."""

import hashlib
import json
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

VERSION = 2  # raise it when the same files and arguments come to give other pairs


def cached_manifest(
    cache: Path, corpus: Corpus, split: str, *, workers: int = 0, **arguments: Any
) -> Manifest:
    """`build_manifest(corpus, split, **arguments)`, or what it made of the same files before, from `cache`.

    A file counts as the same while its path, size and time of change are. `workers` only makes it faster.
    """
    path = cache / f"{corpus.name}-{split}-{_key(corpus, split, arguments)}.csv"
    if path.is_file():
        return Manifest(read_manifest(path).table, read_skipped(path))
    manifest = build_manifest(corpus, split, workers=workers, progress=workers > 0, **arguments)
    cache.mkdir(parents=True, exist_ok=True)
    write_skipped(manifest.skipped, skipped_path(path))
    write_manifest(manifest, path)
    return manifest


def _key(corpus: Corpus, split: str, arguments: dict[str, Any]) -> str:
    files = [(clip.path, clip.cuts, *_stamp(corpus.file(clip))) for clip in corpus.of(split)]
    text = json.dumps([VERSION, split, sorted(arguments.items()), files], allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change, of the file itself or the one that it lies in; (0, 0) for a missing file."""
    if inside := split_path(path):
        path = inside[0]
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns
