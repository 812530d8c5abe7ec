"""Random numbers for the samples of a batch that do not depend on how many processes share it."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """What a rank draws for its samples: its rows of what one process would draw for the whole batch.

    Rank r of w processes holds the samples r, r + w, r + 2w and so on. `generator` is on the CPU and in the
    same state on all ranks. Shapes are those of this rank, samples first.
    """

    generator: torch.Generator
    rank: int = 0
    world_size: int = 1

    def rand(self, *shape: int) -> Tensor:
        """Float32 in [0, 1)."""
        return self._mine(torch.rand(self._whole(shape), generator=self.generator))

    def randn(self, *shape: int) -> Tensor:
        """Float32, of a standard normal distribution."""
        return self._mine(torch.randn(self._whole(shape), generator=self.generator))

    def randint(self, high: int, *shape: int) -> Tensor:
        """Int64 in [0, high)."""
        return self._mine(torch.randint(high, self._whole(shape), generator=self.generator))

    def _whole(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0] * self.world_size, *shape[1:])

    def _mine(self, drawn: Tensor) -> Tensor:
        return drawn[self.rank :: self.world_size]
