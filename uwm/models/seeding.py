"""Weights drawn from a seed, whatever torch's own generators were at."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded_draws(seed: int) -> Iterator[None]:
    """What is drawn on the CPU, or on torch's default device, in this block follows from `seed`.

    Torch's generators are then as before. `torch.manual_seed` would set those of all GPUs, and leave them so.
    """
    default = torch.get_default_device()
    gpus = [default.index or 0] if default.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        for generator in (torch.default_generator, *(torch.cuda.default_generators[gpu] for gpu in gpus)):
            generator.manual_seed(seed)
        yield
