"""Ego4D as its command line leaves it: `ego4d.json` and folders of videos called by their uid."""

from pathlib import Path
from typing import Any

from uwm.data.found import Found, on_disk, read_owner_json
from uwm.data.splits import Clip, split_by_group
from uwm.data.tree import Tree, stem_of
from uwm.errors import UserError

KINDS = ("video_540ss", "full_scale", "clips")  # the smallest pictures first: they are resized anyway
TABLE = "ego4d.json"


def read(name: str, tree: Tree, forced: bool) -> Found | None:
    """The videos on disk, of the first kind that there is; those that the table lacks are taken too."""
    table = _table(tree)
    if table is None:
        if forced:
            raise UserError(f"--data {name}={tree.root}: no {TABLE} there, in v2/ or above; "
                            f"{name}:folder={tree.root} splits it by file")  # fmt: skip
        return None
    data = read_owner_json(table)
    kind, files = _videos(tree)
    if not files:
        raise UserError(
            f"--data {name}={tree.root}: no videos in {', '.join(KINDS)} (in v2/, v1/ or directly)"
        )
    return _found(data, table, kind, files)


def _table(tree: Tree) -> Path | None:
    """The nearest: in the folder, below it, or above, where a user gives v2/ or v2/video_540ss."""
    inside = [tree.root / path for path in tree.tables if path.rpartition("/")[2] == TABLE]
    above = [folder / TABLE for folder in list(tree.root.absolute().parents)[:2]]
    if not any(_is_of_a_kind(tree.root, path) for path in tree.videos):
        above = []  # videos of something else in a folder beside Ego4D's
    nearest_first = sorted(inside, key=lambda path: len(path.parts))
    return next((path for path in [*nearest_first, *above] if path.is_file()), None)


def _is_of_a_kind(root: Path, path: str) -> bool:
    return any(kind in path.split("/") for kind in KINDS) or root.name in KINDS


def _videos(tree: Tree) -> tuple[str, list[str]]:
    """The first kind that has videos, and these; a user may have given its folder itself."""
    if tree.root.name in KINDS:
        return tree.root.name, list(tree.videos)
    for kind in KINDS:
        if files := [path for path in tree.videos if kind in path.split("/")[:-1]]:
            return kind, files
    return "", []


def _found(data: Any, table: Path, kind: str, files: list[str]) -> Found:
    try:
        rows = {str(row["video_uid"]): row for row in data.get("videos", [])}
        parents = {str(row["clip_uid"]): str(row["video_uid"]) for row in data.get("clips", [])}
    except (TypeError, KeyError, AttributeError):
        raise UserError(f"{table}: not Ego4D's list of videos with a `video_uid` each") from None
    uids = {path: _uid(path) for path in files}
    split = split_by_group({path: parents.get(uid, uid) for path, uid in uids.items()})
    whole = {path for path in files if path.count(".mp4") == 1}
    clips = [
        Clip(c.path, c.split, _parts(rows.get(uids[c.path], {})) if c.path in whole else ()) for c in split
    ]
    listed = parents if kind == "clips" else rows
    note = on_disk(
        len(listed.keys() & set(uids.values())), len(listed), "clips" if kind == "clips" else "videos"
    )
    return Found(tuple(clips), "ego4d", "; ".join(filter(None, [f"from {kind}", note])))


def _uid(path: str) -> str:
    """Of UID.mp4, and of the pieces UID.mp4/0.mp4 that some projects cut it into."""
    pieces = [folder for folder in path.split("/")[:-1] if folder.lower().endswith(".mp4")]
    return pieces[0][: -len(".mp4")] if pieces else stem_of(path)


def _parts(row: dict[str, Any]) -> tuple[float, ...]:
    """Where the recordings that a video was joined from begin, beyond the first (s); () when untold."""
    lengths = [part.get("duration_sec") for part in row.get("video_components") or []]
    if len(lengths) < 2 or None in lengths:
        return ()
    return tuple(round(sum(lengths[:i]), 6) for i in range(1, len(lengths)))
