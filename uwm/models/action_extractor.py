"""The action extractor: what happened between two states, as a few latent tokens (section 4.1, eq. 8)."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from uwm.bounds import Bounded, Depth, Width
from uwm.models.blocks import known_heads, transformer_blocks
from uwm.models.patches import sincos_positions
from uwm.models.tokens import TokenConfig, regions_of_patches


@dataclass(frozen=True)
class ActionExtractorConfig(Bounded):
    """Defaults are the paper's values; where it is silent, the comment says whose choice it is."""

    width: Width | None = None  # of the transformer; None: the state's own (authors' code)
    depth: Depth = 4  # section 5.1
    heads: Width | None = None  # None: as many as the MAE's encoder has
    # "concatenated" (section 4.1) along channels, [s_t, s_t+1 - s_t] per token, as FICC reads it, or
    # along tokens, [s_t; s_t+1], as the authors' code does. Channels learn some three times sooner.
    token_layout: Literal["channels", "tokens"] = "channels"
    # What is done to the latents before the codebook. "batch" standardises each token and channel over the
    # batch, so that codes can't be spent on telling the tokens apart; the authors' code does nothing.
    standardize: Literal["batch", "layer", "none"] = "batch"


class ActionStandardizer(nn.Module):
    """Gives each action token and channel zero mean and unit variance over the batch.

    Batch normalisation with no affine part, whose batch is that of all ranks together, so that the number of
    GPUs does not change the result. Running statistics serve in evaluation.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, tokens: int, width: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("mean", torch.zeros(tokens, width))
        self.register_buffer("variance", torch.ones(tokens, width))

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

    def __init__(self, config: ActionExtractorConfig, tokens: TokenConfig, outputs: int = 1) -> None:
        """`outputs`: numbers for each of an action's, such as 2 for mean and log variance."""
        super().__init__()
        self.config, self.tokens, self.outputs = config, tokens, outputs
        _, state_width = tokens.state_size
        width = config.width or state_width
        in_channels = 2 * state_width if config.token_layout == "channels" else state_width
        self.embed = nn.Linear(in_channels, width)
        self.register_buffer("positions", sincos_positions(width, tokens.grid), persistent=False)
        if config.token_layout == "tokens":  # both frames share one position table; this tells them apart
            self.frame_embedding = nn.Parameter(0.02 * torch.randn(2, 1, width))
        if tokens.action_source == "queries":
            self.queries = nn.Parameter(0.02 * torch.randn(tokens.num_action_tokens, width))
        self.blocks = nn.Sequential(*transformer_blocks(width, config.depth, known_heads(config.heads)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, tokens.codes_per_region * tokens.action_width * outputs)
        self.standardize: nn.Module = {
            "batch": lambda: ActionStandardizer(tokens.num_action_tokens, tokens.action_width),
            "layer": lambda: nn.LayerNorm(tokens.action_width),
            "none": nn.Identity,
        }[config.standardize]()

    def forward(self, s_t: Tensor, s_next: Tensor) -> Tensor:
        """States of two frames, each (B, 1+N, D) -> continuous latent actions A_L (B, L, outputs W)."""
        tokens, x = self.tokens, self._joined(s_t, s_next)
        if tokens.action_source == "queries":
            x = torch.cat([x, self.queries.expand(len(x), -1, -1)], dim=1)
            outputs = self.norm(self.blocks(x))[:, -tokens.num_action_tokens :]
        else:
            patches = self.norm(self.blocks(x))[:, -(s_t.shape[1] - 1) :]  # (B, N, width)
            outputs = regions_of_patches(patches, tokens.num_action_tokens // tokens.codes_per_region)
        width = tokens.action_width * self.outputs
        latents = self.head(outputs).unflatten(2, (-1, width)).flatten(1, 2)  # (B, L, outputs W)
        return self.standardize(latents)

    def _joined(self, s_t: Tensor, s_next: Tensor) -> Tensor:
        if self.config.token_layout == "channels":
            return self.embed(torch.cat([s_t, s_next - s_t], dim=-1)) + self.positions  # (B, 1+N, width)
        frames = torch.stack([s_t, s_next], dim=1)  # (B, 2, 1+N, D)
        tokens = self.embed(frames) + self.positions + self.frame_embedding
        return tokens.flatten(1, 2)  # (B, 2 (1+N), width)
