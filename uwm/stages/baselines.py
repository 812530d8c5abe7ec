"""Stages that train what the adapter is compared with: direct dynamics, action-free dynamics, FICC."""

import functools
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from uwm.baselines.direct import DirectDynamics, direct_config
from uwm.baselines.ficc import FICC, FICCConfig
from uwm.data.corpora import Corpus
from uwm.data.crops import random_crops
from uwm.data.states import FrozenEncoder, frames_of
from uwm.models import ActionAdapter, ActionAdapterConfig, LatentActions, adapter_config
from uwm.models.world import World
from uwm.runs.artifacts import Stage
from uwm.runs.experiment import Context
from uwm.stages.action_training import (
    ActionRecipe,
    control_steps,
    fit_action_pairs,
    mae_encoder,
    training_pairs,
)
from uwm.stages.adapter import ADAPTER, AdapterRecipe, train_adapter
from uwm.stages.finetune import FinetuneRecipe, finetune_stage
from uwm.stages.trained import Trained, finish_training, obtain_trained
from uwm.training.adaptation import CycleConsistency, NextState
from uwm.training.batches import IndexSource
from uwm.training.loop import train


@dataclass(frozen=True)
class DynamicsRecipe(ActionRecipe):
    """Dynamics from real actions or none, from scratch, in place of adapter and world model."""

    kind: Literal["direct", "no-action"] = "direct"
    depth: int = 2  # this and the next as the adapter's
    blocks: Literal["attention", "convolutions"] = "attention"


@dataclass(frozen=True)
class FICCRecipe(ActionRecipe):
    """FICC on the pairs' frames. Its representation learns, so every step crops and encodes anew."""

    quantize: bool = True
    channels: tuple[int, ...] = (32, 64, 96, 128)


# Trained as the adapter is, so that the difference is in the method; at scale paper for more steps, since
# they start from nothing.
DYNAMICS = {
    scale: DynamicsRecipe(
        replace(adapter.train, steps=steps),
        short_side=adapter.short_side,
        clips=adapter.clips,
        views=adapter.views,
        depth=adapter.depth,
        blocks=adapter.blocks,
    )
    for scale, adapter, steps in (
        ("paper", ADAPTER["paper"], 10_000),
        ("mini", ADAPTER["mini"], ADAPTER["mini"].train.steps),
        ("smoke", ADAPTER["smoke"], 3),
    )
}
FICC_RECIPE = {
    scale: FICCRecipe(
        replace(adapter.train, **training),
        short_side=adapter.short_side,
        clips=adapter.clips,
        channels=channels,
    )
    for scale, adapter, channels, training in (
        ("paper", ADAPTER["paper"], (32, 64, 96, 128), {"steps": 20_000}),
        # 0.7 s a step on a busy core, where the channels of scale paper take 1.7 s.
        ("mini", ADAPTER["mini"], (16, 32, 64, 128), {"steps": 600, "batch_size": 32, "learning_rate": 1e-3}),
        ("smoke", ADAPTER["smoke"], (16, 32, 64, 128), {"steps": 2}),
    )
}


# Dynamics without latent actions


def dynamics_stage(
    context: Context, recipe: DynamicsRecipe, finetuned: FinetuneRecipe, corpus: Corpus
) -> Stage:
    """Identity of direct or action-free dynamics. With the fine-tuned world they share sizes and encoder, no
    weights of the world model."""
    parent = finetune_stage(context, finetuned, corpus)
    inputs = {corpus.name: training_pairs(recipe, corpus).sha256, "mae": parent.inputs["mae"]}
    return Stage(recipe.kind, 2, {**asdict(recipe), "model": parent.fields["model"]}, inputs)


def obtain_dynamics(
    context: Context, recipe: DynamicsRecipe, finetuned: FinetuneRecipe, corpus: Corpus, world: World
) -> Trained:
    """Direct or action-free dynamics over the states of `world`: cached, or trained now."""
    stage = dynamics_stage(context, recipe, finetuned, corpus)
    compute = functools.partial(_train_dynamics, context, recipe, corpus, world)
    return obtain_trained(context, stage, DirectDynamics, compute)


def _train_dynamics(
    context: Context, recipe: DynamicsRecipe, corpus: Corpus, world: World, folder: Path
) -> None:
    config, limits = world.world_model.config, training_pairs(recipe, corpus).limits
    steps = control_steps(recipe, corpus)
    adapter = adapter_config(config, *limits, steps, depth=recipe.depth, blocks=recipe.blocks)
    direct = direct_config(adapter, config.dynamics, use_action=recipe.kind == "direct")
    model = DirectDynamics(direct, recipe.train.seed)
    objective = NextState(model, None if recipe.views else world.mae)
    fit_action_pairs(context, recipe, corpus, mae_encoder(world), objective, model, model, folder)


