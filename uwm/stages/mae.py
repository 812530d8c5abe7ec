"""The MAE as a cached stage: a published checkpoint, or one trained here on frames of the corpora."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor

from uwm.bounds import (
    Bounded,
    Decay,
    Distinct,
    Natural,
    NotNegative,
    OutOfBounds,
    Pixels,
    Positive,
    check_bounds,
    later,
)
from uwm.data.corpora import Corpus
from uwm.data.crops import center_crop, random_crops
from uwm.data.draws import Draws
from uwm.data.pairs import load_frames
from uwm.data.procedural import procedural_images
from uwm.data.selection import Corpora
from uwm.env import weights_folder
from uwm.errors import UserError
from uwm.metrics.image import psnr
from uwm.metrics.perceptual import tensors_sha256
from uwm.models import MAE_PRESETS, MAEConfig, MaskedAutoencoder
from uwm.models.mae_init import warm_start
from uwm.models.pixels import PixelPatches
from uwm.runs.artifacts import Artifacts, Stage
from uwm.runs.record import file_sha256
from uwm.runs.settings import identity_fields
from uwm.stages.trained import WEIGHTS, ShouldStop, finish_training
from uwm.training.batches import IndexSource
from uwm.training.distributed import default_device
from uwm.training.loop import TrainConfig, train
from uwm.training.objectives import MaskedReconstruction
from uwm.training.sources import cropped_images


@dataclass(frozen=True)
class MAERecipe(Bounded):
    """An MAE: a published checkpoint (`file`, found in UWM_WEIGHTS), or one trained here (`train`)."""

    model: MAEConfig = MAE_PRESETS["base"]
    file: str | None = "mae_visualize_vit_base.pth"  # authors' code; trained on pixels as they are
    train: TrainConfig | None = None
    mask_ratios: Annotated[tuple[Decay, ...], Distinct()] = (
        0.75,
        0.0,
    )  # section 3 names one; 0 is how the world model uses it
    spectrum_power: NotNegative = 0.5  # of the PCA start, see `warm_start`
    token_scale: Positive = 0.5  # the same
    procedural: Natural = 0  # procedural images beside the corpora's frames, so that new pictures decode too
    short_side: Pixels = 128  # of the frames, before the random crop
    # No MAE but its patches' pixels as tokens (uwm/models/pixels.py), of the sizes that `model` gives.
    pixels: bool = later(False)

    def __post_init__(self) -> None:
        check_bounds(self)
        if not self.mask_ratios:
            raise OutOfBounds("mask_ratios must not be empty")
        if self.train and self.train.batch_size // self.train.accumulate < len(self.mask_ratios):
            raise OutOfBounds(
                f"mask_ratios are {len(self.mask_ratios)}, more than the images of a micro-batch"
            )
        if self.pixels and (self.file or self.train):
            raise OutOfBounds("pixels need no MAE: set its file and train to none")
        if not self.pixels and (self.file is None) == (self.train is None):
            raise OutOfBounds("give an MAE's file or its train, one of them, the other none")


MAE = {
    "paper": MAERecipe(),
    "mini": MAERecipe(
        model=MAE_PRESETS["mini"],
        file=None,
        train=TrainConfig(
            steps=1200,
            batch_size=64,
            learning_rate=6e-4,
            warmup_steps=50,
            checkpoint_every=100,
            validate_every=100,
        ),
        procedural=6000,
    ),
    "smoke": MAERecipe(
        model=MAE_PRESETS["tiny"],
        file=None,
        train=TrainConfig(steps=4, batch_size=8),
        procedural=16,
        short_side=64,
    ),
}


PIXELS = "pixels"  # in place of a digest: there is nothing to train
MAE_SOURCE = "https://dl.fbaipublicfiles.com/mae/visualize/"


class ObtainedMAE(NamedTuple):
    """An MAE in eval mode on this process's device, or pixels; the sha256 of its weights, and its name in
    other stages' digests."""

    model: Any
    sha256: str
    digest: str


def obtain_mae(
    recipe: MAERecipe, corpora: Corpora, inputs: Mapping[str, str], artifacts: Artifacts, stop: ShouldStop
) -> ObtainedMAE:
    """The MAE: published, released, cached, or trained now on the frames of `corpora`.

    `inputs`: digests of the corpora's training pairs, as in `mae_stage`.
    """
    if recipe.pixels:
        patches = PixelPatches(recipe.model).eval()
        sha256 = tensors_sha256(patches.state_dict())
        return ObtainedMAE(patches.to(default_device()), sha256, PIXELS)
    if recipe.train is None:
        path = published_mae(recipe)
        sha256 = file_sha256(path)
        return ObtainedMAE(load_published(recipe, path).to(default_device()), sha256, sha256)
    stage = mae_stage(recipe, inputs)
    weights = artifacts.obtain(stage, partial(_train_mae, recipe, corpora, stop)).path / WEIGHTS
    model = MaskedAutoencoder.load(weights).to(default_device())
    return ObtainedMAE(model, file_sha256(weights), stage.digest)


