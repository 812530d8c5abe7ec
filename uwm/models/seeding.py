"""Weights drawn from a seed, whatever torch's own generators were at."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded_draws(seed: int) -> Iterator[None]:
    """What is drawn on the CPU in this block follows from `seed`; torch's generators are then as before.

    GPUs' too: `torch.manual_seed` would set them, and leave them so.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