# FICC


def ficc_stage(recipe: FICCRecipe, corpus: Corpus, image_size: int) -> Stage:
    """Identity of FICC on the frames of a corpus."""
    inputs = {corpus.name: training_pairs(recipe, corpus).manifest.sha256}
    return Stage("ficc", 1, {**asdict(recipe), "image_size": image_size}, inputs)


def obtain_ficc(context: Context, recipe: FICCRecipe, corpus: Corpus, image_size: int) -> Trained:
    """FICC: cached, or trained now."""
    stage = ficc_stage(recipe, corpus, image_size)
    compute = functools.partial(_train_ficc, context, recipe, corpus, image_size)
    return obtain_trained(context, stage, FICC, compute)


def _train_ficc(context: Context, recipe: FICCRecipe, corpus: Corpus, image_size: int, folder: Path) -> None:
    config = FICCConfig(image_size=image_size, channels=recipe.channels, quantize=recipe.quantize)
    model: Any = FICC(config, seed=recipe.train.seed)
    pairs = training_pairs(recipe, corpus)
    bank, places = frames_of(pairs, recipe.short_side, recipe.gap)

    def load(rows: Tensor, generator: torch.Generator) -> Tensor:
        return random_crops(bank.frames[places[rows]], image_size, generator, flip=False)

    source = IndexSource(len(pairs), load, batch_size=recipe.train.batch_size, seed=recipe.train.seed)
    train(CycleConsistency(model), source, recipe.train, folder / "run", name="FICC", stop=context.stop)
    finish_training(model, folder, recipe)


def ficc_encoder(ficc: Trained) -> FrozenEncoder:
    """FICC's own representation network."""
    model: FICC = ficc.model

    def encode(images: Tensor) -> Tensor:
        return model.represent(images.to(next(model.parameters()).device).float() / 255)

    return FrozenEncoder(ficc.sha256, model.config.image_size, encode)


def obtain_ficc_adapter(
    context: Context, recipe: AdapterRecipe, parent: FICCRecipe, corpus: Corpus, ficc: Trained
) -> Trained:
    """The adapter from real actions to FICC's latent action, trained as the world model's is."""
    # Its representation network is small, so states are always computed once; its one slot has no place.
    recipe = replace(recipe, views=max(1, recipe.views), blocks="attention", change_weight=0.0)
    above = ficc_stage(parent, corpus, ficc.model.config.image_size)
    inputs = {corpus.name: training_pairs(recipe, corpus).sha256, above.name: above.digest}
    config = _ficc_adapter_config(recipe, corpus, ficc.model)

    def compute(folder: Path) -> None:
        train_adapter(
            context, recipe, corpus, config, ficc.model, ficc.sha256, ficc_encoder(ficc), None, folder
        )

    return obtain_trained(context, Stage("ficc-adapter", 2, asdict(recipe), inputs), ActionAdapter, compute)


def _ficc_adapter_config(recipe: AdapterRecipe, corpus: Corpus, model: FICC) -> ActionAdapterConfig:
    low, high = training_pairs(recipe, corpus).limits
    extractor = model.extractor.config
    return ActionAdapterConfig(
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        control_steps=control_steps(recipe, corpus),
        state_width=extractor.state_width,
        state_tokens=extractor.state_tokens,
        depth=recipe.depth,
        heads=extractor.heads,
        actions=extractor.actions,
        action_width=extractor.action_width,
        use_state=recipe.use_state,
        target=recipe.target,
        codes=model.quantizer.config.codes,
    )


@torch.no_grad()
def ficc_frames(
    model: FICC, adapter: ActionAdapter | None, images: Tensor, actions: Tensor, mask: Tensor
) -> tuple[Tensor, LatentActions, LatentActions]:
    """Next frames (n, 3, S, S) in [0, 1] for uint8 pairs (n, 2, 3, S, S): from FICC's own latent actions, or
    from the robot's through `adapter`. Then the latents that it used, and its own ones."""
    device = next(model.parameters()).device
    frames, used, own = [], [], []
    for pair, action, seen in zip(images.split(64), actions.split(64), mask.split(64), strict=True):
        o_t, o_next = (pair.to(device).float() / 255).unbind(1)
        s_t = model.represent(o_t)
        own.append(model.infer_actions(s_t, model.represent(o_next)))
        used.append(own[-1])
        if adapter is not None:
            used[-1] = adapter.infer_actions(s_t, action.to(device), seen.to(device), model.quantizer)
        frames.append(model.decode(model.predict(s_t, used[-1].quantized)))
    taken, inferred = (LatentActions(*map(torch.cat, zip(*parts, strict=True))) for parts in (used, own))
    return torch.cat(frames), taken, inferred
