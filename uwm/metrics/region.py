"""Measures over the moving region alone: where a pair's frames differ, and a margin around it.

Most of a robot's picture stands still, so a mean over the whole of it says little about what moves.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from uwm.metrics.image import PSNR_LIMIT, check_alike
from uwm.metrics.perceptual import LPIPS, Features

THRESHOLD = 16 / 255  # of the largest change among the three colours; video compression alone stays below
MARGIN = 3  # px on each side


def moving_region(o_t: Tensor, o_next: Tensor) -> Tensor:
    """Pixels that change by THRESHOLD or more between two frames, MARGIN px wider: (B, H, W) bool.

    Frames (B, 3, H, W) in [0, 1]. Where no pixel changes so much, those that change the most count, so that
    every pair has a region; for two equal frames it is the whole picture.
    """
    check_alike(o_t, o_next)
    change = (o_next - o_t).abs().amax(1)  # (B, H, W)
    moved = change >= change.amax((1, 2), keepdim=True).clamp(max=THRESHOLD)
    return F.max_pool2d(moved[:, None].float(), 2 * MARGIN + 1, stride=1, padding=MARGIN)[:, 0] > 0


def region_psnr(a: Tensor, b: Tensor, region: Tensor) -> Tensor:
    """PSNR in dB (B,) over the pixels of `region` (B, H, W) of images (B, 3, H, W) in [0, 1]."""
    _check(a, b, region)
    if region.shape[1:] != a.shape[2:]:
        (height, width), (rows, columns) = a.shape[2:], region.shape[1:]
        raise ValueError(f"expected a region of {height}x{width} pixels, got {rows}x{columns}")
    error = (a.double() - b.double()).square().mean(1)  # (B, H, W)
    mse = (error * region).sum((1, 2)) / region.sum((1, 2))
    return (-10 * torch.log10(mse)).clamp(max=PSNR_LIMIT).float()


@torch.no_grad()
def region_lpips(network: LPIPS, a: Features, b: Features, region: Tensor) -> Tensor:
    """LPIPS (B,) over `region` (B, H, W): each layer's distances, weighted by each place's share of region.

    The whole picture as region gives LPIPS itself. A place of a layer sees more than its own pixels, so what
    lies close by counts a little too.
    """
    _check(a[0], b[0], region)
    layers = []
    for x, y, head in zip(a, b, network.heads, strict=True):
        size = (x.shape[2], x.shape[3])
        share = F.adaptive_avg_pool2d(region[:, None].to(x.dtype), size)[:, 0]  # (B, h, w)
        distance = torch.einsum("bchw,c->bhw", (x - y).square(), head)
        layers.append((distance * share).sum((1, 2)) / share.sum((1, 2)))
    return torch.stack(layers).sum(0)


def _check(a: Tensor, b: Tensor, region: Tensor) -> None:
    """ValueError for other shapes than those of pairs and their regions, which broadcasting would hide."""
    check_alike(a, b)
    if region.ndim != 3 or len(region) != len(a):
        raise ValueError(f"expected a region (B,H,W) for each of {len(a)} pairs, got {tuple(region.shape)}")
