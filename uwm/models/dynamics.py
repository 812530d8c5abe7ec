"""The dynamics network: the next state from this state and the discrete actions (section 4.1, eq. 10)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uwm.bounds import Bounded, Depth, Width, check_bounds
from uwm.models.blocks import ModulatedBlock, ModulatedConvolution, known_heads, transformer_blocks
from uwm.models.patches import sincos_positions
from uwm.models.tokens import TokenConfig, patches_of_regions

# Dynamics by a robot's own actions: s_t (B, 1+N, D), actions (B, T, A), mask (B, T) -> s_t+1.
DynamicsFunction = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class DynamicsConfig(Bounded):
    """Defaults are the paper's values; where it is silent, the comment says whose choice it is."""

    width: Width | None = None  # of the transformer; None: the state's own (authors' code)
    depth: Depth = 2  # section 5.1
    heads: Width | None = None  # None: as many as the MAE's encoder has
    # Which outputs become s_t+1: those of N+1 learned queries (authors' code), or those at the places of
    # s_t itself, which saves two fifths of the tokens.
    output: Literal["queries", "state"] = "queries"
    # Predict the change, s_t + f(s_t, a), or the state itself (authors' code).
    residual: bool = False
    # What the actions do to the blocks: as "tokens" they are read by attention (authors' code), or added to
    # the state tokens of their region; "modulation" makes of them a scale, shift and gate of every block, for
    # all tokens alike or, with action_source=regions, for each token those of its region. Ours: tokens of few
    # bits are ignored for long, and what moves a place is learnt sooner from a code of that place.
    conditioning: Literal["tokens", "modulation"] = "tokens"
    # Modulated convolutions over neighbouring patches before the blocks: what a patch shows next depends on
    # its neighbours. The paper has none.
    convolutions: Depth = 0

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.convolutions and self.conditioning != "modulation":
            raise ValueError("convolutions are steered by the actions: they need conditioning=modulation")


class Dynamics(nn.Module):
    """A ViT over [S_t, A_D]: S_t+1 ~ p(S_t, A_D) (eq. 10)."""

    positions: Tensor

    def __init__(self, config: DynamicsConfig, tokens: TokenConfig) -> None:
        super().__init__()
        self.config, self.tokens = config, tokens
        state_tokens, state_width = tokens.state_size
        width, heads = config.width or state_width, known_heads(config.heads)
        modulated = config.conditioning == "modulation"
        regions = tokens.action_source == "regions"
        # Codes that come in side by side: all of them, or those of a region.
        joined = tokens.codes_per_region if regions or not modulated else tokens.num_action_tokens
        self.embed_state = nn.Linear(state_width, width)
        self.embed_action = nn.Linear(joined * tokens.action_width, width)
        self.register_buffer("positions", sincos_positions(width, tokens.grid), persistent=False)
        if modulated == regions:
            # Learned positions of the actions; files of weights call them so.
            self.slots = nn.Parameter(0.02 * torch.randn(tokens.num_action_tokens // joined, width))
        if modulated and regions:
            self.shares = nn.Parameter(
                shares_of_regions(tokens.num_action_tokens // joined, state_tokens - 1)
            )
        if config.output == "queries":
            self.queries = nn.Parameter(0.02 * torch.randn(state_tokens, width))
        if modulated:
            self.convolutions = nn.ModuleList(ModulatedConvolution(width) for _ in range(config.convolutions))
            self.modulated = nn.ModuleList(ModulatedBlock(width, heads) for _ in range(config.depth))
        else:
            self.blocks = nn.Sequential(*transformer_blocks(width, config.depth, heads))
        self.head = nn.Linear(width, state_width)
        if config.residual:  # so that training starts from the copy of s_t
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, s_t: Tensor, actions: Tensor) -> Tensor:
        """`s_t` (B, 1+N, D), `actions` (B, L, W) after the codebook -> predicted s_t+1 (B, 1+N, D)."""
        state = self.embed_state(s_t) + self.positions  # (B, 1+N, width)
        if self.config.conditioning == "modulation":
            x = self._modulated(state, actions)
        else:
            x = self._attended(state, actions)
        tokens = s_t.shape[1]
        x = x[:, -tokens:] if self.config.output == "queries" else x[:, :tokens]
        change = self.head(x)
        return s_t + change if self.config.residual else change

    def _attended(self, state: Tensor, actions: Tensor) -> Tensor:
        """Blocks over the state (B, 1+N, width) and the actions (B, L, W) as tokens, or at their regions."""
        joined = actions.unflatten(1, (-1, self.tokens.codes_per_region)).flatten(2)  # (B, L / c, c W)
        action = self.embed_action(joined)  # (B, L / c, width)
        if self.tokens.action_source == "queries":
            parts = [state, action + self.slots]
        else:
            spread = patches_of_regions(action, state.shape[1] - 1)  # (B, N, width)
            parts = [state + torch.cat([action.mean(1, keepdim=True), spread], dim=1)]
        x: Tensor = self.blocks(torch.cat([*parts, *self._queries(state)], dim=1))
        return x

    def _modulated(self, state: Tensor, actions: Tensor) -> Tensor:
        """Blocks over the state (B, 1+N, width) alone, which the actions (B, L, W) modulate."""
        if self.tokens.action_source == "queries":
            action = F.gelu(self.embed_action(actions.flatten(1)))[:, None]  # (B, 1, width)
        else:
            joined = actions.unflatten(1, (-1, self.tokens.codes_per_region)).flatten(2)  # (B, L / c, c W)
            action = F.gelu(self.shares @ (self.embed_action(joined) + self.slots))  # (B, 1+N, width)
        patches, at_patches = state[:, 1:], action[:, -(state.shape[1] - 1) :]
        for convolution in self.convolutions:
            patches = convolution(patches, at_patches)
        x = torch.cat([state[:, :1], patches, *self._queries(state)], dim=1)
        if action.shape[1] > 1 and self.config.output == "queries":
            action = action.repeat(1, 2, 1)  # (B, 2 (1+N), width): a query stands where its token does
        for block in self.modulated:
            x = block(x, action)
        return x

    def _queries(self, state: Tensor) -> list[Tensor]:
        """The tokens (B, 1+N, width) whose outputs become s_t+1, where they are not the state's own."""
        if self.config.output == "state":
            return []
        return [(self.queries + self.positions).expand(len(state), -1, -1)]


def shares_of_regions(regions: int, patches: int) -> Tensor:
    """How much of each region's action comes to each token, at the start: (1 + patches, regions).

    A patch has its own region's, the class token the mean of all.
    """
    shares = patches_of_regions(torch.eye(regions)[None], patches)[0]  # (patches, regions)
    return torch.cat([torch.full((1, regions), 1 / regions), shares])
