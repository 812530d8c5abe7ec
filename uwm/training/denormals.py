"""Denormal numbers, too small for full precision, make a CPU slow: they are flushed to zero here."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Inside this context denormal numbers are zero; after it the CPU works as before.

    Squares of small gradients underflow in Adam's moments, which slows an adapter's training most.
    """
    before = float(torch.tensor(1e-40) * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
