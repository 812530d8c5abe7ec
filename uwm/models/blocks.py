"""Blocks of the networks: a ViT's, and for dynamics and adapter those whose work an action scales and shifts.

Actions given as tokens beside a state's must first be found by attention; as factors they act on every
channel from the first step on (FiLM, Perez et al. 2018; AdaLN-Zero, Peebles & Xie 2023).
"""

import math
from functools import partial
from typing import cast

import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn


def transformer_blocks(
    width: int, depth: int, heads: int, mlp_ratio: float = 4.0, layer_norm_eps: float = 1e-6
) -> nn.ModuleList:
    """`depth` pre-norm ViT blocks, (B, T, width) -> (B, T, width): timm's, as He et al. (2022) use them."""
    norm = cast(type[nn.LayerNorm], partial(nn.LayerNorm, eps=layer_norm_eps))
    return nn.ModuleList(Block(width, heads, mlp_ratio, qkv_bias=True, norm_layer=norm) for _ in range(depth))


class ModulatedConvolution(nn.Module):
    """A residual block over neighbouring patches, whose channels the action scales and shifts (FiLM, Perez et
    al. 2018). It starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.neighbours = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.modulate = nn.Linear(width, 4 * width)
        self.back = nn.Conv2d(2 * width, width, 1)
        nn.init.zeros_(self.back.weight)

    def forward(self, patches: Tensor, action: Tensor) -> Tensor:
        """`patches` (B, N, width) in raster order, `action` (B, N, width), or (B, 1, width) for all patches
        alike -> (B, N, width)."""
        scale, shift = _picture(self.modulate(action)).chunk(2, dim=1)  # (B, 2 width, side, side)
        hidden = self.neighbours(_picture(self.norm(patches))) * (1 + scale) + shift
        return patches + self.back(F.gelu(hidden)).flatten(2).transpose(1, 2)


def _picture(tokens: Tensor) -> Tensor:
    """Tokens of a square raster (B, N, C) -> (B, C, side, side)."""
    side = math.isqrt(tokens.shape[1])
    return tokens.transpose(1, 2).unflatten(2, (side, side))


class ModulatedBlock(Block):
    """A pre-norm ViT block, timm's, of which the action scales and shifts what attention and MLP read, and
    gates what they add (AdaLN-Zero, Peebles & Xie 2023). It starts as the identity."""

    def __init__(self, width: int, heads: int, mlp_ratio: float = 4.0) -> None:
        norm = cast(type[nn.LayerNorm], partial(nn.LayerNorm, eps=1e-6))
        super().__init__(width, heads, mlp_ratio, qkv_bias=True, norm_layer=norm)
        self.modulate = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, action: Tensor) -> Tensor:  # type: ignore[override]
        """`x` (B, T, width), `action` (B, T, width), or (B, 1, width) for all alike -> (B, T, width)."""
        scale, shift, gate, scale_mlp, shift_mlp, gate_mlp = self.modulate(action).chunk(6, dim=-1)
        x = x + gate * self.attn(self.norm1(x) * (1 + scale) + shift)
        return x + gate_mlp * self.mlp(self.norm2(x) * (1 + scale_mlp) + shift_mlp)


def known_heads(heads: int | None) -> int:
    """The number of attention heads. ValueError where it is still the MAE's to say."""
    if heads is None:
        raise ValueError("the number of heads is not known yet: config.fitted(mae.config) sets it")
    return heads
