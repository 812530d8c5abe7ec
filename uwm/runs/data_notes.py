"""Which files of a corpus a cell was measured on: noted at its start, and compared before it counts as done.

A record's identity holds no files of the corpora that a scale names itself (`ssv2`), and a folder's path, but
not what lies in it, of others. So a record stays current while files come.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from uwm.runs import state
from uwm.runs.experiment import Cell, Context
from uwm.runs.record import digest_of

Data = Mapping[str, Mapping[str, Any]]  # by corpus: the number of its files, and a digest of their names


def data_of(context: Context, cell: Cell) -> Data:
    """The user's corpora that a cell reads, or its models were trained on, as their folders are now."""
    config = context.config
    trained_on = (*getattr(config, "pretrain_on", ()), getattr(config, "corpus", ""))
    names = [name for name in dict.fromkeys((cell.corpus, *trained_on)) if name in context.data]
    return {name: context.once(("files of", name), partial(_files, context.data[name])) for name in names}


def _files(source: Path) -> dict[str, Any]:
    """Of a folder, a file, or a name inside a file; also OPTIONS:/PLACE. Names alone: a corpus may hold
    hundreds of thousands of files, and be moved to another folder."""
    options, _, rest = str(source).partition(":/")
    chosen = bool(rest) and "/" not in options
    path = Path(f"/{rest}") if chosen else source
    names = sorted(
        os.path.relpath(os.path.join(folder, name), path)
        for folder, _, inner in os.walk(path)
        for name in inner
        if not name.startswith(".")
    )
    file = next((part for part in (path, *path.parents) if part.is_file()), None)
    size = file.stat().st_size if file else 0
    return {"files": len(names) or int(size > 0), "key": digest_of([options if chosen else "", names, size])}


def measured_on_others(context: Context, cells: Iterable[Cell], done: set[str]) -> Iterator[str]:
    """A line for each corpus whose files are others now than when some of the cells that are `done` were
    measured."""
    changed: dict[tuple[str, int, int], list[str]] = {}
    for cell in cells:
        noted = state.measured_on(context.work, cell.name) if cell.name in done else {}
        for name, now in (data_of(context, cell) if noted else {}).items():
            then = noted.get(name, now)
            if then["key"] != now["key"]:
                changed.setdefault((name, then["files"], now["files"]), []).append(cell.name)
    for (name, before, today), names in changed.items():
        more = f" and {len(names) - 1} more cells" if len(names) > 1 else ""
        files = f"other files of {name} ({before} then, {today} now)"
        yield f"{names[0]}{more} count as done, measured on {files}"
