"""Something-Something V2: videos by number, and the label files that name their splits."""

from pathlib import Path
from typing import Any

from uwm.data.found import Found, on_disk, read_owner_json
from uwm.data.splits import SPLITS, Clip
from uwm.data.tree import Tree, stem_of
from uwm.errors import UserError

NAME_PREFIXES = ("", "something-something-v2-", "sthv2_", "ssv2_")
NAMES = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
BESIDE = ("labels", "annotations", "20bn-something-something-download-package-labels/labels", "")
"""Where label files lie beside the folder of the videos, if the user gives that one."""


def read(name: str, tree: Tree, forced: bool) -> Found | None:
    """The clips that are both listed and on disk, in the official splits."""
    files = _label_files(tree)
    splits: dict[str, str] = {}
    for split, file in files.items():
        splits |= dict.fromkeys(_ids(file, forced), split)
    listed = len(splits)
    # From the end, each name taken out once found: of several videos of one name the last counts.
    clips = [Clip(path, of) for path in reversed(tree.videos) if (of := splits.pop(stem_of(path), None))]
    if not clips:
        if forced:
            raise _refused(name, tree, splits)
        return None
    without = [split for split in ("train", "validation") if split not in files]
    notes = [
        on_disk(len(clips), listed, "clips"),
        *(f"no label file of the {split} split" for split in without),
    ]
    return Found(tuple(reversed(clips)), "ssv2", "; ".join(filter(None, notes)))


def _refused(name: str, tree: Tree, splits: dict[str, str]) -> UserError:
    if not splits:
        return UserError(
            f"--data {name}={tree.root}: no split files (labels/train.json ... or something-something-v2-"
            f"train.json ...) in it or beside it; {name}:folder={tree.root} splits it by hash"
        )
    return UserError(f"--data {name}={tree.root}: none of the {len(splits):,} listed clips is there, such as "
                     f"{next(iter(splits))}.webm; give the folder that holds the videos")  # fmt: skip


def _label_files(tree: Tree) -> dict[str, Path]:
    """By split: its label file in the folder, else beside it."""
    inside = {table: tree.root / table for table in sorted(tree.tables, key=lambda t: (t.count("/"), t))}
    beside = {f"{folder}/{name}": tree.root.parent / folder / name
              for folder in BESIDE for names in NAMES.values() for name in _file_names(names)}  # fmt: skip
    files = _by_split(inside)
    return files or _by_split({table: path for table, path in beside.items() if path.is_file()})


def _by_split(tables: dict[str, Path]) -> dict[str, Path]:
    by_name: dict[str, Path] = {}
    for table, path in tables.items():
        by_name.setdefault(table.rpartition("/")[2], path)
    files = {
        split: next((by_name[n] for n in _file_names(NAMES[split]) if n in by_name), None) for split in SPLITS
    }
    return {split: path for split, path in files.items() if path is not None}


def _file_names(names: tuple[str, ...]) -> list[str]:
    return [f"{prefix}{name}.json" for prefix in NAME_PREFIXES for name in names]


def _ids(file: Path, forced: bool) -> list[str]:
    """The ids of one split; a file of another kind has none, or if the layout is forced is an error."""
    try:
        rows: Any = read_owner_json(file)
        return [str(row["id"]) for row in rows]
    except (UserError, TypeError, KeyError) as error:
        if not forced:
            return []
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file}: not a list of clips with an `id` each") from None
