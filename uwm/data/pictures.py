"""A folder of numbered pictures as a video."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from uwm.data.decoders import BadVideo, Frames, Times, check_size, reason_of
from uwm.data.tree import PICTURE_SUFFIXES
from uwm.errors import UserError

FPS_LEVELS = 4  # folders above the pictures in which their rate may stand
HIDDEN = "."  # how names begin that are no data: `._im_0.jpg` is what macOS leaves beside im_0.jpg


class FolderReader:
    """A folder of numbered pictures (JPEG, PNG, ...); their rate stands in `fps.txt` in it or above it."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.files = picture_files(self.path)
        if not self.files:
            raise BadVideo(path, "no pictures in the folder")
        self.fps = stated_fps(self.path)

    def __len__(self) -> int:
        return len(self.files)

    def times(self) -> Times:
        return np.arange(len(self.files)) / self.fps

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames (n,H,W,3) by place in the order of the numbers. `BadVideo` where one cannot be read."""
        if max(indices) >= len(self.files):
            raise BadVideo(self.path, f"has {len(self.files)} frames, frame {max(indices)} was asked for")
        pictures = [_read_picture(self.files[i]) for i in indices]
        if len({picture.shape for picture in pictures}) > 1:
            raise BadVideo(self.path, "changes its picture size")
        return np.stack(pictures)


def _read_picture(file: Path) -> Frames:
    try:
        with Image.open(file) as picture:
            check_size(file, *picture.size)  # told by the header, before a pixel is decoded
            return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # all Pillow's
        raise BadVideo(file.parent, f"{file.name} {reason_of(error)}") from None


def picture_files(folder: Path) -> list[Path]:
    """The pictures of one series in the order of their numbers: im_2 before im_10, 9999 before 10000.

    `BadVideo` where the order or the time of a picture would be a guess: several series in one folder, or a
    hole in the numbers.
    """
    files = [file for file in folder.iterdir() if file.suffix.lower() in PICTURE_SUFFIXES]
    files = sorted((file for file in files if not file.name.startswith(HIDDEN)), key=by_number)
    series = sorted({re.sub(r"\d+", "#", file.stem) for file in files})
    if len(series) > 1:
        raise BadVideo(folder, f"holds pictures of {len(series)} series ({', '.join(series[:3])}); "
                               "keep each in a folder of its own")  # fmt: skip
    _check_holes(folder, files)
    return files


def by_number(file: Path) -> tuple[list[str | int], str]:
    """Sorts names as people do: digits count as numbers. (Text and numbers take turns, so they compare.)"""
    parts = re.split(r"(\d+)", file.stem)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], file.name


def _check_holes(folder: Path, files: list[Path]) -> None:
    """Every picture's time follows from its place, which a missing one would shift."""
    numbers = np.array([[int(n) for n in re.findall(r"\d+", file.stem)] for file in files], dtype=object)
    counting = [column for column in numbers.T if len(set(column)) > 1] if numbers.ndim == 2 else []
    if len(counting) != 1 or len(files) < 3:  # of several numbers none is known to count the frames
        return
    steps = np.diff(counting[0])
    if (odd := np.flatnonzero(steps != min(steps))).size:
        after = files[int(odd[0])].name
        raise BadVideo(folder, f"its numbers have a hole after {after}; number the pictures without holes")


def stated_fps(folder: Path) -> float:
    """The number in the nearest `fps.txt`, in the folder or above; `UserError` when there is none."""
    for parent in (folder, *list(folder.parents)[:FPS_LEVELS]):
        file = parent / "fps.txt"
        if file.is_file():
            return _read_fps(file)
    raise UserError(f"{folder}: state the rate of these pictures in {folder.parent / 'fps.txt'}, e.g. 12")


def _read_fps(file: Path) -> float:
    try:
        fps = float(file.read_text(encoding="utf-8-sig"))
    except ValueError:
        fps = float("nan")
    if not 0 < fps < 10_000:
        raise UserError(f"{file}: must hold one number above 0, the frames per second")
    return fps
