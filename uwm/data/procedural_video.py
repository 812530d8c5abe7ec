"""Procedural video: pairs of frames between which a textured picture pans, zooms or turns and textured shapes
move across it. What moves, and how, has nothing to do with any corpus (see `uwm/data/procedural.py`).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from uwm.data.pairs import FrameBank
from uwm.data.procedural import procedural_images

PROCEDURAL = "procedural"  # the source's name among corpora
PROCEDURAL_VERSION = "1"  # of the pictures: part of the identity of what is trained on them
STILL = 0.3  # of the pairs have a camera that stands still
MOST_SHAPES = 3
CANVAS = 1.5  # side of the picture that the camera sees a part of, over the frame's
SHARED_PICTURES = 256  # pictures that the pairs of one seed share, each with other motions


def procedural_pairs(count: int, size: int, seed: int) -> NDArray[np.uint8]:
    """`count` pairs of RGB frames, uint8 (count, 2, 3, size, size); pair i depends on (seed, i, size)."""
    pictures = procedural_images(min(count + 1, SHARED_PICTURES), round(CANVAS * size), seed)
    pictures = np.ascontiguousarray(pictures.transpose(0, 2, 3, 1))
    pairs = np.empty((count, 2, 3, size, size), np.uint8)
    for index in range(count):
        rng = np.random.default_rng((seed, index, 1))
        ground, *paints = pictures[rng.choice(len(pictures), 1 + int(rng.integers(MOST_SHAPES + 1)))]
        frames = _moved(rng, ground, size)
        for paint in paints:
            frames = _with_shape(rng, frames, paint, size)
        pairs[index] = np.stack([np.asarray(frame) for frame in frames]).transpose(0, 3, 1, 2)
    return pairs


def procedural_bank(count: int, size: int, gap: float, seed: int) -> FrameBank:
    """Those pairs as frames of `count` clips of two frames, `gap` seconds apart."""
    frames = torch.from_numpy(procedural_pairs(count, size, seed)).flatten(0, 1)
    indices = torch.arange(2 * count)
    return FrameBank(
        frames=frames,
        clip=indices // 2,
        time=gap * (indices % 2).double(),
        pairs=indices.unflatten(0, (-1, 2)),
        clips=tuple(f"{PROCEDURAL}/{index}" for index in range(count)),
        skipped=[],
    )


def _moved(rng: np.random.Generator, picture: NDArray[np.uint8], size: int) -> list[Image.Image]:
    """Two views of a picture: the camera stands still, or it pans, zooms and turns about the middle."""
    still = rng.random() < STILL
    pan = np.zeros(2) if still else rng.normal(0, 0.04, 2) * size  # pixels
    zoom, turn = (1.0, 0.0) if still else (np.exp(rng.normal(0, 0.03)), rng.normal(0, np.pi / 90))
    image, middle = Image.fromarray(picture), len(picture) / 2
    views = []
    for share in (-0.5, 0.5):  # half of the motion before the middle, half after
        scale, angle, (dx, dy) = zoom**share, turn * share, pan * share
        a, b = scale * np.cos(angle), scale * np.sin(angle)
        # Output (x, y) is taken from a x - b y + c, b x + a y + d: the frame's middle from the picture's.
        c, d = middle + dx - (a - b) * size / 2, middle + dy - (a + b) * size / 2
        views.append(
            image.transform(
                (size, size), Image.Transform.AFFINE, (a, -b, c, b, a, d), Image.Resampling.BILINEAR
            )
        )
    return views


def _with_shape(
    rng: np.random.Generator, frames: list[Image.Image], paint: NDArray[np.uint8], size: int
) -> list[Image.Image]:
    """The frames with a shape over them, cut out of another picture, that moves and turns."""
    radius = size * rng.uniform(0.06, 0.25)
    start, motion = rng.uniform(0, size, 2), rng.normal(0, 0.06, 2) * size
    turn, angles = rng.normal(0, np.pi / 18), np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 9))))
    side = int(2 * radius) + 1
    texture = Image.fromarray(paint[:side, :side])
    mask = Image.new("L", (side, side))
    outline = side / 2 + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in outline], fill=255)
    covered = []
    for share, frame in zip((0.0, 1.0), frames, strict=True):
        corner, degrees = start + share * motion - side / 2, float(np.degrees(turn * share))
        drawn = frame.copy()
        box = (round(corner[0]), round(corner[1]))
        bilinear = Image.Resampling.BILINEAR
        drawn.paste(texture.rotate(degrees, bilinear), box, mask.rotate(degrees, bilinear))
        covered.append(drawn)
    return covered
