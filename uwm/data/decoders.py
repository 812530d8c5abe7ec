"""What all readers of pictures share: their errors, and which sizes they take.

Times count seconds from the first displayed frame. Pictures are upright, RGB, uint8, (H,W,3).
A reader belongs to the process and thread that opened it; all of them decode with one thread.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uwm.errors import UserError

Frames = NDArray[np.uint8]
Times = NDArray[np.float64]
TIME_TOLERANCE = 2e-3  # s; Matroska rounds timestamps to 1 ms
MAX_PIXELS = 40_000_000  # of a picture: 8K (7680 x 4320) fits; a file that claims more would fill the memory
MIN_SIDE = 8  # px
MAX_RATIO = 16  # long side over short side: the short one is resized, so the long one grows with it


class BadVideo(UserError):  # noqa: N818
    """A file that cannot be read as a whole video; the message is `file: reason`."""

    machine = False  # whether another try may succeed, since the file need not be damaged

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(str(path), reason)  # both as args, so that it passes between processes
        self.path, self.reason = str(path), reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def reason_of(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return "cannot be decoded: " + " ".join(text.split())[:120]


def check_size(path: Path | str, width: int, height: int) -> None:
    """`BadVideo` for pictures too large to hold, too small or too narrow to crop."""
    size = f"pictures of {width} x {height} px"
    if width * height > MAX_PIXELS:
        raise BadVideo(path, f"{size} are more than {MAX_PIXELS / 1e6:g} million; write it smaller")
    if min(width, height) < MIN_SIDE:
        raise BadVideo(path, f"{size}: each side must have at least {MIN_SIDE}")
    if max(width, height) > MAX_RATIO * min(width, height):
        raise BadVideo(path, f"{size} are over {MAX_RATIO} times as long as wide; cut it before")
