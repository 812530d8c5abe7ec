"""Corpora: named collections of video files with the splits train, validation and test.

`bundled` gives the corpora that come with the package, `open_corpus` those, any folder of videos, and any
HDF5 file of a robot's demonstrations.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from uwm.data.layouts import read_layout
from uwm.data.robomimic.hdf5 import read_demo_clips, split_path
from uwm.data.splits import SPLITS, Clip
from uwm.errors import UserError

__all__ = ["BUNDLED", "IN_DOMAIN", "SPLITS", "Clip", "Corpus", "bundled", "open_corpus", "parse_data"]

BUNDLED = ("sim-third-person", "sim-ego")
IN_DOMAIN = "sim-panda"
"""The robot whose tasks are in no other bundled corpus: what in-domain experiments fine-tune and test on."""

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "corpora"


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
    known = (*BUNDLED, IN_DOMAIN)
    if name not in known:
        raise UserError(
            f"no corpus is called {name!r}: give its folder with --data {name}=DIR, "
            f"or take one of {', '.join(known)}"
        )
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

    `folder` may be an HDF5 file of demonstrations (`uwm.data.robot_hdf5`); its camera is the first that is on
    no hand, or CAMERA where `folder` is FILE.hdf5/CAMERA.

    A known corpus is read in its owners' layout and splits (`uwm.data.layouts`). Any other folder is split
    by clip: the hash of a clip's relative path says where it belongs (80/10/10), so that the split of a clip
    does not change when others are added.
    """
    if folder is None:
        return bundled(name)
    root = Path(folder)
    if root.is_file():
        return Corpus(name, root, read_demo_clips(name, root, None))
    if inside := split_path(root):
        file, camera = inside
        return Corpus(name, file, read_demo_clips(name, file, camera))
    if not root.is_dir():
        raise UserError(f"--data {name}={folder}: there is no such folder")
    return Corpus(name, root, read_layout(name, root))


def parse_data(text: str) -> Corpus:
    """The corpus of a command-line argument `NAME=DIR` or `NAME=FILE.hdf5`, or `NAME` for a bundled one."""
    name, equals, folder = text.partition("=")
    if not name or (equals and not folder):
        raise UserError(
            f"{text!r}: write NAME=DIR, or the name of a bundled corpus ({', '.join((*BUNDLED, IN_DOMAIN))})"
        )
    return open_corpus(name, folder or None)
