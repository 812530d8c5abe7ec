"""The folders of known corpora as their owners ship them, recognised by the corpus's name.

ssv2*   Something-Something V2: `<id>.webm` (or frame folders `<id>/000001.jpg` beside an `fps.txt`) anywhere
        below the folder; the official splits from `train.json`, `validation.json` and `test.json` (in
        `labels/`), or the older `something-something-v2-*.json`.
ego4d*  what the Ego4D CLI leaves: `ego4d.json` and `video_540ss/`, `full_scale/` or `clips/`, in `v2/` or
        `v1/` or directly. The first of the three that holds videos is used. Split by the hash of the video's
        uid.
epic*   EPIC-KITCHENS-100: `Pxx/videos/*.MP4`; split by the hash of the participant, so kitchens are disjoint.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from uwm.data.splits import SPLITS, Clip, split_by_clip, split_by_group
from uwm.data.video import VIDEO_SUFFIXES
from uwm.errors import UserError

EGO4D_KINDS = ("video_540ss", "full_scale", "clips")  # the smallest pictures first: they are resized anyway


def read_layout(name: str, root: Path) -> tuple[Clip, ...]:
    """The clips below `root`, by the layout that belongs to `name`; any other name takes every video."""
    for prefix, reader in LAYOUTS.items():
        if name.lower().startswith(prefix):
            return reader(name, root)
    return split_by_clip(_paths(name, root))


def _paths(name: str, root: Path) -> list[str]:
    """Video files and frame folders, relative to `root`."""
    found = list(_walk(root))
    if not found:
        raise UserError(f"--data {name}={root}: no video file in that folder or below it")
    return sorted(path.relative_to(root).as_posix() for path in found)


def _walk(root: Path) -> Iterator[Path]:
    """Video files, and the folders beside an `fps.txt` (or its own folder): those are not looked into, since
    they hold millions of pictures. Links are followed, each folder once; hidden names are passed over."""
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        files = [name for name in files if not name.startswith(".")]
        if "fps.txt" in files:
            yield from [Path(folder, name) for name in subfolders] or [Path(folder)]
            subfolders.clear()
        yield from (Path(folder, name) for name in files if Path(name).suffix.lower() in VIDEO_SUFFIXES)


def _ssv2(name: str, root: Path) -> tuple[Clip, ...]:
    splits = {clip: split for split in SPLITS for clip in _ssv2_split(root, split)}
    if not splits:
        raise UserError(
            f"--data {name}={root}: no split files (labels/train.json ... or "
            "something-something-v2-train.json ...); under another name it is split by hash"
        )
    files = {Path(path).stem: path for path in _paths(name, root)}
    missing = {clip: f"{clip}.webm" for clip in splits.keys() - files.keys()}
    clips = [Clip((files | missing)[clip], split) for clip, split in splits.items()]
    return tuple(sorted(clips, key=lambda clip: clip.path))


def _ssv2_split(root: Path, split: str) -> list[str]:
    """The ids of one split, from whichever file is there."""
    for file in (f"labels/{split}.json", f"something-something-v2-{split}.json", f"{split}.json",
                 f"labels/something-something-v2-{split}.json"):  # fmt: skip
        if (root / file).is_file():
            rows = _read_json(root / file)
            try:
                return [str(row["id"]) for row in rows]
            except (TypeError, KeyError):
                raise UserError(f"{root / file}: not a list of clips with an `id` each") from None
    return []


def _ego4d(name: str, root: Path) -> tuple[Clip, ...]:
    homes = (root / "v2", root / "v1", root)
    table = next((home / "ego4d.json" for home in homes if (home / "ego4d.json").is_file()), None)
    if table is None:
        raise UserError(
            f"--data {name}={root}: no ego4d.json there or in v2/; under another name it is split by file"
        )
    data = _read_json(table)
    places = [home / kind for kind in EGO4D_KINDS for home in homes]
    videos = next((place for place in places if any(place.glob("*.mp4"))), None)
    if videos is None:
        kinds = ", ".join(EGO4D_KINDS)
        raise UserError(f"--data {name}={root}: no videos in {kinds} (in v2/, v1/ or directly)")
    return _ego4d_clips(data, root, videos)


def _ego4d_clips(data: Any, root: Path, videos: Path) -> tuple[Clip, ...]:
    """Every file in `videos`; a clip belongs to the video that it was cut from."""
    rows = {str(row["video_uid"]): row for row in data.get("videos", [])}
    parents = {str(row["clip_uid"]): str(row["video_uid"]) for row in data.get("clips", [])}
    files = {path.relative_to(root).as_posix(): path.stem for path in videos.glob("*.mp4")}
    if videos.name != "clips":  # videos that the table lists and the folder lacks are named, not passed over
        files |= {(videos / f"{uid}.mp4").relative_to(root).as_posix(): uid for uid in rows}
    clips = split_by_group({path: parents.get(uid, uid) for path, uid in files.items()})
    return tuple(Clip(clip.path, clip.split, _parts(rows.get(files[clip.path], {}))) for clip in clips)


def _parts(row: dict[str, Any]) -> tuple[float, ...]:
    """Where the recordings that a video was joined from begin, beyond the first (s); () when untold."""
    lengths = [part.get("duration_sec") for part in row.get("video_components") or []]
    if len(lengths) < 2 or None in lengths:
        return ()
    return tuple(round(sum(lengths[:i]), 6) for i in range(1, len(lengths)))


def _epic(name: str, root: Path) -> tuple[Clip, ...]:
    groups = {path: _participant(path) for path in _paths(name, root)}
    return split_by_group(groups)


def _participant(path: str) -> str:
    found = re.search(r"(?:^|/)(P\d\d)(?=[/_])", path)
    return found.group(1) if found else path


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from None


LAYOUTS: dict[str, Callable[[str, Path], tuple[Clip, ...]]] = {
    "ssv2": _ssv2,
    "something": _ssv2,
    "ego4d": _ego4d,
    "epic": _epic,
}
