"""Which way up a decoded picture is shown: what a file says by its display matrix, mirrored or turned.

FFmpeg's matrix takes a place in the stored picture (x right, y down) to the place where it is shown:
(x', y') = (a x + c y, b x + d y). Phones store quarter turns; their front cameras mirror as well.
"""

import struct
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type

from uwm.data.decoders import BadVideo, Frames

MATRIX = struct.Struct("=9i")  # rows (a, b, u), (c, d, v), (x, y, w)
SLANT = 0.02  # of a quarter turn's sine that rounding makes: one degree


class Orientation(NamedTuple):
    """How a stored picture is shown: x and y change places, then each goes one way or the other."""

    turn: bool
    step_y: int  # 1 or -1
    step_x: int


UPRIGHT = Orientation(False, 1, 1)
HALF_TURN = Orientation(False, -1, -1)


def orientation(frame: av.VideoFrame, path: Path | str) -> Orientation:
    """What a frame's matrix says. `BadVideo` where it is shown slanted."""
    side_data: Any = frame.side_data  # PyAV's types call it a mapping from names alone
    matrix = side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d, *_ = MATRIX.unpack_from(matrix)
    turn = max(abs(b), abs(c)) > max(abs(a), abs(d))
    along_x, along_y, rest = (c, b, (a, d)) if turn else (a, d, (b, c))
    if not max(map(abs, rest)) <= SLANT * min(abs(along_x), abs(along_y)):
        raise BadVideo(path, "is shown slanted (its display matrix is no quarter turn); "
                             "write it anew: ffmpeg -i FILE -c:v libx264 NEW.mp4")  # fmt: skip
    return Orientation(turn, 1 if along_y > 0 else -1, 1 if along_x > 0 else -1)


def turned_upright(picture: Frames, by: Orientation) -> Frames:
    """A picture (H,W,3), or (W,H,3) before a turn, as it is shown; contiguous."""
    rows = picture.transpose(1, 0, 2) if by.turn else picture
    return np.ascontiguousarray(rows[:: by.step_y, :: by.step_x])
