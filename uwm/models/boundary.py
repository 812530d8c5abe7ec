"""What the models' public methods demand of tensors: kind, shape, range, and that all of it is finite.

A wrong tensor would give a wrong but finite state, and nothing later would notice. So each public call
checks its inputs once, which costs a pass over them. Trainings check shapes alone: this package makes their
batches.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from uwm.errors import BadInput

SLACK = 1e-3  # rounding beyond [0, 1] that is let through
_values = ContextVar("values", default=True)


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Inside this context only shapes are checked: to read values is to wait for the GPU."""
    token = _values.set(False)
    try:
        yield
    finally:
        _values.reset(token)


def check_images(name: str, images: Tensor, size: int) -> None:
    """Images (B, 3, size, size), floating, in [0, 1]. Raises BadInput, a ValueError."""
    if not isinstance(images, Tensor) or images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
        raise BadInput(
            f"{name} are {_said(images)} for an MAE of {size} x {size} pixels: "
            f"resize or crop them to (B, 3, {size}, {size})"
        )
    if not images.is_floating_point():
        raise BadInput(f"{name} are {images.dtype}: give floats in [0, 1], such as images.float() / 255")
    _check_storage(name, images)
    low, high = _extent(images)
    if not (low >= -SLACK and high <= 1 + SLACK):  # also false for NaN
        raise BadInput(f"{name} run from {low:g} to {high:g}: give values in [0, 1]")


def check_tensor(name: str, tensor: Tensor, shape: tuple[int | None, ...], batch: int | None = None) -> None:
    """A finite floating tensor of some shape (None: any size), with a batch like another's.

    Raises BadInput, a ValueError.
    """
    expected = f"({', '.join('B' if size is None else str(size) for size in shape)})"
    fits = isinstance(tensor, Tensor) and tensor.ndim == len(shape)
    if not fits or any(size not in (None, actual) for size, actual in zip(shape, tensor.shape, strict=True)):
        raise BadInput(f"{name} are {_said(tensor)}, but must be {expected}")
    if batch not in (None, len(tensor)):
        raise BadInput(f"{name} are a batch of {len(tensor)} beside one of {batch}")
    if not tensor.is_floating_point():
        raise BadInput(f"{name} are {tensor.dtype}, but must be floats")
    _check_storage(name, tensor)
    low, high = _extent(tensor)
    if not high - low < float("inf"):  # also false for NaN
        raise BadInput(f"{name} hold NaN or infinite values")


def check_latents(latents: Tensor, width: int) -> None:
    """Finite floating latents (..., width). Raises BadInput."""
    ahead = latents.shape[:-1] if isinstance(latents, Tensor) else ()
    check_tensor("latents", latents, (*(None for _ in ahead), width))


def check_codes(codes: Tensor, count: int) -> None:
    """Whole numbers from 0 to `count` - 1. Raises BadInput."""
    if not isinstance(codes, Tensor) or codes.dtype not in (torch.int64, torch.int32):
        kind = codes.dtype if isinstance(codes, Tensor) else f"a {type(codes).__name__}"
        raise BadInput(f"codes are {kind}: give a tensor of int64")
    low, high = _extent(codes)
    if not 0 <= low <= high < count:
        raise BadInput(f"codes run from {low:g} to {high:g}: there are {count}, from 0")


def check_precision(name: str, tensor: Tensor, weights: Tensor) -> None:
    """A tensor of the precision of a model's weights, unless autocast sees to that. Raises BadInput."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled(tensor.device.type):
        return
    if tensor.dtype != weights.dtype:
        raise BadInput(f"{name} are {tensor.dtype}, not {weights.dtype} as the weights: convert them")


def _check_storage(name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_meta:
        kind = "on the device meta" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
        raise BadInput(f"{name} are {kind}: give a dense tensor that holds values")


def _extent(tensor: Tensor) -> tuple[float, float]:
    if torch.compiler.is_compiling() or not _values.get() or not tensor.numel():
        return 0.0, 0.0
    low, high = torch.aminmax(tensor.detach())
    return low.item(), high.item()


def _said(tensor: object) -> str:
    return f"of shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
