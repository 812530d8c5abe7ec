"""The folder of a finished stage: `stage.json` says what it is and what bytes each of its files had."""

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uwm.errors import UserError
from uwm.files import remove_listed, write_atomically
from uwm.verified import damage, digests_of

STAGE_FILE = "stage.json"
WORKING = "run"  # checkpoints and logs of a training: listed, not compared
NAMED = re.compile(r"(?P<name>.+)-(?P<digest>[0-9a-f]{16})")  # a stage's folder


class DamagedStage(Exception):  # noqa: N818 (the name says what happened)
    """A finished stage's files are not what they were. The message is one line and names the file."""


def files_of(folder: Path) -> list[str]:
    """All files of a folder but `stage.json`, relative, sorted."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path != folder / STAGE_FILE)
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def write_stage(folder: Path, description: Mapping[str, Any], finished: float | None = None) -> None:
    """Leave `stage.json`: the description and the digests of the files that are there now."""
    names = files_of(folder)
    kept = [name for name in names if not name.startswith(f"{WORKING}/")]
    content = {
        **description,
        "finished": time.time() if finished is None else finished,
        "files": digests_of(folder, kept),
        "working_files": [name for name in names if name not in kept],
    }
    write_atomically(folder / STAGE_FILE, json.dumps(content, indent=1) + "\n")


def read_stage(folder: Path) -> dict[str, Any]:
    """The content of a folder's `stage.json`. DamagedStage where it is none, or another folder's."""
    try:
        content = json.loads((folder / STAGE_FILE).read_text(encoding="utf-8"))
        name = f"{content['name']}-{content['digest']}"
        float(content["finished"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedStage(f"{folder / STAGE_FILE} cannot be read ({_short(error)})") from error
    if folder.name != name:
        raise DamagedStage(f"{folder / STAGE_FILE} is that of {name}")
    return dict(content)


def _short(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"{type(error).__name__}: {' '.join(text.split())[:100]}"


def verify_stage(folder: Path) -> dict[str, Any]:
    """The content of `stage.json` once each file is as it says. DamagedStage names the first that is not.

    A stage from the time before digests gets the digests of its present files.
    """
    content = read_stage(folder)
    if "files" not in content:
        _adopt(folder, content)
        return content
    try:
        problem = damage(folder, content["files"])
    except (OSError, UserError, KeyError, TypeError, AttributeError) as error:
        problem = f"cannot be read: {_short(error)}"
    if problem:
        raise DamagedStage(f"{folder}: {problem}")
    return content


def drop_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a stage that is finished: nothing continues it, and two of scale paper's take
    more than a gigabyte. Logs stay. After the folder has its name: a crash before leaves what resumes."""
    for path in (folder / WORKING).rglob("checkpoints/step-*.pt"):
        path.unlink(missing_ok=True)


def _adopt(folder: Path, content: Mapping[str, Any]) -> None:
    try:
        write_stage(folder, content, content["finished"])
    except OSError:
        return  # somebody else's cache, to be read only


def clear(folder: Path) -> None:
    """Remove the files of a finished stage that its `stage.json` lists. Where other files are left, or where
    no readable `stage.json` tells which files are ours, the folder is kept under another name."""
    if not folder.exists():
        return
    try:
        content = read_stage(folder)
        names = [*content.get("files", ()), *content.get("working_files", ())]
        remove_listed(folder, [*names, STAGE_FILE])
    except (DamagedStage, UserError):
        pass
    if folder.exists():
        os.replace(folder, _free_name(folder))


def _free_name(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}.aside-{number}") for number in range(1, 10_000))
    return next(name for name in names if not name.exists())
