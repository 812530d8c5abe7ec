"""A frozen MAE with a world model over its states: what every experiment works with."""

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from uwm.models import MaskedAutoencoder, WorldModel


@torch.no_grad()
def encode_images_by(mae: MaskedAutoencoder, images: Tensor) -> Tensor:
    """uint8 images (B, ..., 3, S, S), on any device -> states (B, ..., 1+N, D) on the MAE's."""
    flat = images.flatten(0, -4).to(mae.mean.device).float() / 255
    return mae.encode(flat).unflatten(0, images.shape[:-3])


class World:
    """A frozen MAE and a world model over its states, with what a record must say of their weights."""

    def __init__(self, mae: MaskedAutoencoder, world_model: WorldModel, weights: Mapping[str, str]) -> None:
        self.mae, self.world_model = mae, world_model
        self.weights = dict(weights)  # sha256 of the weights files, by model

    @property
    def image_size(self) -> int:
        """Side of the square images, in pixels."""
        return self.mae.config.image_size

    def to(self, device: torch.device) -> Self:
        self.mae.to(device)
        self.world_model.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.mae.mean.device

    def encode(self, images: Tensor) -> Tensor:
        """uint8 images (B, ..., 3, S, S), on any device -> states (B, ..., 1+N, D) on the model's."""
        return encode_images_by(self.mae, images)
