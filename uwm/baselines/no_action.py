"""Dynamics without action: what the next state is like on average, S_t+1 ~ p(S_t)."""

from dataclasses import replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from uwm.models.dynamics import Dynamics, DynamicsConfig
from uwm.models.storage import load_module, save_module


def no_action_config(dynamics: DynamicsConfig, extra_depth: int) -> DynamicsConfig:
    """The world model's dynamics with one action token, always zero, and `extra_depth` more blocks."""
    deeper = replace(dynamics, depth=dynamics.depth + extra_depth)
    return replace(deeper, actions=1, action_width=1, slots="queries", codes_per_region=1)


class NoActionDynamics(nn.Module):
    """Trained like the direct dynamics, on the same pairs, with zeros for actions. `seed`: of the weights."""

    def __init__(self, config: DynamicsConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.dynamics = Dynamics(config)

    def forward(self, s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """`s_t` (B, 1+N, D) -> predicted s_t+1 (B, 1+N, D), whatever the actions are."""
        return self.dynamics(s_t, s_t.new_zeros(len(s_t), 1, 1))

    def save(self, path: Path | str, dtype: torch.dtype | None = None, card: dict | None = None) -> None:
        """Write weights and configuration as safetensors."""
        save_module(self, Path(path), dtype=dtype, card=card)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote. Raises UserError for another file."""
        config, tensors = load_module(Path(path), "NoActionDynamics", DynamicsConfig)
        model = cls(config)
        model.load_state_dict(tensors)
        return model.eval()
