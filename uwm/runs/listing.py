"""What a run consists of, by names alone: enough to say what became of it without loading its experiment.

`run.json` in the run folder holds it, beside the options that the run was started with, so that
`--status` with the same options finds the folder again without torch, corpora or the experiment's file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from uwm.runs.experiment import Context
from uwm.runs.patterns import chosen_names, matches
from uwm.runs.record import digest_of, file_stem, stale_measures, write_atomically

FILE = "run.json"
STAGE = "stage:"  # item names of stages begin so; a cell's name has no colon


@dataclass(frozen=True)
class Listing:
    """The cells of a run with digests of what they read, its stages with their artifacts' folder names."""

    experiment: str
    version: int
    scale: str
    out: str
    work: str
    cache: str
    options: Mapping[str, Any]  # what the user typed that says which run it is
    cells: Mapping[str, str]
    stages: Mapping[str, str | None] = field(default_factory=dict)  # None: not known before what it needs
    since: float = 0.0  # with --recompute: older artifacts do not count
    code: str = ""  # sha1 of the experiment's file
    readers: Mapping[str, Sequence[str]] = field(default_factory=dict)  # patterns of cells behind each stage

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.work)

    def chosen(self, patterns: Sequence[str]) -> "Listing":
        """The same with the cells that `--only` means; UserError as `chosen_names`."""
        names = chosen_names(self.cells, patterns)
        cells = {name: digest for name, digest in self.cells.items() if name in names}
        return Listing(**{**asdict(self), "cells": cells})

    def stands_behind(self, stage: str) -> bool:
        """True where one of the cells reads the stage, itself or through other stages, or nothing tells."""
        patterns = self.readers.get(stage)
        if patterns is None or not self.cells.keys().isdisjoint(patterns):  # whole names, as a rule
            return True
        return any(matches(cell, patterns) for cell in self.cells)

    def record(self, cell: str) -> dict[str, Any] | None:
        """The cell's current record, collected or still in the run folder, without the cost of validation."""
        record = None
        for folder in {Path(self.out), self.folder / "results"}:
            try:
                content = json.loads((folder / f"{file_stem(cell)}.json").read_text())
            except (OSError, ValueError):
                continue
            if self.is_current(cell, content) and (record is None or content["status"] == "ok"):
                record = content
        return record

    def is_current(self, cell: str, record: Mapping[str, Any]) -> bool:
        """As `Context.is_current`, by the digest of what the cell reads."""
        same = record.get("version") == self.version and digest_of(record.get("config")) == self.cells[cell]
        return same and not stale_measures(record.get("measures", {}))

    def done(self) -> set[str]:
        """Cells with a current record that says `ok`."""
        return {cell for cell in self.cells if (self.record(cell) or {}).get("status") == "ok"}

    def artifact(self, stage: str) -> Path | None:
        """Folder of a stage's finished artifact in the cache, if its name is known and it is there."""
        name = self.stages.get(stage)
        path = Path(self.cache) / name / "stage.json" if name else None
        if path is None or not path.is_file():
            return None
        new_enough = not self.since or json.loads(path.read_text())["finished"] >= self.since
        return path.parent if new_enough else None

    def write(self) -> None:
        """Write `run.json`; stages that an earlier submission named are kept."""
        earlier = read_listing(self.folder / FILE)
        stages = {**(earlier.stages if earlier else {}), **self.stages}
        readers = {**(earlier.readers if earlier else {}), **self.readers}
        content = {**asdict(self), "stages": stages, "readers": readers}
        write_atomically(self.folder / FILE, json.dumps(content, indent=1) + "\n")


def listing_of(context: Context, options: Mapping[str, Any] | None = None) -> Listing:
    """The listing of a context; its stages are those that an earlier submission named."""
    earlier = read_listing(context.work / FILE)
    artifacts = context.artifacts
    return Listing(
        experiment=context.experiment.name,
        version=context.experiment.version,
        scale=context.scale,
        out=str(context.out),
        work=str(context.work),
        cache=str(artifacts.root) if artifacts else "",
        options=dict(options or {}),
        cells={cell.name: digest_of(context.cell_config(cell)) for cell in context.cells},
        stages=dict(earlier.stages) if earlier else {},
        readers=dict(earlier.readers) if earlier else {},
        since=artifacts.since if artifacts and artifacts.recompute else 0.0,
        code=str(context.code.get("experiment_blob") or ""),
    )


def read_listing(path: Path) -> Listing | None:
    """A written listing; None where there is none, or an older program wrote it."""
    try:
        return Listing(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def find_listing(runs: Path, experiment: str, scale: str, options: Mapping[str, Any]) -> Listing | None:
    """The listing of the newest run with these very options."""
    paths = sorted(
        (runs / scale).glob(f"{experiment}-*/{FILE}"), key=lambda p: p.stat().st_mtime, reverse=True
    )
    return next(
        (listing for path in paths if (listing := read_listing(path)) and listing.options == options), None
    )
