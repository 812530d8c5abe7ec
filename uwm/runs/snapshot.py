"""A copy of the code in the run folder: a job runs what was submitted, however the tree changes meanwhile."""

import os
import shutil
import tempfile
from pathlib import Path

from uwm.runs.record import digest_of, file_sha256

_FILES = ("pyproject.toml", "requirements.lock", "results/schema.json")
_FOLDERS = ("uwm", "experiments")


def code_files(root: Path) -> list[Path]:
    """The files that count as code, relative to `root`, sorted. Assets are named by their own digests."""
    files = [Path(name) for name in _FILES if (root / name).is_file()]
    for folder in _FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            relative = path.relative_to(root)
            hidden = any(part == "__pycache__" or part.startswith(".") for part in relative.parts)
            if path.is_file() and not hidden and relative.parts[:2] != ("uwm", "assets"):
                files.append(relative)
    return sorted(files)


def code_digest(root: Path) -> str:
    """16 hex digits over the names and contents of the code files."""
    return digest_of({path.as_posix(): file_sha256(root / path) for path in code_files(root)})


def sources(root: Path, package: Path) -> dict[Path, Path]:
    """The files of a snapshot: those of `root`, and the package `uwm` where that lies elsewhere."""
    files = {path: root / path for path in code_files(root)}
    for path in code_files(package) if package != root else []:
        if path.parts[0] == "uwm" or path not in files:
            files[path] = package / path
    return files


def snapshot_digest(root: Path, package: Path) -> str:
    """The `code_digest` of the snapshot that `take_snapshot` would take."""
    return digest_of({path.as_posix(): file_sha256(file) for path, file in sources(root, package).items()})


def take_snapshot(root: Path, package: Path, work: Path) -> tuple[Path, str]:
    """Copy the code of `root` (and the package `uwm`, where that lies elsewhere) to `work/code-<digest>`.

    Assets (corpora, weights) are linked, not copied: what is read from them is checked by digest.
    Returns the folder and its digest. An existing equal snapshot is used again.
    """
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".code.", dir=work) as temporary:
        staging = Path(temporary) / "code"
        _copy_code(root, package, staging)
        digest = code_digest(staging)
        folder = work / f"code-{digest}"
        if not folder.is_dir():
            os.replace(staging, folder)
    return folder, digest


def _copy_code(root: Path, package: Path, staging: Path) -> None:
    for path, file in sources(root, package).items():
        (staging / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, staging / path)
    assets = package / "uwm" / "assets"
    if assets.is_dir():
        (staging / "uwm" / "assets").symlink_to(assets.resolve(), target_is_directory=True)
