"""Clips side by side as an animated GIF."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from uwm.files import replacing

LABEL = 16  # pixels above the clips


def write_animation(columns: Mapping[str, Tensor], path: Path, seconds: float, enlarge: int = 2) -> None:
    """Clips (F, 3, S, S) in [0, 1] side by side below their names, as an endless GIF, `seconds` per frame.

    The same pictures give the same bytes.
    """
    strip = torch.cat([clip.clamp(0, 1) for clip in columns.values()], dim=-1)  # (F, 3, S, S * columns)
    strip = strip.repeat_interleave(enlarge, -1).repeat_interleave(enlarge, -2)
    frames = [_labelled(frame, list(columns)) for frame in strip]
    # One palette for all frames, so that what stands still does not flicker; one that keeps the colours of
    # small things, such as a red block.
    palette = _joined(frames).quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=3)
    paletted = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with replacing(path) as temporary:
        paletted[0].save(
            temporary,
            format="gif",
            save_all=True,
            append_images=paletted[1:],
            duration=round(1000 * seconds),
            loop=0,
        )


def _labelled(frame: Tensor, names: Sequence[str]) -> Image.Image:
    """A strip (3, H, W) below the names of its columns."""
    picture = Image.fromarray(frame.mul(255).round().byte().permute(1, 2, 0).cpu().numpy())
    whole = Image.new("RGB", (picture.width, picture.height + LABEL), "white")
    whole.paste(picture, (0, LABEL))
    draw = ImageDraw.Draw(whole)
    for column, name in enumerate(names):
        draw.text((column * picture.width // len(names) + 3, 2), name, fill="black")
    return whole


def _joined(frames: list[Image.Image]) -> Image.Image:
    return Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames]))
