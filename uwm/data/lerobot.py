"""LeRobot's data sets, v1 to v3: `meta/info.json`, and videos by camera.

In v2 a video is one episode of one camera. In v3 it joins many, cut otherwise for each camera; then
`meta/episodes/*.parquet` tells which lies where, so that no pair spans two episodes and the files that share
one lie in one split.
"""

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

from uwm.data.cameras import episodes
from uwm.data.found import Found, read_owner_json
from uwm.data.splits import Clip, split_by_group
from uwm.data.tree import Tree
from uwm.errors import UserError

DEFAULT_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def read(name: str, tree: Tree, forced: bool) -> Found | None:
    """Split by episode, over all cameras."""
    info = tree.root / "meta" / "info.json"
    about = read_owner_json(info) if info.is_file() else {}
    if not isinstance(about, dict) or "codebase_version" not in about:
        if forced:
            raise UserError(f"--data {name}={tree.root}: no meta/info.json of LeRobot in it")
        return None
    videos = [path for path in tree.videos if path.startswith("videos/")]
    if not videos:
        raise UserError(
            f"--data {name}={tree.root}: no video in videos/; sets of pictures alone are not read"
        )
    version = str(about["codebase_version"])
    groups, cuts = _joined(tree, about, videos) if version.startswith("v3") else (episodes(videos), {})
    clips = [Clip(clip.path, clip.split, cuts.get(clip.path, ())) for clip in split_by_group(groups)]
    note = f"version {version}, {len(set(groups.values()))} groups of episodes over all cameras"
    return Found(tuple(clips), "lerobot", note)


Cuts = dict[str, tuple[float, ...]]


def _joined(tree: Tree, about: dict[str, Any], videos: list[str]) -> tuple[dict[str, str], Cuts]:
    """The group of each video file, and where its episodes begin (s), beyond the first."""
    table, cameras = _episodes(tree)
    pattern = str(about.get("video_path", DEFAULT_PATH))
    starts: dict[str, set[float]] = {}
    same = {path: path for path in videos}
    for row in table.to_dict("records"):
        files = {camera: _file(pattern, camera, row) for camera in cameras}
        for camera, file in files.items():
            starts.setdefault(file, set()).add(round(float(row[f"videos/{camera}/from_timestamp"]), 6))
        _unite(same, [file for file in files.values() if file in same])
    cuts = {file: tuple(sorted(times)[1:]) for file, times in starts.items()}
    return {path: _root(same, path) for path in videos}, cuts


def episodes_of_files(tree: Tree, about: dict[str, Any]) -> dict[str, list[int]]:
    """The numbers of the episodes in each video file, in their order in it."""
    if not str(about.get("codebase_version")).startswith("v3"):
        named = {path: re.search(r"episode_(\d+)\.\w+$", path) for path in tree.videos}
        return {path: [int(match[1])] for path, match in named.items() if match}
    table, cameras = _episodes(tree)
    pattern = str(about.get("video_path", DEFAULT_PATH))
    starts: dict[str, list[tuple[float, int]]] = {}
    for row in table.to_dict("records"):
        for camera in cameras:
            start = float(row[f"videos/{camera}/from_timestamp"]), int(row["episode_index"])
            starts.setdefault(_file(pattern, camera, row), []).append(start)
    return {file: [episode for _, episode in sorted(starting)] for file, starting in starts.items()}


def _file(pattern: str, camera: str, row: dict[Any, Any]) -> str:
    chunk, file = (int(row[f"videos/{camera}/{part}_index"]) for part in ("chunk", "file"))
    return pattern.format(video_key=camera, chunk_index=chunk, file_index=file)


def _episodes(tree: Tree) -> tuple[pd.DataFrame, list[str]]:
    """One row per episode, and the cameras."""
    files = [tree.root / path for path in tree.tables if re.match(r"meta/episodes/.*\.parquet$", path)]
    try:
        table = pd.concat([pd.read_parquet(file) for file in files])
        keys = [re.fullmatch(r"videos/(.+)/file_index", str(key)) for key in table]
        cameras = [key[1] for key in keys if key]
        table[[f"videos/{camera}/{part}" for camera in cameras for part in ("chunk_index", "from_timestamp")]]
        return table, cameras
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{tree.root}/meta/episodes: cannot be read ({reason}); it tells apart the episodes of LeRobot v3"
        ) from None


def _root(same: dict[str, str], path: str) -> str:
    while same[path] != path:
        path = same[path]
    return path


def _unite(same: dict[str, str], paths: Iterable[str]) -> None:
    roots = sorted({_root(same, path) for path in paths})
    same.update(dict.fromkeys(roots, roots[0]) if roots else {})
