"""Which videos show the same thing: the cameras of one episode. They must never lie in different splits.

Found from the names alone: folders and endings of names that call a camera (`images0`, `wrist`,
`observation.images.top`, `episode_3_left.mp4`), the serial numbers in DROID's `recordings/MP4`, sibling
folders with the same files, and the pieces of a recording (`UID.mp4/0.mp4`).
"""

import re
from collections import defaultdict
from collections.abc import Sequence

from uwm.data.tree import VIDEO_SUFFIXES, stem_of

MOST_CAMERAS = 16  # a larger group is no episode: then the names mean something else
_WORDS = (
    "left|right|wrist|top|bottom|front|side|back|rear|head|chest|overhead|ext|exterior|exo|ego|hand|third|first|"
    "agentview|frontview|sideview|birdview|eye_in_hand|robot0_eye_in_hand|static|gripper|color|colour|rgb|depth|stereo"
)
_NUMBER = r"(?:[-_ ]?\d+)?"
_CAMERA = (
    rf"(?:cam|camera|view|aria|gp|gopro)[-_ ]?[a-z]?\d[\w-]*|(?:cam|camera)[-_](?:{_WORDS})|"
    rf"(?:(?:depth_|rgb_)?images?|cams?|cameras?|views?){_NUMBER}|(?:{_WORDS})(?:[-_](?:{_WORDS}|cam|camera|view|image))*{_NUMBER}"
)
CAMERA_FOLDER = re.compile(rf"observation[._]images?[._].+|{_CAMERA}", re.IGNORECASE)
CAMERA_ENDING = re.compile(rf"^(?P<episode>.+?)[-_. ](?:{_CAMERA})$", re.IGNORECASE)
LEROBOT_V1 = re.compile(r"^observation\.images?\..+?_(episode_\d+)$")
DROID = re.compile(r"^(.*?)/?recordings/(?:MP4|SVO)(?:/|$)", re.IGNORECASE)


def episodes(paths: Sequence[str]) -> dict[str, str]:
    """The episode of each video; a video on its own is its own."""
    sure = {path: name for path in paths if (name := _sure_episode(path)) is not None}
    likely = _same_siblings({path: _likely_episode(path) for path in paths if path not in sure})
    members: dict[str, list[str]] = defaultdict(list)
    for path, name in likely.items():
        members[name].append(path)
    shared = {name for name, group in members.items() if 1 < len(group) <= MOST_CAMERAS}
    return sure | {path: name if name in shared else path for path, name in likely.items()}


def _sure_episode(path: str) -> str | None:
    """The folder of one episode of DROID, or of the pieces of UID.mp4, however many there are."""
    if "recordings/" in path.lower() and (match := DROID.match(path)):
        return match[1]
    *folders, _ = path.split("/")
    for index, folder in enumerate(folders):
        if "." in folder and f".{folder.rpartition('.')[2].lower()}" in VIDEO_SUFFIXES:
            return "/".join(folders[: index + 1])
    return None


def _likely_episode(path: str) -> str:
    """The path without what names a camera."""
    *folders, _ = path.split("/")
    stem = stem_of(path)
    kept = [folder for folder in folders if not CAMERA_FOLDER.fullmatch(folder)]
    if match := LEROBOT_V1.match(stem) or CAMERA_ENDING.match(stem):
        stem = match[1]
    elif CAMERA_FOLDER.fullmatch(stem) and kept:
        return "/".join(kept)
    return "/".join([*kept, stem])


def _same_siblings(names: dict[str, str]) -> dict[str, str]:
    """Sibling folders with the very same (three or more) names are cameras, whatever they are called."""
    held: dict[str, set[str]] = defaultdict(set)
    for name in names.values():
        folder, _, stem = name.rpartition("/")
        held[folder].add(stem)
    alike: dict[tuple[str, frozenset[str]], list[str]] = defaultdict(list)
    for folder, stems in held.items():
        if folder and len(stems) >= 3:
            alike[folder.rpartition("/")[0], frozenset(stems)].append(folder)
    parent = {
        folder: above
        for (above, _), group in alike.items()
        if 1 < len(group) <= MOST_CAMERAS
        for folder in group
    }
    merged = {}
    for path, name in names.items():
        folder, _, stem = name.rpartition("/")
        merged[path] = f"{parent[folder]}/{stem}".lstrip("/") if folder in parent else name
    return merged
