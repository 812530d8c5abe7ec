"""Names, seeds and manifests of the clips of the simulated corpora."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from uwm.data.splits import SPLITS
from uwm.files import replacing

THIRD_PERSON, EGO, PANDA = "sim-third-person", "sim-ego", "sim-panda"
CORPORA = (THIRD_PERSON, EGO)  # of `python -m uwm.data.simulation`
CLIPS_PER_SPLIT = {
    THIRD_PERSON: {"train": 200, "validation": 20, "test": 60},
    EGO: {"train": 200, "validation": 20, "test": 60},
    PANDA: {"train": 420, "validation": 20, "test": 60},
}
MANIFEST = "clips.csv"


@dataclass(frozen=True)
class SimulatedClip:
    """A clip to render: its corpus, split, place in the split, and the seed that decides all else."""

    corpus: str
    split: str
    index: int
    seed: int

    @property
    def file(self) -> str:
        """Path relative to the folder of the corpus."""
        return f"{self.split}/{self.split}-{self.index:04d}.mp4"


@dataclass(frozen=True)
class ClipRow:
    """A row of the manifest; `states_sha256` is of the states of all frames as little-endian float64."""

    file: str
    split: str
    seed: int
    task: str
    robot: str
    camera: str
    width: int
    height: int
    fps: int
    frames: int
    sha256: str
    states_sha256: str


def clip_seed(base: int, corpus: str, split: str, index: int) -> int:
    """Returns the seed of a clip in [0, 2**63), made from the run's seed, names and index alone."""
    words = [base, zlib.crc32(corpus.encode()), zlib.crc32(split.encode()), index]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def all_clips(
    base: int, corpora: Iterable[str] = CORPORA, splits: Iterable[str] = SPLITS
) -> list[SimulatedClip]:
    """Returns every clip of these corpora and splits."""
    return [
        SimulatedClip(corpus, split, index, clip_seed(base, corpus, split, index))
        for corpus in corpora
        for split in splits
        for index in range(CLIPS_PER_SPLIT[corpus][split])
    ]


def write_rows(path: Path, rows: Iterable[ClipRow]) -> None:
    """Writes a manifest, sorted by file, in one step."""
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(ClipRow)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in sorted(rows, key=lambda row: row.file))


def read_rows(path: Path) -> list[ClipRow]:
    """Returns the rows of a manifest; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    numbers = {field.name for field in fields(ClipRow) if field.type == "int"}
    values: list[dict[str, Any]] = [
        {name: int(value) if name in numbers else value for name, value in row.items()} for row in rows
    ]
    return [ClipRow(**row) for row in values]
