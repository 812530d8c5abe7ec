"""Fine-tuning of the MAE's decoder on in-domain frames (section 5.2) as a cached stage."""

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from uwm.bounds import NotNegative
from uwm.data.action_pairs import action_pairs
from uwm.data.corpora import Corpus
from uwm.data.draws import Draws
from uwm.data.pairs import joined_parts
from uwm.data.selection import frozen_pairs
from uwm.data.states import (
    center_views,
    encode_frames,
    evaluation_images,
)
from uwm.errors import UserError
from uwm.metrics.image import psnr
from uwm.metrics.perceptual import ProtocolName, load_lpips
from uwm.models import (
    MaskedAutoencoder,
)
from uwm.models.world import World
from uwm.runs.artifacts import Stage
from uwm.runs.settings import identity_fields
from uwm.stages.action_training import ActionData, ActionRecipe, training_pairs
from uwm.stages.finetune import SMALL_CLIPS, Domain
from uwm.stages.trained import finish_training, obtain_trained
from uwm.training.adaptation import DecoderReconstruction
from uwm.training.batches import IndexSource
from uwm.training.loop import TrainConfig, train

WATCHED = 128  # validation pairs


@dataclass(frozen=True)
class DecoderRecipe(ActionRecipe):
    """Fine-tuning of the MAE's decoder on the pairs' frames (section 5.2): no action, no world model."""

    objective: Literal["mse", "mse+lpips"] = "mse"  # the paper names none; mse is the MAE's own
    lpips: ProtocolName = "alex"
    lpips_weight: NotNegative = 1.0


DECODER = {
    "paper": DecoderRecipe(
        TrainConfig(
            steps=2000,
            batch_size=64,
            learning_rate=1e-4,
            warmup_steps=50,
            precision="bf16",
            validate_every=500,
        ),
        pairs=20_000,
        views=1,
    ),
    "small": DecoderRecipe(
        TrainConfig(
            steps=2000,
            batch_size=64,
            learning_rate=1e-4,
            warmup_steps=50,
            precision="bf16",
            validate_every=500,
        ),
        pairs=5000,
        clips=SMALL_CLIPS,
        views=1,
    ),
    "mini": DecoderRecipe(
        TrainConfig(
            steps=300,
            batch_size=32,
            learning_rate=5e-4,
            warmup_steps=20,
            checkpoint_every=100,
            validate_every=100,
        ),
        pairs=2000,
        short_side=128,
        views=1,
    ),
    "smoke": DecoderRecipe(
        TrainConfig(steps=2, batch_size=4, learning_rate=1e-3), pairs=8, short_side=64, clips=4, views=1
    ),
}


# The decoder


def decoder_stage(recipe: DecoderRecipe, corpus: Corpus, mae_sha256: str) -> Stage:
    """Identity of the decoder's fine-tuning, with the weights of the LPIPS in its loss: an untrained one,
    which is said where no weights are at hand, gives another decoder."""
    inputs: Mapping[str, str] = {
        corpus.name: training_pairs(recipe, corpus).manifest.sha256,
        "mae": mae_sha256,
    }
    if recipe.objective == "mse+lpips":
        inputs = {**inputs, "lpips": load_lpips(recipe.lpips).weights_sha256}
    return Stage("decoder", 2, identity_fields(recipe), inputs)


def obtain_decoder(recipe: DecoderRecipe, domain: Domain) -> World:
    """The domain's world with its decoder fine-tuned: cached, or trained now. All else stays the same."""
    world = domain.world
    stage = decoder_stage(recipe, domain.corpus, world.weights["mae"])
    compute = functools.partial(_train_decoder, recipe, domain)
    mae, sha256 = obtain_trained(domain.context, stage, MaskedAutoencoder, compute)
    return World(mae, world.world_model, {**world.weights, "decoder": sha256})


def _train_decoder(recipe: DecoderRecipe, domain: Domain, folder: Path) -> None:
    mae = copy.deepcopy(domain.world.mae)
    network = load_lpips(recipe.lpips) if recipe.objective == "mse+lpips" else None
    if network and mae.config.norm_pix_loss:
        raise UserError("a decoder of normalised pixels shows no picture to compare: set objective=mse")
    data = ActionData(recipe, domain.corpus, domain.encoder)
    train(
        DecoderReconstruction(mae, network, recipe.lpips_weight),
        _frames_with_states(data),
        recipe.train,
        folder / "run",
        validate=functools.partial(_reconstruction_psnr, data, mae),
        name="decoder",
        stop=domain.context.stop,
    )
    finish_training(mae, folder, recipe)


def _frames_with_states(data: ActionData) -> IndexSource:
    """Batches of `images` (B, 3, S, S) and their `states` (B, 1+N, D), each in one crop drawn at random."""
    recipe, encoder = data.recipe, data.encoder
    bank, views = data.frames()[0], max(1, recipe.views)
    crops = center_views(bank, encoder.image_size, views)
    images = joined_parts(crops, views * len(bank.frames)).unflatten(0, (views, -1))  # (V, F, 3, S, S)
    states = encode_frames(encoder, images, f"{data.corpus.name}, frames")  # (V, F, 1+N, D)

    def load(rows: Tensor, draws: Draws) -> dict[str, Tensor]:
        view = draws.randint(len(states), len(rows))
        return {"states": states[view, rows], "images": images[view, rows]}

    return IndexSource(images.shape[1], load, batch_size=recipe.train.batch_size, seed=recipe.train.seed)


def _reconstruction_psnr(data: ActionData, mae: MaskedAutoencoder) -> dict[str, float]:
    """PSNR (dB) of validation frames, encoded and decoded."""
    corpus, recipe, encoder = data.corpus, data.recipe, data.encoder
    pairs = action_pairs(corpus, frozen_pairs(corpus, "validation", recipe.gap, WATCHED, 0))
    images = evaluation_images(pairs, recipe.short_side, encoder.image_size)[:, 0]  # (n, 3, S, S)
    values = [
        psnr(mae.decode(encoder.encode(part).to(mae.mean.device)).cpu(), part.float() / 255)
        for part in images.split(64)
    ]
    return {f"psnr/{corpus.name}": float(torch.cat(values).mean())}
