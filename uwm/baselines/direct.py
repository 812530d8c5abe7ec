"""Direct action-conditioned dynamics: what one would train without latent actions, S_t+1 ~ p(S_t, A_GT)."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.models.adapter import ActionAdapterConfig, ControlTokens
from uwm.models.dynamics import Dynamics, DynamicsConfig
from uwm.models.storage import load_module, save_module


@dataclass(frozen=True)
class DirectDynamicsConfig:
    """The dynamics network of the world model, fed with the control actions themselves."""

    low: tuple[float, ...] = (-1.0,) * 7  # the controller's range
    high: tuple[float, ...] = (1.0,) * 7
    control_steps: int = 4
    dynamics: DynamicsConfig = field(
        default_factory=lambda: DynamicsConfig(actions=4, depth=4, slots="queries")
    )


def direct_config(adapter: ActionAdapterConfig, dynamics: DynamicsConfig) -> DirectDynamicsConfig:
    """As many blocks as adapter and dynamics have together, so that neither side has the larger network."""
    width = dynamics.width or dynamics.state_width
    same = replace(
        dynamics,
        depth=adapter.depth + dynamics.depth,
        actions=adapter.control_steps,
        action_width=width,
        slots="queries",
        codes_per_region=1,
    )
    return DirectDynamicsConfig(adapter.low, adapter.high, adapter.control_steps, same)


class DirectDynamics(nn.Module):
    """Dynamics whose action tokens are the control actions between two frames. `seed` draws the weights."""

    def __init__(self, config: DirectDynamicsConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            width = config.dynamics.action_width
            self.controls = ControlTokens(config.low, config.high, config.control_steps, width)
            self.dynamics = Dynamics(config.dynamics)

    def forward(self, s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """`s_t` (B, 1+N, D), `actions` (B, T, A), `mask` (B, T) bool -> predicted s_t+1 (B, 1+N, D)."""
        tokens = self.controls(actions, mask).masked_fill(~mask[..., None], 0.0)  # (B, T, width)
        missing = self.config.control_steps - tokens.shape[1]
        return self.dynamics(s_t, F.pad(tokens, (0, 0, 0, missing)))

    def save(self, path: Path | str, dtype: torch.dtype | None = None, card: dict | None = None) -> None:
        """Write weights and configuration as safetensors."""
        save_module(self, Path(path), dtype=dtype, card=card)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote. Raises UserError for another file."""
        config, tensors = load_module(Path(path), "DirectDynamics", DirectDynamicsConfig)
        model = cls(config)
        model.load_state_dict(tensors)
        return model.eval()
