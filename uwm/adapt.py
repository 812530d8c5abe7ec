"""Stages that bind a world model to a robot's own actions (section 4.2): adapter and decoder fine-tuning.

The world model is fine-tuned before (`uwm.finetune`) and frozen here. Each stage is cached by what it reads:
its recipe, the labelled pairs, and the digest of its parent.
"""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn
from tqdm import tqdm

from uwm.data.corpora import Corpus
from uwm.errors import UserError
from uwm.finetune import FinetuneRecipe, finetune_stage
from uwm.labelled import (
    FrozenEncoder,
    LabelledPairs,
    LabelledRecipe,
    center_views,
    control_steps,
    encoded,
    evaluation_images,
    frames_of,
    labelled_pairs,
    labelled_source,
    view_states,
    with_actions,
)
from uwm.metrics.image import psnr
from uwm.metrics.perceptual import load_lpips
from uwm.models import (
    ActionAdapter,
    ActionAdapterConfig,
    LatentActions,
    MaskedAutoencoder,
    WorldModel,
    adapter_config,
)
from uwm.models.adapter import Target
from uwm.runs.artifacts import Stage
from uwm.runs.experiment import Context
from uwm.stages import WEIGHTS, World, finish_training, frozen_pairs, sha256_of
from uwm.training.adaptation import AdapterRegression, DecoderReconstruction
from uwm.training.batches import IndexSource
from uwm.training.loop import TrainConfig, train

Predict = Callable[[Tensor, Tensor, Tensor], Tensor]  # s_t, actions, mask -> s_t+1


@dataclass(frozen=True)
class AdapterRecipe(LabelledRecipe):
    """The adapter, the only thing that is trained (section 4.2)."""

    depth: int = 2
    blocks: Literal["attention", "convolutions"] = "attention"  # see ActionAdapterConfig
    use_state: bool = True
    target: Target = "continuous"  # see ActionAdapterConfig
    # How much more a slot's error counts where the state changes: 1 + weight x root of the change of its
    # region, over the mean. 0: all alike, as in eq. 13.
    change_weight: float = 0.0
    commitment: float = 0.03  # weight, with the target "prediction": 0.01 to 0.05 were alike


@dataclass(frozen=True)
class DecoderRecipe(LabelledRecipe):
    """Fine-tuning of the MAE's decoder on the pairs' frames (section 5.2): no action, no world model."""

    objective: Literal["mse", "mse+lpips"] = "mse"  # the paper names none; mse is the MAE's own
    lpips: str = "alex"
    lpips_weight: float = 1.0


# Section 5.1: Adam at 3e-4. AdamW without decay is Adam.
ADAPTER = {
    "paper": AdapterRecipe(
        TrainConfig(
            steps=5000,
            batch_size=256,
            learning_rate=3e-4,
            betas=(0.9, 0.999),
            weight_decay=0.0,
            precision="bf16",
            validate_every=500,
        )
    ),
    "mini": AdapterRecipe(
        TrainConfig(
            steps=1500,
            batch_size=16,  # twice the steps of 32 in the same time learn more
            learning_rate=3e-3,  # 3e-4 wants more steps than a mini run has
            betas=(0.9, 0.999),
            weight_decay=0.0,
            warmup_steps=30,
            checkpoint_every=500,
            validate_every=500,
        ),
        short_side=128,
        views=1,
        blocks="convolutions",  # learn faster than attention: see paper/deviations.md
        depth=3,
        # Regression gives the mean of what may happen: grey where the arm goes. See paper/deviations.md.
        target="codes",
        change_weight=6.0,
    ),
    "smoke": AdapterRecipe(
        TrainConfig(steps=3, batch_size=4, learning_rate=1e-3, betas=(0.9, 0.999), weight_decay=0.0),
        short_side=64,
        clips=4,
        views=1,
        depth=1,
        target="codes",
        change_weight=6.0,
    ),
}
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


class Trained(NamedTuple):
    """A trained model, in eval mode, and the sha256 of its weights."""

    model: Any
    sha256: str


def obtain_trained(context: Context, stage: Stage, kind: Any, compute: Callable[[Path], None]) -> Trained:
    """A stage's model, of the class `kind`: released, cached, or trained now."""
    weights = context.artifacts.obtain(stage, compute).path / WEIGHTS
    return Trained(kind.load(weights), sha256_of(weights))


def mae_encoder(world: World) -> FrozenEncoder:
    """The world's frozen encoder."""
    return FrozenEncoder(world.weights["mae"], world.image_size, world.encode)


# The adapter


def adapter_stage(
    context: Context, recipe: AdapterRecipe, finetuned: FinetuneRecipe, corpus: Corpus
) -> Stage:
    """Identity of the adapter to a fine-tuned world model; trains nothing."""
    parent = finetune_stage(context, finetuned, corpus)
    inputs = {corpus.name: labelled_pairs(recipe, corpus).sha256, parent.name: parent.digest}
    return Stage("adapter", 2, asdict(recipe), inputs)


