"""The dynamics network: the next state from this state and the discrete actions (section 4.1, eq. 10)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from uwm.models.action_extractor import patches_of_regions
from uwm.models.mae import sincos_positions, transformer_blocks

# Dynamics by a robot's own actions: s_t (B, 1+N, D), actions (B, T, A), mask (B, T) -> s_t+1.
DynamicsFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class DynamicsConfig:
    """Defaults are the paper's values; where it is silent, the comment says whose choice it is."""

    state_width: int = 768  # D of the MAE
    state_tokens: int = 197  # 1 + N
    width: int | None = None  # of the transformer; None: the state's own (authors' code)
    depth: int = 2  # section 5.1
    heads: int = 12
    actions: int = 24
    action_width: int = 64
    # How the actions come in: as tokens of their own beside the state's (authors' code), or added to the
    # state tokens of their region, where the extractor reads regions.
    slots: Literal["queries", "regions"] = "queries"
    codes_per_region: int = 1  # a region's codes come in side by side
    # Which outputs become s_t+1: those of N+1 learned queries (authors' code), or those at the places of
    # s_t itself, which saves two fifths of the tokens.
    output: Literal["queries", "state"] = "queries"
    # Predict the change, s_t + f(s_t, a), or the state itself (authors' code).
    residual: bool = False


class Dynamics(nn.Module):
    """A ViT over [S_t, A_D]: S_t+1 ~ p(S_t, A_D) (eq. 10)."""

    positions: Tensor

    def __init__(self, config: DynamicsConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width or config.state_width
        self.embed_state = nn.Linear(config.state_width, width)
        self.embed_action = nn.Linear(config.codes_per_region * config.action_width, width)
        self.register_buffer(
            "positions", sincos_positions(width, math.isqrt(config.state_tokens - 1)), persistent=False
        )
        if config.slots == "queries":
            self.slots = nn.Parameter(0.02 * torch.randn(config.actions, width))
        if config.output == "queries":
            self.queries = nn.Parameter(0.02 * torch.randn(config.state_tokens, width))
        self.blocks = nn.Sequential(*transformer_blocks(width, config.depth, config.heads))
        self.head = nn.Linear(width, config.state_width)
        if config.residual:  # so that training starts from the copy of s_t
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, s_t: Tensor, actions: Tensor) -> Tensor:
        """`s_t` (B, 1+N, D), `actions` (B, L, W) after the codebook -> predicted s_t+1 (B, 1+N, D)."""
        tokens = self.config.state_tokens
        state = self.embed_state(s_t) + self.positions  # (B, 1+N, width)
        joined = actions.unflatten(1, (-1, self.config.codes_per_region)).flatten(2)  # (B, L / c, c W)
        action = self.embed_action(joined)  # (B, L / c, width)
        if self.config.slots == "queries":
            parts = [state, action + self.slots]
        else:
            spread = patches_of_regions(action, tokens - 1)  # (B, N, width)
            parts = [state + torch.cat([action.mean(1, keepdim=True), spread], dim=1)]
        if self.config.output == "queries":
            parts.append((self.queries + self.positions).expand(len(s_t), -1, -1))
        x = self.blocks(torch.cat(parts, dim=1))
        x = x[:, -tokens:] if self.config.output == "queries" else x[:, :tokens]
        change = self.head(x)
        return s_t + change if self.config.residual else change
