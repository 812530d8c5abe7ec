"""The tokens that extractor, dynamics and adapter share: those of a state and those of a latent action."""

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

import torch.nn.functional as F
from torch import Tensor

from uwm.bounds import Bounded, Tokens, Width, check_bounds
from uwm.models.mae import MAEConfig


@dataclass(frozen=True)
class TokenConfig(Bounded):
    """How many tokens, and how wide. Where the paper is silent, the comment says whose choice it is."""

    state_width: Width | None = None  # D; None: that of the MAE
    state_tokens: Tokens | None = None  # 1 + N; None: those of the MAE. The authors' code keeps the CLS token
    num_action_tokens: Tokens = 24  # L, per transition; "several" in section 4.1, 24 in the authors' code
    action_width: Width = 64  # W, section 5.1
    # Where the latent action tokens come from: learned queries beside the state tokens (authors' code), or
    # the means of the output tokens over as many regions of the picture, in raster order.
    action_source: Literal["queries", "regions"] = "queries"
    # Latent action tokens per region; the 24 tokens of the authors' code have no regions.
    codes_per_region: Tokens = 1

    def __post_init__(self) -> None:
        check_bounds(self)
        uneven = self.num_action_tokens % self.codes_per_region
        if uneven or (self.action_source == "queries" and self.codes_per_region != 1):
            raise ValueError(
                f"{self.num_action_tokens} {self.action_source} can't have {self.codes_per_region} each: "
                "a query has one, and regions share the action tokens evenly"
            )

    def fitted(self, mae: MAEConfig) -> Self:
        """With the sizes of this MAE's states. ValueError where others were set."""
        tokens, width = mae.state_size
        return replace(
            self,
            state_width=fit("state_width", self.state_width, width),
            state_tokens=fit("state_tokens", self.state_tokens, tokens),
        )

    @property
    def state_size(self) -> tuple[int, int]:
        """(1 + N, D). ValueError where the sizes are still the MAE's to say."""
        if self.state_width is None or self.state_tokens is None:
            raise ValueError("the states' sizes are not known yet: config.fitted(mae.config) sets them")
        return self.state_tokens, self.state_width

    @property
    def grid(self) -> int:
        """Patches along one side of the picture."""
        return math.isqrt(self.state_size[0] - 1)


class LatentActions(NamedTuple):
    """What the extractor saw between two states."""

    continuous: Tensor  # A_L, before the bottleneck: (B, L, W)
    quantized: Tensor  # A_D, what the dynamics read, such as rows of the codebook: (B, L, W)
    codes: Tensor  # which rows: (B, L), int64; (B, 0) where there is no codebook


def fit(name: str, given: int | None, expected: int) -> int:
    """`expected`, the size that follows from another model. ValueError where another one was set."""
    if given not in (None, expected):
        raise ValueError(f"{name} is {given}, and must be {expected} here: set it to none")
    return expected


def region_grid(actions: int) -> tuple[int, int]:
    """Rows and columns of the regions: the most nearly square ones whose product is `actions`."""
    rows = max(r for r in range(1, math.isqrt(actions) + 1) if actions % r == 0)
    return rows, actions // rows


def regions_of_patches(patches: Tensor, actions: int) -> Tensor:
    """Means of patch tokens (B, N, C) over the regions of the picture: (B, L, C)."""
    side = math.isqrt(patches.shape[1])
    picture = patches.transpose(1, 2).unflatten(2, (side, side))  # (B, C, side, side)
    return F.adaptive_avg_pool2d(picture, region_grid(actions)).flatten(2).transpose(1, 2)


def patches_of_regions(regions: Tensor, patches: int) -> Tensor:
    """Each patch's region, (B, L, C) -> (B, N, C): the nearest one."""
    side = math.isqrt(patches)
    picture = regions.transpose(1, 2).unflatten(2, region_grid(regions.shape[1]))
    return F.interpolate(picture, size=(side, side), mode="nearest-exact").flatten(2).transpose(1, 2)
