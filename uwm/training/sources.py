"""What the mini trainings load, from memory: random crops of frames, and pairs of states computed once."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from uwm.models.mae import MaskedAutoencoder

Load = Callable[[Tensor, torch.Generator], Tensor]


def random_crops(images: Tensor, size: int, generator: torch.Generator, *, flip: bool = True) -> Tensor:
    """One random crop and flip an image: (B, ..., H, W) -> (B, ..., size, size).

    What an image carries before its last two axes (channels, the two frames of a pair) is cropped alike.
    With real actions, `flip=False`: a mirrored picture would want a mirrored action.
    """
    height, width = images.shape[-2:]
    tops = torch.randint(height - size + 1, (len(images),), generator=generator).tolist()
    lefts = torch.randint(width - size + 1, (len(images),), generator=generator).tolist()
    flips = (torch.rand(len(images), generator=generator) < 0.5).tolist()
    crops = []
    for image, top, left, mirrored in zip(images, tops, lefts, flips, strict=True):
        crop = image[..., top : top + size, left : left + size]
        crops.append(crop.flip(-1) if mirrored and flip else crop)
    return torch.stack(crops)


def cropped_images(images: Tensor, size: int) -> Load:
    """For an `IndexSource`: random crops, `size` pixels square, of uint8 images (n, 3, H, W)."""
    return lambda rows, generator: random_crops(images[rows], size, generator)


def state_pairs(states: Tensor, pairs: Tensor) -> Load:
    """For an `IndexSource` of pairs: states (B, 2, 1+N, D), each pair in one view drawn at random.

    `states` (V, F, 1+N, D) holds V views of F frames; `pairs` (n, 2) the two frames of each pair.
    """

    def load(rows: Tensor, generator: torch.Generator) -> Tensor:
        views = torch.randint(len(states), (len(rows), 1), generator=generator)
        return states[views, pairs[rows]]

    return load


def fixed_views(
    frames: Tensor, clips: Tensor, size: int, views: int, seed: int, *, flip: bool = True
) -> Iterator[Tensor]:
    """Croppings that a frozen encoder need see only once: per view and clip, one random crop
    and, with `flip`, a flip.

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


@torch.no_grad()
def encode_images(mae: MaskedAutoencoder, images: Tensor, *, batch_size: int = 64, name: str = "") -> Tensor:
    """States (F, 1+N, D) of uint8 images (F, 3, S, S), in float16: half the memory, and states are O(1)."""
    starts = tqdm(range(0, len(images), batch_size), desc=f"encode {name}".strip(), mininterval=10)
    return torch.cat([mae.encode(images[i : i + batch_size].float() / 255).half() for i in starts])
