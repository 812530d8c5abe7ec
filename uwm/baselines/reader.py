"""A small network that reads numbers off states: the hand's place, or the action between two states."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.bounds import Bounded, Width
from uwm.models.seeding import seeded_draws
from uwm.models.storage import StoredModel
from uwm.models.tokens import TokenConfig


@dataclass(frozen=True)
class ReaderConfig(Bounded):
    """Sizes; `tokens` are those of the world model whose MAE gives the states."""

    outputs: Width = 3
    states: Width = 1  # that are read together
    channels: Width = 64  # of the convolutions
    maps: Width = 16  # attention maps
    values: Width = 16  # that each map takes from where it looks, beside the place
    width: Width = 128  # of the hidden layer
    tokens: TokenConfig = field(default_factory=TokenConfig)


class StateReader(StoredModel):
    """Convolutions over the patches, a spatial softmax (Finn et al. 2016, arXiv:1509.06113), two layers.

    The spatial softmax makes attention maps, and of each the mean place and the mean features. A layer over
    all patches in its stead learns the training clips by heart.
    The targets are scaled by their mean and deviation, which the model keeps. `seed` draws the weights.
    """

    config_type = ReaderConfig

    mean: Tensor
    deviation: Tensor
    grid_positions: Tensor

    def __init__(self, config: ReaderConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = c = config
        _, width = c.tokens.state_size
        with seeded_draws(seed):
            self.norm = nn.LayerNorm(width, eps=1e-6)
            self.reduce = nn.Conv2d(c.states * width, c.channels, 3, padding=1)
            self.neighbours = nn.Conv2d(c.channels, c.channels, 3, padding=1)
            self.maps = nn.Conv2d(c.channels, c.maps, 1)
            self.values = nn.Conv2d(c.channels, c.values, 1)
            self.head = nn.Sequential(
                nn.Linear(c.maps * (c.values + 2), c.width), nn.GELU(), nn.Linear(c.width, c.outputs)
            )
        line = torch.linspace(-1, 1, c.tokens.grid)
        grid_positions = torch.stack(torch.meshgrid(line, line, indexing="ij")).flatten(1)  # (2, N)
        self.register_buffer("grid_positions", grid_positions, persistent=False)
        self.register_buffer("mean", torch.zeros(c.outputs))
        self.register_buffer("deviation", torch.ones(c.outputs))

    def scaled(self, states: Tensor) -> Tensor:
        """States (B, C, 1+N, D) of C pictures -> outputs (B, Q), in deviations from the mean."""
        patches = self.norm(states[:, :, 1:]).transpose(2, 3).flatten(1, 2)  # (B, C * D, N)
        grid = self.config.tokens.grid
        x = F.gelu(self.reduce(patches.unflatten(2, (grid, grid))))  # (B, channels, G, G)
        x = x + F.gelu(self.neighbours(x))
        attention = self.maps(x).flatten(2).softmax(-1)  # (B, maps, N)
        values = torch.cat([self.values(x).flatten(2), self.grid_positions.expand(len(x), -1, -1)], dim=1)
        outputs: Tensor = self.head((attention @ values.transpose(1, 2)).flatten(1))
        return outputs

    def forward(self, states: Tensor) -> Tensor:
        """States (B, C, 1+N, D) -> outputs (B, Q), in the targets' units."""
        return self.scaled(states) * self.deviation + self.mean
