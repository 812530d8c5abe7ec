"""The folders of known corpora as their owners ship them, recognised by what is in them.

ssv2     Something-Something V2: `<id>.webm` (or frame folders `<id>/000001.jpg` beside an `fps.txt`) anywhere
         below the folder; the official splits from their label files, in the folder or beside it.
ego4d    what the Ego4D CLI leaves: `ego4d.json` and `video_540ss/`, `full_scale/` or `clips/`, in `v2/` or
         the like or directly. The first of the three that holds videos is used. Split by the video's uid.
epic     EPIC-KITCHENS-100: `Pxx/videos/*.MP4`; split by the participant, so kitchens are disjoint.
lerobot  LeRobot v2 and v3: `meta/info.json`, videos by camera; split by episode.
hdf5     a folder of HDF5 files of demonstrations (LIBERO, RoboCasa, MimicGen), one corpus.
folder   every other folder of videos; split by the hash of a clip's path, or of its episode where several
         cameras show one.

Of a partial download what is on disk is used. NAME:LAYOUT=DIR forces a layout.
"""

from collections.abc import Callable
from pathlib import Path

from uwm.data import ego4d, lerobot, ssv2
from uwm.data.assignment import Choices
from uwm.data.cameras import episodes
from uwm.data.epic import epic
from uwm.data.found import Found
from uwm.data.robomimic.demo_clips import read_folder_of_demos
from uwm.data.splits import split_by_group
from uwm.data.tree import Tree, read_tree
from uwm.errors import UserError
from uwm.garbage import no_collection

EXPECTED = {"ssv2": "ssv2", "something-something-v2": "ssv2", "ego4d": "ego4d"}
"""Corpora of these very names mean their official splits: never read as plain folders unless forced."""


def read_layout(name: str, root: Path, choices: Choices = Choices()) -> Found:  # noqa: B008
    """The clips below `root`. `UserError` for a folder that has not the forced layout, or no video at all."""
    with no_collection():
        return _read_layout(name, root, choices)


def _read_layout(name: str, root: Path, choices: Choices) -> Found:
    tree = read_tree(root)
    layout = choices.layout or EXPECTED.get(name.lower())
    if layout == "hdf5" or (layout is None and tree.hdf5 and not tree.videos):
        return read_folder_of_demos(name, tree.root, tree.hdf5, choices)
    if layout is not None:
        contents = LAYOUTS[layout](name, tree, True)
        assert contents is not None, layout
        return contents
    return next(contents for read in LAYOUTS.values() if (contents := read(name, tree, False)) is not None)


def folder(name: str, tree: Tree, forced: bool) -> Found:
    """Any videos: the last layout, which takes whatever is there."""
    if not tree.videos:
        raise UserError(f"--data {name}={tree.root}: no video file in that folder or below it")
    groups = episodes(tree.videos)
    shared = len(groups) - len(set(groups.values()))
    note = (
        f"{len(set(groups.values()))} episodes with several cameras or parts, each in one split"
        if shared
        else ""
    )
    return Found(split_by_group(groups), "folder", note)


LAYOUTS: dict[str, Callable[[str, Tree, bool], Found | None]] = {
    "lerobot": lerobot.read,
    "ego4d": ego4d.read,
    "ssv2": ssv2.read,
    "epic": epic,
    "folder": folder,
}
"""In the order in which they are tried. Each gives None for a folder of another kind, or if it is forced
raises `UserError`."""
