"""Patches of pixels instead of an MAE's states, for models that learn over pixels.

Genie and LAPA learn latent actions from pixels, not from frozen states. A world model can do so here by
reading and predicting the patches themselves: nothing is encoded and nothing is lost.
"""

import torch
from torch import Tensor, nn

from uwm.models.boundary import check_images, check_tensor
from uwm.models.mae import IMAGENET_MEAN, IMAGENET_STD, MAEConfig
from uwm.models.patches import patchify, unpatchify


class PixelPatches(nn.Module):
    """What a world model asks of an MAE, without weights. A token is the P * P * 3 normalised pixels of a
    patch; the class token is the patches' mean."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: MAEConfig) -> None:
        super().__init__()
        if config.encoder_width != config.patch_values:
            raise ValueError(f"encoder_width is {config.encoder_width}, a patch has {config.patch_values}")
        self.config = config
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] -> (B, 1 + N, P*P*3). `ValueError` for others."""
        check_images("images", images, self.config.image_size)
        patches = patchify((images - self.mean) / self.std, self.config.patch_size)
        return torch.cat([patches.mean(1, keepdim=True), patches], dim=1)

    def decode(self, states: Tensor) -> Tensor:
        """The images (B, 3, S, S) of patches (B, 1 + N, P*P*3), clamped to [0, 1]."""
        check_tensor("states", states, (None, *self.config.state_size))
        pixels = unpatchify(states[:, 1:], self.config.patch_size) * self.std + self.mean
        return pixels.clamp(0, 1)

    def decode_patches(self, states: Tensor) -> Tensor:
        """The patches (B, N, P*P*3) without the class token, in normalised pixels."""
        return states[:, 1:]
