"""Files that are read again later carry a digest, and are compared with it when they are found.

A file is hashed once per process, and again only when its size or time of change differ.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from uwm.files import inside

Digests = dict[str, dict[str, Any]]  # by name: {"sha256": 64 hex digits, "size": bytes}


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    status = path.stat()
    return _sha256(path, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, *stamp: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_of(folder: Path, names: Iterable[str]) -> Digests:
    """What to compare the named files of a folder with later."""
    paths = {name: folder / name for name in sorted(names)}
    return {name: {"sha256": sha256_of(path), "size": path.stat().st_size} for name, path in paths.items()}


def damage(folder: Path, digests: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What became of the first file that is no longer as `digests_of` saw it; None when all are.

    Raises:
        UserError: a name leads out of the folder.
    """
    for name, entry in digests.items():
        path = inside(folder, name)
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != entry["size"]:
            return f"{name} has {path.stat().st_size} bytes, not {entry['size']}"
        if sha256_of(path) != entry["sha256"]:
            return f"{name} was altered (another sha256)"
    return None
