"""Square crops of frames: the centre, random ones at each step, or random ones kept for a whole clip."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from uwm.data.draws import Draws


def center_crop(frames: Tensor, height: int, width: int) -> Tensor:
    """The middle of (...,H,W)."""
    top, left = (frames.shape[-2] - height) // 2, (frames.shape[-1] - width) // 2
    return frames[..., top : top + height, left : left + width].contiguous()


def random_crops(images: Tensor, size: int, draws: Draws, *, flip: bool = True) -> Tensor:
    """One random crop and flip an image: (B, ..., H, W) -> (B, ..., size, size).

    What an image carries before its last two axes (channels, the two frames of a pair) is cropped alike.
    With real actions, `flip=False`: a mirrored picture would want a mirrored action.
    """
    height, width = images.shape[-2:]
    tops = draws.randint(height - size + 1, len(images)).tolist()
    lefts = draws.randint(width - size + 1, len(images)).tolist()
    flips = (draws.rand(len(images)) < 0.5).tolist()
    crops = []
    for image, top, left, mirrored in zip(images, tops, lefts, flips, strict=True):
        crop = image[..., top : top + size, left : left + size]
        crops.append(crop.flip(-1) if mirrored and flip else crop)
    return torch.stack(crops)


def fixed_views(
    frames: Tensor, clips: Tensor, size: int, views: int, seed: int, *, flip: bool = True
) -> Iterator[Tensor]:
    """Crops that are made once, for a frozen encoder: per view and clip, one random crop and, with `flip`, a
    flip.

    `frames` (F, 3, H, W) uint8, `clips` (F,) the number of each frame's clip. Yields (F, 3, size, size),
    `views` times.
    """
    for view in range(views):
        draw = np.random.default_rng([seed, view])
        count = int(clips.max()) + 1
        tops = draw.integers(0, frames.shape[-2] - size + 1, count)
        lefts = draw.integers(0, frames.shape[-1] - size + 1, count)
        flips = draw.random(count) < 0.5
        cropped = torch.empty((len(frames), 3, size, size), dtype=torch.uint8)
        for i, clip in enumerate(clips.tolist()):
            crop = frames[i, :, tops[clip] : tops[clip] + size, lefts[clip] : lefts[clip] + size]
            cropped[i] = crop.flip(-1) if flips[clip] and flip else crop
        yield cropped
