"""A user's own splits: a CSV with a clip and its split in each row; or `splits.csv` in the folder."""

import csv
from collections.abc import Iterable
from pathlib import Path

from uwm.data.splits import SPLITS, Clip
from uwm.errors import UserError

IN_FOLDER = "splits.csv"
WORDS = {split: split for split in SPLITS} | {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "dev": "validation",
    "testing": "test",
}


def with_split_file(clips: Iterable[Clip], file: Path) -> tuple[tuple[Clip, ...], str]:
    """The clips that the file names, in its splits, and what a user should know.

    A row is `path,split`; the path is the one in the corpus's folder, a folder of clips in it, or for an
    HDF5 file the name of a demo. A header `file,split` is passed over.

    Raises:
        UserError: the file cannot be read, a row is no pair, a split is unknown, two rows disagree, or no
            clip is named.
    """
    splits = _rows(file)
    used: set[str] = set()
    chosen = []
    for clip in clips:
        key = next((name for name in _names_of(clip.path) if name in splits), None)
        if key is not None:
            used.add(key)
            chosen.append(clip._replace(split=splits[key]))
    if not chosen:
        raise UserError(f"{file}: names no clip of the corpus; write rows such as {_example(clips)},train")
    absent = len(splits) - len(used)
    note = f"{len(chosen):,} clips by {file.name}" + (
        f", {absent:,} of its rows not on disk" if absent else ""
    )
    return tuple(chosen), note


def _names_of(path: str) -> list[str]:
    """The path, and the folders that it lies in from the nearest up; the name of a demo among them."""
    parts = path.split("/")
    above = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
    return above + ([parts[parts.index("data") + 1]] if "data" in parts[:-1] else [])


def _rows(file: Path) -> dict[str, str]:
    try:
        rows = list(csv.reader(file.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read as CSV ({error})") from None
    splits: dict[str, str] = {}
    for number, row in enumerate((row for row in rows if row), start=1):
        if number == 1 and [cell.strip().lower() for cell in row][-1:] == ["split"]:
            continue
        if len(row) != 2 or row[1].strip().lower() not in WORDS:
            raise UserError(f"{file}, row {number}: write `path,split`, the split one of {', '.join(SPLITS)}")
        path, split = row[0].strip(), WORDS[row[1].strip().lower()]
        if splits.setdefault(path, split) != split:
            raise UserError(f"{file}, row {number}: {path} is in {splits[path]} and in {split}")
    return splits


def _example(clips: Iterable[Clip]) -> str:
    return next((clip.path for clip in clips), "clip.mp4")
