"""A small network that reads numbers off states: the hand's place, or the action between two states."""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.bounds import Bounded, Width, later
from uwm.models.storage import StoredModel
from uwm.models.tokens import TokenConfig


@dataclass(frozen=True)
class ReaderConfig(Bounded):
    """Sizes; `tokens` are those of the world model whose MAE gives the states."""

    outputs: Width = 3
    states: Width = 1  # that are read together
    channels: Width = 64  # of the convolutions
    pooling: Literal["attention", "patches"] = later("attention")
    maps: Width = 16  # attention maps
    values: Width = 16  # that each attention map takes from where it looks, beside the place
    width: Width = 128  # of the hidden layer
    tokens: TokenConfig = field(default_factory=TokenConfig)


class StateReader(StoredModel):
    """Convolutions over the patches, what is seen of all of them together, and a hidden layer.

    Pooling "attention" is a spatial softmax (Finn et al. 2016, arXiv:1509.06113): attention maps, and of each
    the mean place and the mean features. It finds places; a layer over all patches learns the places of the
    training clips by heart, and on other clips errs half as much again. What differs between two pictures,
    which an action tells, it finds worse: for that there is "patches", such a layer.
    The targets are scaled by their mean and deviation, which the model keeps. `seed` draws the weights.
    """

    config_type = ReaderConfig

    mean: Tensor
    deviation: Tensor
    places: Tensor

    def __init__(self, config: ReaderConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = c = config
        tokens, width = c.tokens.state_size
        pooled = c.maps * (c.values + 2) if c.pooling == "attention" else (tokens - 1) * c.channels
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.norm = nn.LayerNorm(width, eps=1e-6)
            side = 3 if c.pooling == "attention" else 1
            self.reduce = nn.Conv2d(c.states * width, c.channels, side, padding=side // 2)
            if c.pooling == "attention":
                self.neighbours = nn.Conv2d(c.channels, c.channels, 3, padding=1)
                self.maps = nn.Conv2d(c.channels, c.maps, 1)
                self.values = nn.Conv2d(c.channels, c.values, 1)
            self.head = nn.Sequential(nn.Linear(pooled, c.width), nn.GELU(), nn.Linear(c.width, c.outputs))
        line = torch.linspace(-1, 1, c.tokens.grid)
        places = torch.stack(torch.meshgrid(line, line, indexing="ij")).flatten(1)  # (2, N)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("mean", torch.zeros(c.outputs))
        self.register_buffer("deviation", torch.ones(c.outputs))

    def scaled(self, states: Tensor) -> Tensor:
        """States (B, K, 1+N, D) of K pictures -> outputs (B, Q), in deviations from the mean."""
        patches = self.norm(states[:, :, 1:]).transpose(2, 3).flatten(1, 2)  # (B, K * D, N)
        grid = self.config.tokens.grid
        x = F.gelu(self.reduce(patches.unflatten(2, (grid, grid))))  # (B, channels, G, G)
        found: Tensor = self.head(self._attended(x) if self.config.pooling == "attention" else x.flatten(1))
        return found

    def _attended(self, x: Tensor) -> Tensor:
        """Features (B, channels, G, G) -> of each map the mean values and place, (B, maps * (values + 2))."""
        x = x + F.gelu(self.neighbours(x))
        attention = self.maps(x).flatten(2).softmax(-1)  # (B, maps, N)
        seen = torch.cat([self.values(x).flatten(2), self.places.expand(len(x), -1, -1)], dim=1)
        return (attention @ seen.transpose(1, 2)).flatten(1)

    def forward(self, states: Tensor) -> Tensor:
        """States (B, K, 1+N, D) -> outputs (B, Q), in the targets' units."""
        return self.scaled(states) * self.deviation + self.mean
