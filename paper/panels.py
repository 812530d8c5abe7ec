"""Grids of small pictures as figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from paper.grids import Grid
from paper.names import math
from paper.style import COLUMN_INCHES

NARROW, WIDE = 0.22, 0.5  # inches left of the pictures, for numbers and for names
ABOVE, NOTE = 0.2, 0.13  # inches over the pictures, and for a line of numbers below


def grid_figure(grid: Grid) -> Figure:
    """The pictures with their rows' and columns' names and the numbers below."""
    pixels = mosaic([[_pixels(path) for path in row] for row in grid.pictures])
    left = WIDE if max(map(len, grid.rows)) > 3 else NARROW
    height = (COLUMN_INCHES - left) * pixels.shape[0] / pixels.shape[1]
    below = NOTE * len(grid.notes)
    figure = Figure(figsize=(COLUMN_INCHES, ABOVE + height + below))
    total = figure.get_figheight()
    axis = figure.add_axes((left / COLUMN_INCHES, below / total, 1 - left / COLUMN_INCHES, height / total))
    axis.imshow(pixels, extent=(0, len(grid.columns), len(grid.rows), 0), interpolation="none", aspect="auto")
    axis.axis("off")
    for row, name in enumerate(grid.rows):
        axis.text(-0.06, row + 0.49, math(name), ha="right", va="center")
    for column, name in enumerate(grid.columns):
        axis.text(column + 0.49, -0.06, math(name), ha="center", va="bottom")
    for line, (name, numbers) in enumerate(grid.notes.items()):
        y = len(grid.rows) * (1 + NOTE * (line + 0.5) / height)
        axis.text(-0.06, y, math(name), ha="right", va="center", fontsize=7)
        for column, text in enumerate(numbers):
            axis.text(column + 0.49, y, text, ha="center", va="center", fontsize=7)
    return figure


def _pixels(path: Path) -> np.ndarray | None:
    """uint8 (S, S, 3), or None for a picture that is not there."""
    return np.asarray(Image.open(path).convert("RGB")) if path.exists() else None


def mosaic(pictures: Sequence[Sequence[np.ndarray | None]]) -> np.ndarray:
    """uint8 pictures (S, S, 3) in rows, each with a thin white edge to its right and below."""
    side = next((picture.shape[0] for row in pictures for picture in row if picture is not None), 1)
    cell = side + max(side // 32, 1)
    canvas = np.full((cell * len(pictures), cell * len(pictures[0]), 3), 255, np.uint8)
    for i, row in enumerate(pictures):
        for j, picture in enumerate(row):
            if picture is not None:
                canvas[i * cell : i * cell + side, j * cell : j * cell + side] = picture
    return canvas
