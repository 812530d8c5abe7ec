"""Direct action-conditioned dynamics: what one would train without latent actions, S_t+1 ~ p(S_t, A_GT)."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from uwm.bounds import Bounded
from uwm.models.adapter import ActionAdapter, ActionAdapterConfig
from uwm.models.dynamics import Dynamics, DynamicsConfig
from uwm.models.seeding import seeded_draws
from uwm.models.storage import StoredModel


@dataclass(frozen=True)
class DirectDynamicsConfig(Bounded):
    """The networks of adapter and world model; sizes must be each other's."""

    adapter: ActionAdapterConfig = field(default_factory=ActionAdapterConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)
    use_action: bool = True  # False: what the next state is like on average, S_t+1 ~ p(S_t)


def direct_config(
    adapter: ActionAdapterConfig, dynamics: DynamicsConfig, use_action: bool = True
) -> DirectDynamicsConfig:
    """The same networks as R_GT's, so that neither side has the larger ones."""
    return DirectDynamicsConfig(replace(adapter, target="continuous"), dynamics, use_action)


class DirectDynamics(StoredModel):
    """Adapter and dynamics as one network, trained from scratch on real actions; nothing in between is
    discretised, and no extractor gives targets. `seed` draws the weights."""

    config_type = DirectDynamicsConfig

    def __init__(self, config: DirectDynamicsConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.adapter = ActionAdapter(config.adapter, seed)
        with seeded_draws(seed):
            self.dynamics = Dynamics(config.dynamics, self.adapter.tokens)

    def forward(self, s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        """`s_t` (B, 1+N, D), `actions` (B, T, A), `mask` (B, T) bool -> predicted s_t+1 (B, 1+N, D)."""
        action_mask = mask if self.config.use_action else torch.zeros_like(mask)
        return self.dynamics(s_t, self.adapter(s_t, actions, action_mask))
