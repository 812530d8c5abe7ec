"""Checkpoints that survive a kill, a full disk and a damaged file.

A checkpoint is one file, `run_dir/checkpoints/step-00000120-<digest>.pt`, written by `torch.save`. The digest
in its name is the start of the SHA-256 of its bytes, so that name and content appear together with one
rename, and a file that was cut short or altered is recognised without a second file beside it.
"""

import hashlib
import io
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from uwm.errors import UserError

log = logging.getLogger(__name__)

KEEP = 2
_DIGEST_CHARACTERS = 16
_NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.pt")


def checkpoint_files(run_dir: Path) -> list[Path]:
    """The checkpoint files of a run, oldest step first, valid or not."""
    folder = run_dir / "checkpoints"
    files = []
    for path in folder.glob("step-*.pt"):
        if _NAME.fullmatch(path.name):
            with suppress(FileNotFoundError):  # the training that is watched removed it just now
                files.append((_step(path), path.stat().st_mtime_ns, path))
    return [path for _, _, path in sorted(files)]


def save_checkpoint(run_dir: Path, step: int, state: dict[str, Any]) -> Path:
    """Write `state` (tensors, numbers, strings, dicts, lists) as the checkpoint of `step`; keep the last two.

    The file is complete on disk before it gets its name. Raises `UserError` when it can't be written (disk
    full, no permission); the checkpoints that were there stay valid.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    path = run_dir / "checkpoints" / f"step-{step:08d}-{_digest(payload)}.pt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, payload)
    except OSError as error:
        raise UserError(
            f"cannot save checkpoint {path}: {error.strerror}; mend that and start again: "
            f"training goes on from {_last_name(run_dir)}"
        ) from error
    _prune(run_dir, path)
    return path


def newest_file(run_dir: Path) -> Path | None:
    """The newest valid checkpoint file, or None where there is none.

    Damaged files are passed over, each with one warning line that names it.
    """
    return next((path for path in reversed(checkpoint_files(run_dir)) if _is_whole(path)), None)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state stored in a valid checkpoint file, tensors on the CPU."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _is_whole(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        log.warning("passing over checkpoint %s: %s", path, error.strerror)
        return False
    whole = digest.startswith(path.stem.split("-")[2])
    if not whole:
        log.warning("passing over checkpoint %s: damaged or cut short (its digest differs)", path)
    return whole


def _digest(payload: bytes | memoryview) -> str:
    return hashlib.sha256(payload).hexdigest()[:_DIGEST_CHARACTERS]


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])


def _last_name(run_dir: Path) -> str:
    files = checkpoint_files(run_dir)
    return str(files[-1]) if files else "its first step (no checkpoint yet)"


def _write(path: Path, payload: memoryview) -> None:
    """Temporary name, fsync, rename, fsync of the folder: a power cut leaves the old or the new state."""
    temporary = path.with_suffix(".tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _prune(run_dir: Path, written: Path) -> None:
    """Keep the file just written and the ones before it, `KEEP` in all.

    Other files of this or a later step are damaged (a valid one would have been resumed from), and temporary
    files belong to a killed process.
    """
    step = _step(written)
    older = [path for path in checkpoint_files(run_dir) if _step(path) < step]
    keep = {written, *older[-(KEEP - 1) :]}
    for path in written.parent.iterdir():
        if path not in keep and (path.suffix == ".tmp" or _NAME.fullmatch(path.name)):
            path.unlink(missing_ok=True)