def mae_identity(recipe: MAERecipe, inputs: Mapping[str, str]) -> tuple[MAEConfig, str]:
    """The sizes and the digest of `obtain_mae`'s MAE. Trains nothing."""
    if recipe.pixels:
        return recipe.model, PIXELS
    if recipe.train is None:
        path = published_mae(recipe)
        now = path.stat()
        return _published_identity(recipe, path, now.st_size, now.st_mtime_ns)
    return recipe.model, mae_stage(recipe, inputs).digest


@lru_cache(maxsize=4)
def _published_identity(recipe: MAERecipe, path: Path, size: int, changed: int) -> tuple[MAEConfig, str]:
    """Read once for all stages of a plan, unless the file's size or time of change are others."""
    config = MaskedAutoencoder.read(path)[0]
    _check_sizes(recipe, config, path)
    return config, file_sha256(path)


def published_mae(recipe: MAERecipe) -> Path:
    """The checkpoint file of the recipe in UWM_WEIGHTS. UserError with the place to get it when absent."""
    path = (weights_folder() or Path(".")) / str(recipe.file)
    if not path.exists():
        raise UserError(
            f"{path}: no such MAE checkpoint; python -m uwm.prefetch --to DIR fetches it from {MAE_SOURCE}, "
            "then set UWM_WEIGHTS=DIR"
        )
    return path


def load_published(recipe: MAERecipe, path: Path) -> MaskedAutoencoder:
    """The checkpoint at `path`. UserError where its sizes are not those of the recipe."""
    mae = MaskedAutoencoder.load(path)
    _check_sizes(recipe, mae.config, path)
    return mae


def _check_sizes(recipe: MAERecipe, stored: MAEConfig, path: Path) -> None:
    if stored != recipe.model:
        raise UserError(f"{path} holds {stored}, and the recipe has {recipe.model}: set mae.model to it")


def mae_stage(recipe: MAERecipe, inputs: Mapping[str, str]) -> Stage:
    """Identity of the MAE's training; `inputs` are the training manifests."""
    return Stage("mae", 2, identity_fields(recipe), inputs)


def _train_mae(recipe: MAERecipe, corpora: Corpora, stop: ShouldStop, folder: Path) -> None:
    assert recipe.train is not None
    mae = MaskedAutoencoder(recipe.model, seed=recipe.train.seed)
    size, seed = mae.config.image_size, recipe.train.seed
    images = torch.cat([load_square_frames(c, "train", recipe.short_side) for c in corpora.values()])
    if recipe.procedural:
        made = procedural_images(recipe.procedural, recipe.short_side, seed)
        images = torch.cat([images, torch.as_tensor(made)])
    generator = torch.Generator().manual_seed(seed)
    sample = images[torch.randperm(len(images), generator=generator)[:1024]]
    crops = random_crops(sample, size, Draws(generator)).float() / 255
    warm_start(mae, crops, spectrum_power=recipe.spectrum_power, token_scale=recipe.token_scale)
    held_out = {name: _held_out_frames(recipe, size, corpus) for name, corpus in corpora.items()}
    load = cropped_images(images, size)
    source = IndexSource(len(images), load, batch_size=recipe.train.batch_size, seed=seed)
    objective = MaskedReconstruction(mae, recipe.mask_ratios)
    validate = partial(reconstruction_psnr, mae, held_out)
    train(objective, source, recipe.train, folder / "run", validate=validate, name="MAE", stop=stop)
    finish_training(mae, folder, recipe)


def load_square_frames(corpus: Corpus, split: str, side: int) -> Tensor:
    """The middle square of every frame of a split, `side` pixels wide: uint8 (F, 3, side, side)."""
    return center_crop(load_frames(corpus, split, side).frames, side, side)


def _held_out_frames(recipe: MAERecipe, size: int, corpus: Corpus, every: int = 7) -> Tensor:
    frames = load_square_frames(corpus, "validation", recipe.short_side)[::every]
    return center_crop(frames, size, size)


@torch.no_grad()
def reconstruction_psnr(mae: MaskedAutoencoder, held_out: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean PSNR (dB) of the unmasked reconstruction of uint8 frames (F, 3, S, S), by name."""
    result = {}
    for name, frames in held_out.items():
        batches = (batch.to(mae.mean.device).float() / 255 for batch in frames.split(64))
        values = torch.cat([psnr(mae.decode(mae.encode(batch)), batch) for batch in batches])
        result[f"psnr/{name}"] = float(values.mean())
    return result
