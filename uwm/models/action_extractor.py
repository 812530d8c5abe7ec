"""The action extractor: what happened between two states, as a few latent tokens (section 4.1, eq. 8)."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from uwm.models.mae import sincos_positions, transformer_blocks


@dataclass(frozen=True)
class ActionExtractorConfig:
    """Defaults are the paper's values; where it is silent, the comment says whose choice it is."""

    state_width: int = 768  # D of the MAE
    state_tokens: int = 197  # 1 + N: the authors' code keeps the CLS token
    width: int | None = None  # of the transformer; None: the state's own (authors' code)
    depth: int = 4  # section 5.1
    heads: int = 12
    actions: int = (
        24  # latent action tokens per transition; "several" in section 4.1, 24 in the authors' code
    )
    action_width: int = 64  # section 5.1
    # "concatenated" (section 4.1) along channels, [s_t, s_t+1 - s_t] per token, as FICC reads it, or
    # along tokens, [s_t; s_t+1], as the authors' code does. Channels learn some three times sooner.
    reading: Literal["channels", "tokens"] = "channels"
    # Where the latent action tokens come from: learned queries beside the state tokens (authors' code), or
    # the means of the output tokens over as many regions of the picture, in raster order. Regions learn
    # sooner: a slot need not first find out what to look at.
    slots: Literal["queries", "regions"] = "queries"
    # Latent action tokens per region, each of the codebook's 10 bits; the 24 tokens of the authors' code have
    # no regions.
    codes_per_region: int = 1
    # What is done to the latents before the codebook. "batch" standardises each slot and channel over the
    # batch, so that codes can't be spent on telling the slots apart; the authors' code does nothing.
    standardize: Literal["batch", "layer", "none"] = "batch"

    def __post_init__(self) -> None:
        if self.actions % self.codes_per_region or (self.slots == "queries" and self.codes_per_region != 1):
            raise ValueError(
                f"{self.actions} {self.slots} can't have {self.codes_per_region} codes each: a query has "
                "one, and regions share the actions evenly"
            )


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


class SlotStandardizer(nn.Module):
    """Gives each slot and channel of the latents zero mean and unit variance over the batch.

    Batch normalisation with no affine part, whose batch is that of all ranks together, so that the number of
    GPUs does not change the result. Running statistics serve in evaluation.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, slots: int, width: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("mean", torch.zeros(slots, width))
        self.register_buffer("variance", torch.ones(slots, width))

    def forward(self, latents: Tensor) -> Tensor:
        """`latents` (B, L, W) -> the same shape."""
        if not self.training:
            return (latents - self.mean) / torch.sqrt(self.variance + self.eps)
        latents = latents.float()
        moments = torch.stack([latents.mean(0), latents.square().mean(0)])  # (2, L, W)
        if dist.is_initialized() and dist.get_world_size() > 1:
            moments = all_reduce(moments) / dist.get_world_size()
        mean, variance = moments[0], (moments[1] - moments[0].square()).clamp_min(0.0)
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.variance.lerp_(variance, self.momentum)
        return (latents - mean) / torch.sqrt(variance + self.eps)


class ActionExtractor(nn.Module):
    """A ViT over two states that gives several latent action tokens: A_L ~ p(S_t, S_t+1) (eq. 8)."""

    positions: Tensor

    def __init__(self, config: ActionExtractorConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width or config.state_width
        in_channels = 2 * config.state_width if config.reading == "channels" else config.state_width
        self.embed = nn.Linear(in_channels, width)
        self.register_buffer(
            "positions", sincos_positions(width, math.isqrt(config.state_tokens - 1)), persistent=False
        )
        if config.reading == "tokens":  # both frames share one position table; this tells them apart
            self.frame_embedding = nn.Parameter(0.02 * torch.randn(2, 1, width))
        if config.slots == "queries":
            self.queries = nn.Parameter(0.02 * torch.randn(config.actions, width))
        self.blocks = nn.Sequential(*transformer_blocks(width, config.depth, config.heads))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, config.codes_per_region * config.action_width)
        self.standardize: nn.Module = {
            "batch": lambda: SlotStandardizer(config.actions, config.action_width),
            "layer": lambda: nn.LayerNorm(config.action_width),
            "none": nn.Identity,
        }[config.standardize]()

    def forward(self, s_t: Tensor, s_next: Tensor) -> Tensor:
        """States of two frames, each (B, 1+N, D) -> continuous latent actions A_L (B, L, W)."""
        x = self._tokens(s_t, s_next)
        if self.config.slots == "queries":
            x = torch.cat([x, self.queries.expand(len(x), -1, -1)], dim=1)
            slots = self.norm(self.blocks(x))[:, -self.config.actions :]
        else:
            patches = self.norm(self.blocks(x))[:, -(self.config.state_tokens - 1) :]  # (B, N, width)
            slots = regions_of_patches(patches, self.config.actions // self.config.codes_per_region)
        latents = self.head(slots).unflatten(2, (-1, self.config.action_width)).flatten(1, 2)  # (B, L, W)
        return self.standardize(latents)

    def _tokens(self, s_t: Tensor, s_next: Tensor) -> Tensor:
        if self.config.reading == "channels":
            return self.embed(torch.cat([s_t, s_next - s_t], dim=-1)) + self.positions  # (B, 1+N, width)
        frames = torch.stack([s_t, s_next], dim=1)  # (B, 2, 1+N, D)
        tokens = self.embed(frames) + self.positions + self.frame_embedding
        return tokens.flatten(1, 2)  # (B, 2 (1+N), width)
