"""Procedural pictures with statistics of natural ones (Baradad et al. 2021, 'Learning to see by looking at
noise'), so that a small autoencoder also learns to show what no corpus of ours contains.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

FloatArray = NDArray[np.floating]
Rng = np.random.Generator

OUTLINE_POINTS = 24  # points of a shape's outline; a k-gon repeats its corners
SUPERSAMPLING = 2  # shapes are drawn at this multiple of the size, then averaged


def procedural_images(count: int, size: int, seed: int) -> NDArray[np.uint8]:
    """`count` RGB pictures, uint8 (count, 3, size, size); picture i depends on (seed, i, size) alone."""
    images = np.empty((count, 3, size, size), np.uint8)
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        make = (dead_leaves, dead_leaves, scene, scene, texture, spectrum_noise, mixture)[index % 7]
        picture = make(rng, size) * _illumination(rng, size)
        images[index] = np.clip(picture * 255, 0, 255).round()
    return images


def spectrum_noise(rng: Rng, size: int, exponent: float | None = None) -> FloatArray:
    """Colour noise (3, S, S) in [0, 1] whose amplitude spectrum falls as 1/f^exponent.

    Without `exponent` it is drawn per axis around natural pictures' 1, so that textures have directions.
    """
    noise = _noise(rng, size, 3, rng.uniform(0.8, 2.0, 2) if exponent is None else np.full(2, exponent))
    picture = np.tensordot(_colour_mixing(rng), noise, axes=1)  # (3, S, S)
    contrast = rng.uniform(0.05, 0.2)  # standard deviation of the luminance
    return np.clip(rng.uniform(0.3, 0.7, (3, 1, 1)) + contrast * picture, 0, 1)


def dead_leaves(rng: Rng, size: int) -> FloatArray:
    """Opaque textured shapes that cover each other, sizes by the scale-invariant r^-3 law: (3, S, S)."""
    smallest = rng.uniform(0.02, 0.08)
    radii = (smallest**-2 + rng.random(int(rng.integers(30, 130))) * (0.4**-2 - smallest**-2)) ** -0.5
    background = np.broadcast_to(_colours(rng, 1).reshape(3, 1, 1), (3, size, size))
    return _add_shapes(rng, background, rng.permutation(radii))


def scene(rng: Rng, size: int) -> FloatArray:
    """A wall and a ground with gradients and texture, and a few large shapes on them: (3, S, S)."""
    y, x = _coordinates(size)
    tilt, horizon = rng.normal(0, 0.15), rng.uniform(0.1, 0.9)
    distance = y - horizon + tilt * (x - 0.5)  # below the horizon: positive
    wall, far, near, side = _colours(rng, 4)[:, :, None, None]
    ground = far + (near - far) * np.clip(distance / (1 - horizon), 0, 1)
    above = wall + (side - wall) * 0.5 * np.clip(x + rng.normal(0, 0.5), 0, 1)
    below = np.clip(distance * size + 0.5, 0, 1)  # the edge is one pixel soft
    background = above * (1 - below) + ground * below
    background = background + rng.exponential(0.03) * _noise(rng, size, 1, rng.uniform(0.8, 1.8, 2))
    return _add_shapes(rng, background, rng.uniform(0.04, 0.25, int(rng.integers(3, 16))), shadows=True)


def texture(rng: Rng, size: int) -> FloatArray:
    """Stripes or checks in two colours, bent and with soft to hard edges: (3, S, S)."""
    y, x = _coordinates(size)
    bend = rng.exponential(0.05)
    x, y = x + bend * _smooth(rng, size, 4), y + bend * _smooth(rng, size, 4)
    angle, frequency = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(2), np.log(size / 6)))
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    wave = np.sin(2 * np.pi * frequency * along + rng.uniform(0, 6))
    if rng.random() < 0.4:
        wave = wave * np.sin(2 * np.pi * frequency * rng.uniform(0.3, 1) * across)
    share = 0.5 + 0.5 * np.tanh(np.exp(rng.uniform(-1, 2)) * wave)
    one, other = _colours(rng, 2)[:, :, None, None]
    grain = rng.exponential(0.03) * _noise(rng, size, 1, rng.uniform(0.5, 1.5, 2))
    return np.clip(one + (other - one) * share + grain, 0, 1)


def mixture(rng: Rng, size: int) -> FloatArray:
    """Two of the other kinds on both sides of a wavy border: (3, S, S)."""
    kinds = (dead_leaves, scene, texture, spectrum_noise)
    first, second = (kinds[i](rng, size) for i in rng.choice(len(kinds), 2, replace=False))
    share = np.clip(0.5 + rng.choice([1.0, 20.0]) * _smooth(rng, size, int(rng.integers(2, 6))), 0, 1)
    return first * share + second * (1 - share)


def _add_shapes(rng: Rng, background: FloatArray, radii: FloatArray, shadows: bool = False) -> FloatArray:
    """Paint one filled, textured shape per radius (in picture widths) over `background` (3, S, S)."""
    size, count = background.shape[-1], len(radii)
    outlines = _outlines(rng, radii)  # (count, points, 2)
    paint = np.column_stack([_colours(rng, count), rng.exponential(0.3, count).clip(0, 1)])  # RGB, roughness
    cover = np.moveaxis(_draw(outlines, np.column_stack([paint, np.ones(count)]), size), -1, 0)  # (5, S, S)
    if shadows:
        shift = rng.normal(0, 0.03, 2)
        shade = _draw(outlines + shift, np.ones((count, 1)), size, blur=rng.uniform(0.5, 4))[..., 0]
        background = background * (1 - rng.uniform(0, 0.6) * shade)
    grain = rng.uniform(0.05, 0.2) * _noise(rng, size, 1, rng.uniform(0.8, 1.8, 2))
    return np.clip(background * (1 - cover[4]) + cover[:3] + cover[3] * grain, 0, 1)


def _draw(outlines: FloatArray, values: FloatArray, size: int, blur: float = 0.0) -> FloatArray:
    """Fill outlines (count, points, 2) with values (count, C) in [0, 1], the last on top: (S, S, C)."""
    side, levels = size * SUPERSAMPLING, np.round(values * 255).astype(int)
    shapes = (outlines * side).reshape(len(outlines), -1).tolist()
    channels = []
    for start in range(0, levels.shape[1], 3):
        part = levels[:, start : start + 3]
        part = np.pad(part, ((0, 0), (0, 3 - part.shape[1])))
        canvas = Image.new("RGB", (side, side))
        draw = ImageDraw.Draw(canvas)
        for shape, level in zip(shapes, part.tolist(), strict=True):
            draw.polygon(shape, fill=tuple(level))
        small = canvas.reduce(SUPERSAMPLING)
        channels.append(np.asarray(small.filter(ImageFilter.GaussianBlur(blur)) if blur else small))
    return np.concatenate(channels, axis=-1)[..., : levels.shape[1]] * np.float32(1 / 255)


def _outlines(rng: Rng, radii: FloatArray) -> FloatArray:
    """Outlines (count, points, 2) in picture widths: stretched, turned triangles to ellipses and blobs."""
    count = len(radii)
    corners = rng.choice([3, 4, 4, 5, 6, OUTLINE_POINTS, OUTLINE_POINTS], count)[:, None]
    corner = np.arange(OUTLINE_POINTS) * corners // OUTLINE_POINTS  # (count, points): the k-gon's corner
    wobble = 1 + rng.exponential(0.1, (count, 1)) * rng.normal(size=(count, OUTLINE_POINTS))
    length = np.where(corners == OUTLINE_POINTS, 1, np.take_along_axis(wobble, corner, axis=1))
    angle = 2 * np.pi * (corner + 0.5) / corners
    stretch = np.exp(rng.normal(0, 0.35, (count, 1)))
    x, y = length * np.cos(angle) * stretch, length * np.sin(angle) / stretch
    turn = rng.uniform(0, np.pi, (count, 1)) * (rng.random((count, 1)) < 0.7)  # the rest stands upright
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=-1)
    return points * radii[:, None, None] + rng.uniform(0, 1, (count, 1, 2))


def _noise(rng: Rng, size: int, channels: int, exponents: FloatArray) -> FloatArray:
    """Noise (channels, S, S), mean 0 and variance 1, amplitude 1/f^a with one exponent per axis (x, y)."""
    fx2, fy2, inverse = _frequencies(size)
    power = (
        -0.5 * (np.float32(exponents[0]) * fx2 + np.float32(exponents[1]) * fy2) * inverse
    )  # per direction
    waves = rng.standard_normal((channels, *power.shape, 2), np.float32).view(np.complex64)[..., 0]
    noise = np.fft.irfft2(waves * np.exp(-power * np.log(inverse)), s=(size, size))
    noise -= noise.mean(axis=(1, 2), keepdims=True)
    return noise / noise.std(axis=(1, 2), keepdims=True)


@lru_cache
def _frequencies(size: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """fx^2, fy^2 and 1 / (fx^2 + fy^2), float32, of the half-plane of a real transform."""
    fy2, fx2 = np.fft.fftfreq(size)[:, None] ** 2, np.fft.rfftfreq(size)[None] ** 2
    squared = fx2 + fy2
    squared[0, 0] = 1e-12  # the mean: `_noise` removes it
    return fx2.astype(np.float32), fy2.astype(np.float32), (1 / squared).astype(np.float32)


def _coordinates(size: int) -> tuple[FloatArray, FloatArray]:
    """Rows (S, 1) and columns (1, S) in picture widths, float32."""
    positions = np.arange(size, dtype=np.float32) / np.float32(size)
    return positions[:, None], positions[None]


def _smooth(rng: Rng, size: int, cells: int) -> FloatArray:
    """A smooth random field (S, S) of about unit variance with some `cells` bumps along a side."""
    grid = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))


def _illumination(rng: Rng, size: int) -> FloatArray:
    """A slowly varying light (S, S) around 1."""
    return np.exp(np.float32(rng.uniform(0, 0.25)) * _smooth(rng, size, 3))


def _colours(rng: Rng, count: int) -> FloatArray:
    """Colours (count, 3) in [0, 1]: any lightness, mostly unsaturated."""
    tint = rng.normal(size=(count, 3))
    tint -= tint.mean(axis=1, keepdims=True)
    colours = np.clip(rng.beta(1.1, 1.1, (count, 1)) + rng.exponential(0.09, (count, 1)) * tint, 0, 1)
    return colours.astype(np.float32)


def _colour_mixing(rng: Rng) -> FloatArray:
    """Matrix (3, 3) from independent channels to RGB: mostly common luminance, some opponent colour."""
    opponents = np.array([[1.0, 1, 1], [1, -1, 1], [1, 0, -2]])
    return opponents * np.array([1.0, rng.uniform(0.05, 0.5), rng.uniform(0.05, 0.3)])
