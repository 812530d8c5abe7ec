"""Corpora: named collections of video files with the splits train, validation and test.

`bundled` gives the two corpora that come with the package, `open_corpus` those and any folder of videos.
"""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

from uwm.data.video import VIDEO_SUFFIXES
from uwm.errors import UserError

SPLITS = ("train", "validation", "test")
BUNDLED = ("sim-third-person", "sim-ego")
ASSETS = Path(__file__).resolve().parent.parent / "assets" / "corpora"
HELD_OUT_SHARE = 0.1  # of the clips, for validation and for test each


@dataclass(frozen=True)
class Clip:
    """One video: its path relative to the corpus's folder (with `/`), and the split that it belongs to."""

    path: str
    split: str


@dataclass(frozen=True)
class Corpus:
    name: str
    folder: Path
    clips: tuple[Clip, ...]

    def of(self, split: str) -> tuple[Clip, ...]:
        """The clips of one split; `UserError` for an unknown or empty one."""
        if split not in SPLITS:
            raise UserError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
        clips = tuple(clip for clip in self.clips if clip.split == split)
        if not clips:
            raise UserError(f"corpus {self.name!r} in {self.folder} has no clip in its {split} split")
        return clips

    def file(self, clip: Clip | str) -> Path:
        return self.folder / (clip if isinstance(clip, str) else clip.path)


def bundled(name: str) -> Corpus:
    """A corpus of the package by name."""
    if name not in BUNDLED:
        raise UserError(f"no corpus is called {name!r}: give its folder with --data {name}=DIR, "
                        f"or take one of {', '.join(BUNDLED)}")
    table = ASSETS / name / "clips.csv"
    if not table.is_file():
        raise UserError(f"corpus {name!r} is missing from this installation: {table} is not there")
    return Corpus(name, table.parent, _from_table(table))


def _from_table(table: Path) -> tuple[Clip, ...]:
    with table.open(newline="", encoding="utf-8") as file:
        clips = [Clip(row["file"], row["split"]) for row in csv.DictReader(file)]
    return tuple(sorted(clips, key=lambda clip: clip.path))


def open_corpus(name: str, folder: Path | str | None = None) -> Corpus:
    """A corpus by name, or the videos under `folder` called by that name.

    A folder is split by clip: the hash of a clip's relative path says where it belongs (80/10/10), so that
    the split of a clip does not change when others are added.
    """
    if folder is None:
        return bundled(name)
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"--data {name}={folder}: there is no such folder")
    return Corpus(name, root, split_by_clip(_video_files(name, root)))


def _video_files(name: str, root: Path) -> list[str]:
    files = [path for path in root.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    if not files:
        raise UserError(f"--data {name}={root}: no video file in that folder or below it")
    return sorted(path.relative_to(root).as_posix() for path in files)


def hash_unit(text: str) -> float:
    """A number in [0, 1) from the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def split_by_clip(paths: list[str]) -> tuple[Clip, ...]:
    """Split by the hash of the path: below 0.1 test, below 0.2 validation, else train.

    Three clips or more give at least one to each split; two give a test and a train clip, one a test clip.
    """
    by_hash = sorted(paths, key=hash_unit)
    below = [sum(hash_unit(path) < share * HELD_OUT_SHARE for path in paths) for share in (1, 2)]
    tests = min(max(below[0], 1), max(len(paths) - 2, 1))
    validations = min(max(below[1] - tests, 1), max(len(paths) - tests - 1, 0))
    counts = {"test": tests, "validation": validations, "train": len(paths) - tests - validations}
    splits = [split for split, count in counts.items() for _ in range(count)]
    return tuple(sorted(map(Clip, by_hash, splits), key=lambda clip: clip.path))
