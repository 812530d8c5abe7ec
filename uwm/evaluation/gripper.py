"""Measures around the gripper: a crop that holds it in both frames, as the enlarged section of Figure 5."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uwm.baselines.reader import StateReader
from uwm.data.action_pairs import ActionPairs, eef_in_crop
from uwm.metrics.image import psnr, ssim
from uwm.metrics.perceptual import LPIPS

SHARE = 40 / 112  # of the picture's side: the gripper, its fingers and what it holds


def crop_side(size: int, least: int) -> int:
    """Side of the crop in a picture of `size` pixels; `least` is what the LPIPS network takes."""
    return max(round(SHARE * size), least)


def gripper_is_seen(pairs: ActionPairs) -> bool:
    """Whether the gripper's place in the picture is known in every frame."""
    return bool(np.isfinite(pairs.actions.eef_in_picture).all())


def gripper_in_crop(pairs: ActionPairs, short_side: int, size: int) -> Tensor:
    """The gripper's place (x, y) in pixels of the evaluated crop, midway between both frames: (n, 2)."""
    return eef_in_crop(pairs, short_side, size).mean(1)


@torch.no_grad()
def moved_in_picture(reader: StateReader, s_t: Tensor, s_next: Tensor) -> Tensor:
    """By how many pixels (n, 2) the gripper moves between two states (n, 1+N, D), as a reader sees it."""
    device = next(reader.parameters()).device
    here, there = (
        torch.cat([reader(part[:, None].to(device).float()).double().cpu() for part in states.split(64)])
        for states in (s_t, s_next)
    )
    return there - here


def crops(images: Tensor, centres: Tensor, side: int) -> Tensor:
    """Squares (n, 3, side, side) of images (n, 3, S, S) around centres (n, 2), moved inwards at the edges."""
    corner = (centres - side / 2).round().clamp(0, images.shape[-1] - side).long()  # (n, 2)
    return torch.stack(
        [image[:, y : y + side, x : x + side] for image, (x, y) in zip(images, corner.tolist(), strict=True)]
    )


@torch.no_grad()
def gripper_measures(
    network: LPIPS, predicted: Tensor, r_next: Tensor, o_next: Tensor, centres: Tensor
) -> dict[str, Tensor]:
    """Measures (n,) of predicted frames over the crop: LPIPS to R_t+1, and LPIPS, PSNR, SSIM to O_t+1.

    The frames (n, 3, S, S) may lie elsewhere than the network, which is where they are compared.
    """
    device = network.heads[0].device
    side = crop_side(predicted.shape[-1], network.minimum_size)
    frames = {"predicted": predicted, "r_next": r_next, "o_next": o_next}
    parts: list[Mapping[str, Tensor]] = []
    for rows in torch.arange(len(predicted)).split(64):
        part = {name: crops(frame[rows], centres[rows], side).to(device) for name, frame in frames.items()}
        features = {name: network.features(crop) for name, crop in part.items()}
        parts.append(
            {
                "lpips_hand": network.distance(features["predicted"], features["r_next"]),
                "lpips_hand_true": network.distance(features["predicted"], features["o_next"]),
                "psnr_hand": psnr(part["predicted"], part["o_next"]),
                "ssim_hand": ssim(part["predicted"], part["o_next"]),
            }
        )
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def enlarged(images: Tensor, centres: Tensor) -> Tensor:
    """The crops, as large as the whole pictures (n, 3, S, S)."""
    size = images.shape[-1]
    small = crops(images, centres, round(SHARE * size))
    return F.interpolate(small, size=(size, size), mode="bicubic", antialias=False).clamp(0, 1)
