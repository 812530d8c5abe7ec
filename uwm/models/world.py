"""A frozen MAE with a world model over its states: what every experiment works with."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from uwm.env import RELEASED
from uwm.errors import UserError
from uwm.models import MaskedAutoencoder, WorldModel
from uwm.verified import sha256_of


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

    @classmethod
    def load(cls, mae: Path | None = None, world_model: Path | None = None) -> Self:
        """The models of two files, in evaluation mode; the released ones of scale mini where none is named.

        Raises:
            UserError: no such file, another or a damaged one, a world model over other states, or one file
                without the other: over another MAE of the same sizes it would predict nonsense.
        """
        if (mae is None) != (world_model is None):
            alone = "a world model" if mae is None else "an MAE"
            raise UserError(f"{mae or world_model}: {alone} alone; name the other's file too, or neither")
        files = {"mae": mae or _released("mae"), "world-model": world_model or _released("world-model")}
        sha256 = {name: sha256_of(path) for name, path in files.items() if path.is_file()}
        world = cls(MaskedAutoencoder.load(files["mae"]), WorldModel.load(files["world-model"]), sha256)
        expected, actual = world.world_model.config.tokens.state_size, world.mae.config.state_size
        if expected != actual:
            raise UserError(
                f"the world model reads states {expected}, the MAE gives {actual}: name both files"
            )
        return world

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


def _released(name: str) -> Path:
    """Its weights file. There is one of each name; further ones have longer names."""
    folders = [path for path in RELEASED.glob(f"{name}-*") if path.name.rpartition("-")[0] == name]
    if not folders:
        raise UserError(f"this installation has no released {name}: name a file")
    return folders[0] / "weights.safetensors"
