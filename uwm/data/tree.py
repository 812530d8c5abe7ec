"""What lies in a folder of videos: one walk, quick for hundreds of thousands of files."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".webm", ".mkv", ".avi", ".divx", ".flv"),
        *(".mpg", ".mpeg", ".mpe", ".m2v", ".m1v", ".vob", ".ts", ".mts", ".m2ts", ".wmv", ".asf", ".ogv"),
        *(".mxf", ".nut", ".ivf", ".y4m", ".h264", ".264", ".avc", ".h265", ".265", ".hevc", ".mjpeg"),
        *(".mjpg", ".gif", ".ogg"),
    }
)
DEEPEST = 8  # folders between a corpus's folder and its pictures
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm"})
HDF5_SUFFIXES = frozenset({".hdf5", ".h5"})
TABLE_SUFFIXES = frozenset({".json", ".csv", ".txt", ".parquet"})


# By the ending without its dot, so that a name need not be put together anew to look it up.
_KINDS = {"table": TABLE_SUFFIXES, "hdf5": HDF5_SUFFIXES, "video": VIDEO_SUFFIXES}
_KIND_OF = {suffix[1:]: kind for kind, suffixes in _KINDS.items() for suffix in suffixes}


@dataclass(frozen=True)
class Tree:
    """Paths relative to `root`, with `/`, sorted: videos (and folders of pictures), HDF5 files, tables."""

    root: Path
    videos: tuple[str, ...]
    hdf5: tuple[str, ...]
    tables: tuple[str, ...]


def stem_of(path: str) -> str:
    name = path.rpartition("/")[2]
    stem, _, suffix = name.rpartition(".")
    return stem if stem and _kind_of(suffix) == "video" else name


def _kind_of(suffix: str) -> str | None:
    return _KIND_OF.get(suffix) or _KIND_OF.get(suffix.lower())


def read_tree(root: Path) -> Tree:
    """Links are followed, each folder once; hidden names (`._clip.webm` of macOS) are passed over.

    The folders beside an `fps.txt` (or its own folder) are videos of pictures, and not looked into, since
    they hold millions of them.
    """
    paths: dict[str, list[str]] = {"video": [], "hdf5": [], "table": []}
    for folder, subfolders, files in _walk(root):
        prefix = os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        prefix = "" if prefix == "./" else prefix
        if "fps.txt" in files:
            files.remove("fps.txt")
            inside = [path for name in subfolders for path in _picture_folders(root, prefix + name)]
            paths["video"] += inside or [prefix.rstrip("/") or "."]
            subfolders.clear()
        for name in files:
            if kind := _kind_of(name.rpartition(".")[2]):
                paths[kind].append(prefix + name)
    return Tree(root, *(tuple(sorted(paths[kind])) for kind in ("video", "hdf5", "table")))


def _picture_folders(root: Path, path: str) -> Iterator[str]:
    """The folders of pictures at or below a path; the first picture in a folder says that it is one."""
    below = []
    with os.scandir(root / path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.splitext(entry.name)[1].lower() in PICTURE_SUFFIXES:
                yield path
                return
            if entry.is_dir() and path.count("/") < DEEPEST:  # links may lead round in a circle
                below.append(entry.name)
    if not below:
        yield path  # empty: named when it is read
    for name in sorted(below):
        yield from _picture_folders(root, f"{path}/{name}")


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    visited: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield folder, subfolders, [name for name in files if not name.startswith(".")]
