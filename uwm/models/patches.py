"""Patches of images, and which of them a masked autoencoder sees (He et al. 2022)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

PATCH_VARIANCE_FLOOR = 1e-6  # He et al.: added to a patch's variance before the square root


class Masking(NamedTuple):
    """Which patches stay visible, and how to put the tokens back into raster order."""

    keep: Tensor  # (B, M) patch indices
    restore: Tensor  # (B, N) position of patch n in [kept, hidden]
    mask: Tensor  # (B, N) 1 = hidden


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, 3, H, W) -> (B, N, P*P*3): patches in raster order, values in (row, column, channel) order."""
    batch, channels, height, width = images.shape
    p = patch_size
    if height % p or width % p:
        raise ValueError(f"image of {height} x {width} pixels does not divide into patches of {p}")
    grid = images.reshape(batch, channels, height // p, p, width // p, p)
    grid = grid.permute(0, 2, 4, 3, 5, 1)  # (B, H/P, W/P, P, P, 3)
    return grid.reshape(batch, (height // p) * (width // p), p * p * channels)


def unpatchify(patches: Tensor, patch_size: int) -> Tensor:
    """(B, N, P*P*3) -> (B, 3, S, S) with S = P * sqrt(N); the inverse of `patchify` for square images."""
    batch, tokens, values = patches.shape
    side, p = math.isqrt(tokens), patch_size
    if side**2 != tokens or values % p**2:
        raise ValueError(f"{tokens} patches of {values} values are no square image with patches of {p}")
    grid = patches.reshape(batch, side, side, p, p, values // p**2)
    grid = grid.permute(0, 5, 1, 3, 2, 4)  # (B, 3, side, P, side, P)
    return grid.reshape(batch, values // p**2, side * p, side * p)


def sincos_positions(width: int, grid: int) -> Tensor:
    """Fixed positions (1, 1 + grid^2, width): zero for CLS; one half tells the column, the other the row."""
    frequency = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency
    table = torch.cat([angle.sin(), angle.cos()], dim=1)  # (grid, width / 2)
    row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    positions = torch.cat([table[column], table[row]], dim=-1).reshape(grid**2, width)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), positions])[None].float()


def draw_masking(noise: Tensor, mask_ratio: float) -> Masking:
    """Keep the int(N * (1 - mask_ratio)) patches with the smallest `noise` (B, N) of each image."""
    if not 0 <= mask_ratio < 1:
        raise ValueError(f"mask_ratio must lie in [0, 1), not {mask_ratio}")
    kept = max(1, int(noise.shape[1] * (1 - mask_ratio)))
    order = noise.argsort(dim=1)
    mask = torch.ones_like(noise).scatter(1, order[:, :kept], 0.0)
    return Masking(order[:, :kept], order.argsort(dim=1), mask)


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, N, 1) of each patch, as the `norm_pix_loss` targets use them."""
    variance = patches.var(dim=-1, keepdim=True)
    return patches.mean(dim=-1, keepdim=True), (variance + PATCH_VARIANCE_FLOOR).sqrt()


def masked_error(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of (B, N, V) over the patches where `mask` (B, N) is 1; all of them if none is."""
    error = (prediction - target).square().mean(dim=-1)  # (B, N)
    hidden = mask.sum()
    return torch.where(hidden > 0, (error * mask).sum() / hidden.clamp_min(1), error.mean())


def take_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens (B, N, D) at `index` (B, M) -> (B, M, D)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))
