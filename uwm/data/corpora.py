"""Corpora: named collections of video files with the splits train, validation and test.

`bundled` gives the corpora that come with the package, `open_corpus` those, any folder of videos, and any
HDF5 file of a robot's demonstrations.
"""

import csv
import sys
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from uwm.data.assignment import Choices, parse_assignment, parse_options, split_place
from uwm.data.found import Found
from uwm.data.layouts import read_layout
from uwm.data.robomimic.demo_clips import read_demo_clips
from uwm.data.robomimic.hdf5 import split_path
from uwm.data.split_file import IN_FOLDER, with_split_file
from uwm.data.splits import SPLITS, Clip
from uwm.errors import UserError
from uwm.files import home_path

__all__ = [
    "BUNDLED",
    "INCLUDED",
    "IN_DOMAIN",
    "SPLITS",
    "Clip",
    "Corpus",
    "announce",
    "bundled",
    "open_corpus",
    "parse_data",
]

BUNDLED = ("sim-third-person", "sim-ego")
IN_DOMAIN = "sim-panda"
"""The robot whose tasks are in no other bundled corpus: what in-domain experiments fine-tune and test on."""
INCLUDED = (*BUNDLED, IN_DOMAIN)
"""All that come with the project."""

ASSETS = Path(__file__).resolve().parent.parent / "assets" / "corpora"
Splits = Literal["own", "all-test"]


@dataclass(frozen=True)
class Corpus:
    """Clips with their splits below a folder, or inside an HDF5 file.

    `layout` says how the folder was read and `note` what a user should know of that; `choices` what was
    chosen with the name (`uwm.data.assignment`).
    """

    name: str
    folder: Path
    clips: tuple[Clip, ...]
    choices: Choices = Choices()
    layout: str = field(default="folder", compare=False)
    note: str = field(default="", compare=False)
    uncut: tuple[Clip, ...] = ()  # all clips, where some are left out; what is measured of actions is of them

    def __hash__(self) -> int:
        return hash((self.name, self.folder, len(self.clips)))  # quick, whatever the number of clips

    def of(self, split: str) -> tuple[Clip, ...]:
        """The clips of one split; `UserError` for an unknown or empty one."""
        if split not in SPLITS:
            raise UserError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
        clips = self._by_split[split]
        if not clips:
            there = {name: len(group) for name, group in self._by_split.items()}
            held = ", ".join(f"{count} in {name}" for name, count in there.items() if count) or "none at all"
            raise UserError(
                f"corpus {self.name!r} in {self.folder} has no clip in its {split} split ({held}); "
                f"name some in {self.folder if self.folder.is_dir() else self.folder.parent}/{IN_FOLDER}"
            )
        return clips

    @cached_property
    def _by_split(self) -> dict[str, tuple[Clip, ...]]:
        return {name: tuple([clip for clip in self.clips if clip.split == name]) for name in SPLITS}

    def file(self, clip: Clip | str) -> Path:
        return self.folder / (clip if isinstance(clip, str) else clip.path)


# Of the corpora that experiments name, and that come with nobody's package.
SOURCES = {
    "robosuite": "; python -m uwm.data.robot suite --out robosuite.hdf5 makes it",
    "ssv2": "; docs/paper-scale.md tells where it is from",
    "ego4d": "; docs/paper-scale.md tells where it is from",
}


def announce(corpus: Corpus) -> None:
    """Say on stderr, once in a process, how a folder was read where there is something to know."""
    line = f"{corpus.name}: read as {corpus.layout}" + (f" ({corpus.note})" if corpus.note else "")
    if corpus.layout != "bundled" and line not in _announced:
        _announced.add(line)
        print(line, file=sys.stderr)


_announced: set[str] = set()


def all_test(corpus: Corpus) -> Corpus:
    """The corpus with every clip in its test split: for what nothing is trained on."""
    note = "; ".join(filter(None, [corpus.note, "every clip is tested"]))
    return replace(corpus, clips=tuple(clip._replace(split="test") for clip in corpus.clips), note=note)


def bundled(name: str) -> Corpus:
    """A corpus of the package by name."""
    if name not in INCLUDED:
        raise UserError(
            f"no corpus is called {name!r}: give its folder with --data {name}=DIR, "
            f"or take one of {', '.join(INCLUDED)}{SOURCES.get(name, '')}"
        )
    table = ASSETS / name / "clips.csv"
    if not table.is_file():
        raise UserError(f"corpus {name!r} is missing from this installation: {table} is not there")
    return Corpus(name, table.parent, _from_table(table), layout="bundled")


def _from_table(table: Path) -> tuple[Clip, ...]:
    with table.open(newline="", encoding="utf-8") as file:
        clips = [Clip(row["file"], row["split"]) for row in csv.DictReader(file)]
    return tuple(sorted(clips, key=lambda clip: clip.path))


def open_corpus(
    name: str,
    folder: Path | str | None = None,
    layout: str | None = None,
    *,
    split_file: Path | str | None = None,
    splits: Splits = "own",
) -> Corpus:
    """A corpus by name, or what lies under `folder` called by that name.

    `folder` may be a folder of videos in any layout (`uwm.data.layouts`, recognised by content), a folder of
    HDF5 files of demonstrations or one such file (its camera is the first that is on no hand, or CAMERA where
    `folder` is FILE.hdf5/CAMERA), or OPTIONS:/absolute/place. `layout` is the OPTIONS of
    `uwm.data.assignment`, and forces one. `split_file` gives a user's own splits, as does `splits.csv` in the
    folder. With `splits` "all-test" every clip is in the test split.
    """
    if folder is None:
        corpus = bundled(name)
    else:
        options, root = split_place(folder)
        choices = parse_options(layout or options, f"--data {name}")
        corpus = _opened(name, home_path(root), choices)
    corpus = _split_by_user(corpus, split_file)
    return all_test(corpus) if splits == "all-test" else corpus


def _opened(name: str, root: Path, choices: Choices) -> Corpus:
    inside = split_path(root)
    if root.is_file() or inside:
        file, camera = inside or (root, None)
        camera = camera or choices.camera
        return _corpus(name, file, choices, read_demo_clips(name, file, camera, choices.upside_down))
    if not root.is_dir():
        raise UserError(f"--data {name}={root}: there is no such folder")
    if choices.upside_down or choices.camera:  # only demonstrations have these
        choices = replace(choices, layout="hdf5")
    contents = read_layout(name, root, choices)
    if choices.actions and contents.layout != "hdf5":
        raise UserError(
            f"--data {name}={root}: actions-{choices.actions} is for demonstrations in HDF5, these are videos"
        )
    return _corpus(name, root, choices, contents)


def _corpus(name: str, folder: Path, choices: Choices, contents: Found) -> Corpus:
    return Corpus(name, folder, contents.clips, choices, contents.layout, contents.note)


def _split_by_user(corpus: Corpus, file: Path | str | None) -> Corpus:
    default = corpus.folder / IN_FOLDER
    if file is None and (corpus.layout == "bundled" or not default.is_file()):
        return corpus
    clips, note = with_split_file(corpus.clips, home_path(file) if file else default)
    return replace(corpus, clips=clips, note="; ".join(filter(None, [corpus.note, note])))


def parse_data(text: str, split_file: Path | str | None = None) -> Corpus:
    """The corpus of a command-line argument: NAME, NAME=PLACE or NAME:OPTIONS=PLACE."""
    assignment = parse_assignment(text)
    if assignment.place is None:
        return open_corpus(assignment.name, split_file=split_file)
    corpus = _opened(assignment.name, assignment.place, assignment.choices)
    return _split_by_user(corpus, split_file)
