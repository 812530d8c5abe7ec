"""What a layout makes of a folder, and how the tables in it are read."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uwm.data.splits import Clip
from uwm.errors import UserError


@dataclass(frozen=True)
class Found:
    """The clips of a folder, the layout that was taken, and what a user should know of it."""

    clips: tuple[Clip, ...]
    layout: str
    note: str = ""


def on_disk(count: int, listed: int, what: str) -> str:
    """`12 of 900 listed videos are on disk`; nothing to say of a complete download."""
    return f"{count:,} of {listed:,} listed {what} are on disk" if count < listed else ""


def read_owner_json(path: Path) -> Any:
    """`UserError` for what is no JSON. A byte order mark at its beginning does no harm."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({' '.join(str(error).split())[:120]})") from None
