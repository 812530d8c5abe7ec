"""What computed a number: code, environment and command, with no host name and no home path."""

import hashlib
import platform
import resource
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from uwm.env import records_graphs
from uwm.runs.record import file_sha256


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def file_blob(path: Path) -> str | None:
    """Git's hash of the file's content, computed without git."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def code_provenance(root: Path, experiment_file: Path) -> dict[str, Any]:
    """The record's `code` field; its git parts are null outside a git checkout of this repository."""
    commit, top = _git(root, "rev-parse", "HEAD"), _git(root, "rev-parse", "--show-toplevel")
    ours = commit is not None and top is not None and Path(top).resolve() == root.resolve()
    changes = _git(root, "status", "--porcelain", "--", "uwm", "experiments") if ours else None
    return {
        "commit": commit if ours else None,
        "uwm_tree": _git(root, "rev-parse", "HEAD:uwm") if ours else None,
        "experiment_blob": file_blob(experiment_file),
        "dirty": None if changes is None else bool(changes),
    }


def device_name() -> str:
    """Name of the device that computes: the GPU's, or `cpu` (also where the experiment uses no torch)."""
    torch = sys.modules.get("torch")  # importing it takes seconds; who computes with it has imported it
    if torch is None:
        return "cpu"
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"


def environment(root: Path) -> dict[str, Any]:
    """The record's `env` field."""
    graphs = {"graphs": True} if records_graphs() else {}
    lock = root / "requirements.lock"
    try:
        torch_version: str | None = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch_version = None
    return {
        "python": platform.python_version(),
        "torch": torch_version,
        "device": device_name(),
        "lock_sha256": file_sha256(lock) if lock.is_file() else None,
        **graphs,
    }


def shown_path(text: str, root: Path) -> str:
    """A path as a record may show it: relative to the repository, or its last component only."""
    path = Path(text).absolute()
    if path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return path.name


def _shown_value(flag: str, value: str, root: Path) -> str:
    if flag in ("--data", "--method"):
        name, _, path = value.partition("=")
        return f"{name}={Path(path).name}"
    return shown_path(value, root) if flag in ("--out", "--site") else value


def shown_command(script: Path, arguments: list[str], root: Path) -> str:
    """The command line relative to the repository; folders elsewhere shrink to their last component."""
    words, flag = ["python", shown_path(str(script), root)], ""
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            words.append(f"{flag}={_shown_value(flag, value, root)}" if equals else flag)
        else:
            words.append(_shown_value(flag, argument, root))
    return shlex.join(words)


def peak_gb() -> float:
    """Largest resident memory of this process so far, 10^9 bytes."""
    usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage * (1 if sys.platform == "darwin" else 1024) / 1e9