def obtain_adapter(
    context: Context, recipe: AdapterRecipe, finetuned: FinetuneRecipe, corpus: Corpus, world: World
) -> Trained:
    """The adapter to `world`, which is what `finetuned` gives: cached, or trained now."""

    def compute(folder: Path) -> None:
        config = fitting_config(recipe, corpus, world.world_model)
        mae = None if recipe.views else world.mae
        sha256 = world.weights["world-model"]
        train_adapter(
            context, recipe, corpus, config, world.world_model, sha256, mae_encoder(world), mae, folder
        )

    return obtain_trained(context, adapter_stage(context, recipe, finetuned, corpus), ActionAdapter, compute)


def fitting_config(recipe: AdapterRecipe, corpus: Corpus, world_model: WorldModel) -> ActionAdapterConfig:
    """The adapter's sizes, from the recipe, the world model and the robot."""
    low, high = labelled_pairs(recipe, corpus).limits
    return adapter_config(
        world_model.config,
        low,
        high,
        control_steps(recipe, corpus),
        depth=recipe.depth,
        blocks=recipe.blocks,
        use_state=recipe.use_state,
        target=recipe.target,
    )


def train_adapter(
    context: Context,
    recipe: AdapterRecipe,
    corpus: Corpus,
    config: ActionAdapterConfig,
    world_model: Any,  # a WorldModel, or what infers and predicts like one
    sha256: str,  # of its weights
    encoder: FrozenEncoder,
    mae: MaskedAutoencoder | None,
    folder: Path,
) -> None:
    """Fit an adapter (eq. 13) and leave it in `folder`. Without states computed once, `mae` gives them."""
    adapter = ActionAdapter(config, seed=recipe.train.seed)
    objective = AdapterRegression(adapter, world_model, mae, recipe.change_weight, recipe.commitment)
    targets: Mapping[str, Tensor] = {}
    if recipe.views and recipe.target != "prediction":
        device = next(world_model.parameters()).device
        inference = FrozenInference(sha256, device, world_model.infer_actions)
        pairs = labelled_pairs(recipe, corpus)
        targets = latent_targets(inference, encoder, pairs, recipe.short_side, recipe.gap, recipe.views)

    def predict(s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        found = adapter.infer_actions(s_t, actions, mask, world_model.quantizer)
        prediction: Tensor = world_model.predict(s_t, found.quantized)
        return prediction

    fit_labelled(context, recipe, corpus, encoder, objective, adapter, predict, folder, targets)


@dataclass(frozen=True)
class FrozenInference:
    """States s_t and s_t+1 -> latent actions; two are equal where their weights are."""

    sha256: str
    device: torch.device = field(compare=False)
    infer: Callable[[Tensor, Tensor], LatentActions] = field(compare=False)


@functools.lru_cache(maxsize=2)
@torch.no_grad()
def latent_targets(
    inference: FrozenInference,
    encoder: FrozenEncoder,
    pairs: LabelledPairs,
    short_side: int,
    gap: float,
    views: int,
) -> Mapping[str, Tensor]:
    """What eq. 13 fits, computed once: `latents` (V, n, L, W) float16 and `codes` (V, n, L) of all pairs.

    Trainings in one process share them, as they do the states.
    """
    states, places = view_states(encoder, pairs, short_side, gap, views)
    found: dict[str, Tensor] = {}
    for i, view in enumerate(states):
        for rows in tqdm(torch.arange(len(places)).split(64), "latent actions", mininterval=10):
            latents = inference.infer(*view[places[rows]].to(inference.device).float().unbind(1))
            kept = {"latents": latents.continuous.half(), "codes": latents.codes.int()}
            for name, values in kept.items():
                if name not in found:
                    found[name] = values.new_empty(views, len(places), *values.shape[1:], device="cpu")
                found[name][i, rows] = values.cpu()
    return found


def fit_labelled(
    context: Context,
    recipe: LabelledRecipe,
    corpus: Corpus,
    encoder: FrozenEncoder,
    objective: nn.Module,
    model: Any,
    predict: Predict,
    folder: Path,
    per_view: Mapping[str, Tensor] | None = None,
) -> None:
    """Train `objective` on labelled pairs, watch how well `predict` does, and leave `model` in `folder`."""
    held_out = HeldOut.load(recipe, encoder, corpus)
    source = labelled_source(recipe, encoder, labelled_pairs(recipe, corpus), per_view)
    validate = functools.partial(held_out.errors, predict, model)
    name = type(objective).__name__
    train(objective, source, recipe.train, folder / "run", validate=validate, name=name, stop=context.stop)
    finish_training(model, folder, recipe)


class HeldOut(NamedTuple):
    """Validation pairs: states (n, 2, 1+N, D), actions (n, T, A), mask (n, T)."""

    corpus: str
    states: Tensor
    actions: Tensor
    mask: Tensor

    @classmethod
    def load(cls, recipe: LabelledRecipe, encoder: FrozenEncoder, corpus: Corpus, pairs: int = 256) -> Self:
        """Up to `pairs` of the validation split: the same for every seed."""
        found = with_actions(corpus, frozen_pairs(corpus, "validation", recipe.gap, pairs, 0))
        images = evaluation_images(found, recipe.short_side, encoder.image_size)
        steps = control_steps(recipe, corpus)
        actions, mask = (control[:, :steps] for control in found.controls)
        return cls(corpus.name, encoded(encoder, images, f"{corpus.name} validation"), actions, mask)

    def errors(self, predict: Predict, model: nn.Module) -> dict[str, float]:
        """Mean squared error of the next state: predicted from the real actions, and of the copy of s_t."""
        device = next(model.parameters()).device
        sums = torch.zeros(2, dtype=torch.float64)
        for part in zip(self.states.split(64), self.actions.split(64), self.mask.split(64), strict=True):
            states, actions, mask = (tensor.to(device) for tensor in part)
            s_t, s_next = states.float().unbind(1)
            predictions = (predict(s_t, actions, mask), s_t)
            errors = torch.stack([(p - s_next).square().mean() for p in predictions])
            sums += errors.double().cpu() * len(s_t)
        own, copied = (sums / len(self.states)).tolist()
        return {f"state_mse/{self.corpus}": own, f"state_mse_copy/{self.corpus}": copied}


# The decoder


def decoder_stage(recipe: DecoderRecipe, corpus: Corpus, mae_sha256: str) -> Stage:
    """Identity of the decoder's fine-tuning."""
    inputs: Mapping[str, str] = {
        corpus.name: labelled_pairs(recipe, corpus).manifest.sha256,
        "mae": mae_sha256,
    }
    if recipe.objective == "mse+lpips":
        inputs = {**inputs, "lpips": load_lpips(recipe.lpips).weights_sha256}
    return Stage("decoder", 1, asdict(recipe), inputs)


def obtain_decoder(context: Context, recipe: DecoderRecipe, corpus: Corpus, world: World) -> World:
    """`world` with its decoder fine-tuned: cached, or trained now. Encoder and world model stay the same."""
    stage = decoder_stage(recipe, corpus, world.weights["mae"])
    compute = functools.partial(_train_decoder, context, recipe, corpus, world)
    mae, sha256 = obtain_trained(context, stage, MaskedAutoencoder, compute)
    return World(mae, world.world_model, {**world.weights, "decoder": sha256})


def _train_decoder(
    context: Context, recipe: DecoderRecipe, corpus: Corpus, world: World, folder: Path
) -> None:
    network = load_lpips(recipe.lpips) if recipe.objective == "mse+lpips" else None
    if network and world.mae.config.norm_pix_loss:
        raise UserError("a decoder of normalised pixels shows no picture to compare: set objective=mse")
    mae, encoder = copy.deepcopy(world.mae), mae_encoder(world)
    bank, _ = frames_of(labelled_pairs(recipe, corpus), recipe.short_side, recipe.gap)
    images = torch.stack(center_views(bank, encoder.image_size, max(1, recipe.views)))  # (V, F, 3, S, S)
    states = encoded(encoder, images, f"{corpus.name}, frames")  # (V, F, 1+N, D)

    def load(rows: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        view = torch.randint(len(states), (len(rows),), generator=generator)
        return {"states": states[view, rows], "images": images[view, rows]}

    source = IndexSource(images.shape[1], load, batch_size=recipe.train.batch_size, seed=recipe.train.seed)
    validate = functools.partial(_shown_psnr, recipe, corpus, mae, encoder)
    objective = DecoderReconstruction(mae, network, recipe.lpips_weight)
    train(
        objective, source, recipe.train, folder / "run", validate=validate, name="decoder", stop=context.stop
    )
    finish_training(mae, folder, recipe)


def _shown_psnr(
    recipe: DecoderRecipe, corpus: Corpus, mae: MaskedAutoencoder, encoder: FrozenEncoder
) -> dict[str, float]:
    """PSNR (dB) of validation frames, encoded and decoded."""
    found = with_actions(corpus, frozen_pairs(corpus, "validation", recipe.gap, 128, 0))
    images = evaluation_images(found, recipe.short_side, encoder.image_size)[:, 0]  # (n, 3, S, S)
    values = [
        psnr(mae.decode(encoder.encode(part).to(mae.mean.device)).cpu(), part.float() / 255)
        for part in images.split(64)
    ]
    return {f"psnr/{corpus.name}": float(torch.cat(values).mean())}
