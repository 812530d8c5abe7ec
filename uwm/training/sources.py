"""What the mini trainings load, from memory: random crops of frames, and pairs of states computed once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import torch
from torch import Tensor
from tqdm import tqdm

from uwm.data.crops import random_crops
from uwm.data.draws import Draws
from uwm.data.pairs import joined_parts
from uwm.models.mae import MaskedAutoencoder

Load = Callable[[Tensor, Draws], Tensor]


def cropped_images(images: Tensor, size: int) -> Load:
    """For an `IndexSource`: random crops, `size` pixels square, of uint8 images (n, 3, H, W)."""
    return lambda rows, draws: random_crops(images[rows], size, draws)


def state_pairs(states: Tensor, pairs: Tensor) -> Load:
    """For an `IndexSource` of pairs: states (B, 2, 1+N, D), each pair in one view drawn at random.

    `states` (V, F, 1+N, D) holds V views of F frames; `pairs` (n, 2) the two frames of each pair.
    """

    def load(rows: Tensor, draws: Draws) -> Tensor:
        views = draws.randint(len(states), len(rows), 1)
        return states[views, pairs[rows]]

    return load


@torch.no_grad()
def encode_images(mae: MaskedAutoencoder, images: Tensor, *, batch_size: int = 64, name: str = "") -> Tensor:
    """States (F, 1+N, D) of uint8 images (F, 3, S, S), in float16: half the memory, and states are O(1).

    Encoded where the MAE is; images and states are in the memory of the host.
    """
    return joined_parts(_encoded(mae, images, batch_size, name), len(images))


@torch.no_grad()
def encode_views(mae: MaskedAutoencoder, views: Iterable[Sequence[Tensor]], images: int) -> Tensor:
    """The same of views that come one by one, each in parts (n, 3, S, S): all states (images, 1+N, D)."""
    parts = (_encoded(mae, part, 64, f"view {i + 1}") for i, view in enumerate(views) for part in view)
    return joined_parts(chain.from_iterable(parts), images)


def _encoded(mae: MaskedAutoencoder, images: Tensor, batch_size: int, name: str) -> Iterator[Tensor]:
    device = next(chain(mae.parameters(), mae.buffers())).device  # `PixelPatches` has no parameters
    starts = tqdm(range(0, len(images), batch_size), desc=f"encode {name}".strip(), mininterval=10)
    batches = (images[i : i + batch_size].to(device).float() / 255 for i in starts)
    yield from (mae.encode(batch).half() for batch in batches)
