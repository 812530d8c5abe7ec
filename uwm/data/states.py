"""States of frames by a frozen encoder, computed once."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import torch
from torch import Tensor
from tqdm import tqdm

from uwm.data.action_pairs import ActionPairs
from uwm.data.corpora import Corpus
from uwm.data.crops import center_crop, fixed_views
from uwm.data.pairs import FrameBank, joined_parts, load_frames, load_pairs
from uwm.data.selection import needed_frames

# States


@dataclass(frozen=True)
class FrozenEncoder:
    """Uint8 images (B, 3, S, S) -> states (B, 1+N, D), on the CPU; two are equal where their weights are."""

    sha256: str
    image_size: int
    encode: Callable[[Tensor], Tensor] = field(compare=False)


@torch.no_grad()
def encode_frames(
    encoder: FrozenEncoder, images: Tensor, name: str = "", *, dtype: torch.dtype = torch.float16
) -> Tensor:
    """States (..., 1+N, D) of uint8 images (..., 3, S, S), on the CPU."""
    flat = images.flatten(0, -4)
    return joined_parts(_encoded(encoder, flat, name, dtype), len(flat)).unflatten(0, images.shape[:-3])


def _encoded(encoder: FrozenEncoder, images: Tensor, name: str, dtype: torch.dtype) -> Iterator[Tensor]:
    for part in tqdm(images.split(64), f"encode {name}", mininterval=10):
        yield encoder.encode(part).to(dtype)


def center_views(bank: FrameBank, size: int, views: int) -> Iterator[Tensor]:
    """Crops (F, 3, size, size) of all frames: the centre, as in evaluation, then random ones per clip."""
    yield center_crop(bank.frames, size, size)
    yield from fixed_views(bank.frames, bank.clip, size, views - 1, seed=0, flip=False)


@functools.lru_cache(maxsize=4)
@torch.no_grad()
def view_states(
    encoder: FrozenEncoder, pairs: ActionPairs, short_side: int, gap: float, views: int
) -> tuple[Tensor, Tensor]:
    """States (V, F, 1+N, D) of the frames that the pairs need, and the pairs' index (n, 2) among them.

    The crops are the same for every seed, so that trainings in one process share the states.
    """
    bank, frame_index = frames_of(pairs, short_side, gap)
    views = max(1, views)
    crops = center_views(bank, encoder.image_size, views)
    states = chain.from_iterable(
        _encoded(encoder, view, f"{pairs.corpus.name}, view {i + 1}", torch.float16)
        for i, view in enumerate(crops)
    )
    return joined_parts(states, views * len(bank.frames)).unflatten(0, (views, -1)), frame_index


def frames_of(pairs: ActionPairs, short_side: int, gap: float) -> tuple[FrameBank, Tensor]:
    """The training frames that pairs need, and the pairs' index (n, 2) among them."""
    return needed_frames(_every_frame(pairs.corpus, short_side, gap), pairs.manifest)


@functools.lru_cache(maxsize=1)
def _every_frame(corpus: Corpus, short_side: int, gap: float) -> FrameBank:
    """The training split, decoded once for all trainings of a process."""
    return load_frames(corpus, "train", short_side, gap=gap)


def evaluation_images(pairs: ActionPairs, short_side: int, size: int) -> Tensor:
    """The pairs' frames, uint8 (n, 2, 3, S, S): the centre of each."""
    return center_crop(load_pairs(pairs.corpus, pairs.manifest, short_side), size, size)
