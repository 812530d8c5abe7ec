"""A small network that reads numbers off states: the hand's place, or the action between two states."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from uwm.bounds import Bounded, Count
from uwm.models.storage import StoredModel
from uwm.models.tokens import TokenConfig


@dataclass(frozen=True)
class ReaderConfig(Bounded):
    """Sizes; `tokens` are those of the world model whose MAE gives the states."""

    outputs: Count = 3
    states: Count = 1  # that are read together
    channels: Count = 64  # that every token is reduced to
    width: Count = 256  # of the hidden layer
    tokens: TokenConfig = field(default_factory=TokenConfig)


class StateReader(StoredModel):
    """Every token reduced to a few channels, with its place, and two layers over all of them.

    The targets are scaled by their mean and deviation, which the model keeps. `seed` draws the weights.
    """

    config_type = ReaderConfig

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: ReaderConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = c = config
        tokens, width = c.tokens.state_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.norm = nn.LayerNorm(width, eps=1e-6)
            self.reduce = nn.Linear(c.states * width, c.channels)
            self.places = nn.Parameter(0.02 * torch.randn(tokens - 1, c.channels))
            self.head = nn.Sequential(
                nn.GELU(),
                nn.Flatten(1),
                nn.Linear((tokens - 1) * c.channels, c.width),
                nn.GELU(),
                nn.Linear(c.width, c.outputs),
            )
        self.register_buffer("mean", torch.zeros(c.outputs))
        self.register_buffer("deviation", torch.ones(c.outputs))

    def scaled(self, states: Tensor) -> Tensor:
        """States (B, K, 1+N, D) of K pictures -> outputs (B, Q), in deviations from the mean."""
        patches = self.norm(states[:, :, 1:]).transpose(1, 2).flatten(2)  # (B, N, K * D)
        found: Tensor = self.head(self.reduce(patches) + self.places)
        return found

    def forward(self, states: Tensor) -> Tensor:
        """States (B, K, 1+N, D) -> outputs (B, Q), in the targets' units."""
        return self.scaled(states) * self.deviation + self.mean
