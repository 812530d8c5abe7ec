"""Stages that train what the adapter is compared with: direct dynamics, action-free dynamics, FICC."""

import functools
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from torch import Tensor

from uwm.baselines.direct import DirectDynamics, direct_config
from uwm.baselines.ficc import FICC, FICCConfig
from uwm.bounds import NotNegative, check_bounds, later
from uwm.data.corpora import Corpus
from uwm.data.crops import random_crops
from uwm.data.draws import Draws
from uwm.data.states import FrozenEncoder, frames_of
from uwm.metrics.perceptual import LPIPS, published_lpips
from uwm.models import ActionAdapter, ActionAdapterConfig
from uwm.runs.artifacts import Stage
from uwm.runs.settings import identity_fields
from uwm.stages.action_training import (
    AS_ON_ALL,
    ActionData,
    ActionRecipe,
    FewPairs,
    controller,
    fit_action_pairs,
    training_pairs,
)
from uwm.stages.adapter import ADAPTER, AdapterRecipe, FrozenLatents, train_adapter
from uwm.stages.finetune import FINETUNE, Domain
from uwm.stages.pair_training import check_passes, check_trained
from uwm.stages.trained import Trained, TrainingRun, finish_training, obtain_trained
from uwm.stages.world_model import PerceptualRecipe
from uwm.training.adaptation import CycleConsistency, NextState
from uwm.training.batches import IndexSource
from uwm.training.loop import train
from uwm.training.objectives import PictureLoss


@dataclass(frozen=True)
class DynamicsRecipe(ActionRecipe):
    """Dynamics from real actions or none, from scratch, in place of adapter and world model."""

    kind: Literal["direct", "no-action"] = "direct"
    model: ActionAdapterConfig = (
        ActionAdapterConfig()
    )  # the adapter's network; the dynamics are the world model's
    # Then for more steps with the picture in the loss, as the world model that the adapter moves.
    perceptual: PerceptualRecipe = later(PerceptualRecipe())
    picture_weight: NotNegative = later(0.0)  # of 1 - SSIM in those steps

    def __post_init__(self) -> None:
        check_bounds(self)
        check_trained(self.perceptual.lpips)

    def with_pairs(self, pairs: int, few: FewPairs = AS_ON_ALL) -> Self:
        """As any recipe; the last steps, with the picture in the loss, stay as large a share of all."""
        recipe, last = super().with_pairs(pairs, few), self.perceptual.train
        share = recipe.train.steps / self.train.steps
        steps, warmup = math.ceil(share * last.steps), math.floor(share * last.warmup_steps)
        fewer = replace(last, steps=steps, warmup_steps=warmup)
        return replace(recipe, perceptual=replace(self.perceptual, train=fewer))


@dataclass(frozen=True)
class FICCRecipe(ActionRecipe):
    """FICC on the pairs' frames. Its representation learns, so every step crops and encodes anew."""

    model: FICCConfig = FICCConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_passes(self.train)


SHARPER = PerceptualRecipe(weight=1.0, train=replace(FINETUNE["mini"].train, steps=600))
# Trained as the adapter is, so that the difference is in the method; at scale paper for more steps, since
# they start from nothing; at scale mini for about as long as the adapter.
DYNAMICS: dict[str, DynamicsRecipe] = {
    scale: DynamicsRecipe(
        replace(adapter.train, steps=steps),
        short_side=adapter.short_side,
        clips=adapter.clips,
        views=adapter.views,
        model=replace(adapter.model, decode="likeliest"),  # there are no codes to read
    )
    for scale, adapter, steps in (
        ("paper", ADAPTER["paper"], 10_000),
        ("small", ADAPTER["small"], 5000),
        ("mini", ADAPTER["mini"], 3000),  # a step takes longer than an adapter's
        ("smoke", ADAPTER["smoke"], 3),
    )
}
DYNAMICS["mini"] = replace(DYNAMICS["mini"], picture_weight=0.5, perceptual=SHARPER)
FICC_RECIPE = {
    scale: FICCRecipe(
        replace(adapter.train, **training),
        short_side=adapter.short_side,
        clips=adapter.clips,
        model=FICCConfig(channels=channels),
    )
    for scale, adapter, channels, training in (
        ("paper", ADAPTER["paper"], (32, 64, 96, 128), {"steps": 20_000}),
        ("small", ADAPTER["small"], (32, 64, 96, 128), {"steps": 10_000}),
        # Fewer channels than at scale paper: a step is to end soon on a CPU.
        (
            "mini",
            ADAPTER["mini"],
            (16, 32, 64, 128),
            {"steps": 3000, "batch_size": 32, "learning_rate": 1e-3},
        ),
        ("smoke", ADAPTER["smoke"], (16, 32, 64, 128), {"steps": 2}),
    )
}


# Dynamics without latent actions


def dynamics_stage(recipe: DynamicsRecipe, domain: Domain) -> Stage:
    """Identity of direct or action-free dynamics. With the domain's world they share sizes and encoder, no
    weights of the world model."""
    parent = domain.stage
    inputs = {domain.corpus.name: training_pairs(recipe, domain.corpus).sha256, "mae": parent.inputs["mae"]}
    return Stage(recipe.kind, 3, {**identity_fields(recipe), "world-model": parent.fields["model"]}, inputs)


def obtain_dynamics(recipe: DynamicsRecipe, domain: Domain) -> Trained:
    """Direct or action-free dynamics over the states of a domain: cached, or trained now."""
    train_it = _sharpen_dynamics if recipe.perceptual.weight else _train_dynamics
    compute = functools.partial(train_it, recipe, domain)
    return obtain_trained(domain.context, dynamics_stage(recipe, domain), DirectDynamics, compute)


def _train_dynamics(recipe: DynamicsRecipe, domain: Domain, folder: Path) -> None:
    config = domain.world.world_model.config
    adapter = recipe.model.fitted(config, controller(recipe, domain.corpus))
    direct = direct_config(adapter, config.dynamics, use_action=recipe.kind == "direct")
    _fit_dynamics(recipe, domain, DirectDynamics(direct, recipe.train.seed), folder)


def _sharpen_dynamics(recipe: DynamicsRecipe, domain: Domain, folder: Path) -> None:
    """Go on where the same recipe without the picture in its loss ends."""
    network = published_lpips(recipe.perceptual.lpips)  # before the training
    first = obtain_dynamics(replace(recipe, picture_weight=0.0, perceptual=PerceptualRecipe()), domain)
    now = replace(recipe, train=replace(recipe.perceptual.train, seed=recipe.train.seed))
    _fit_dynamics(now, domain, first.model.train().requires_grad_(True), folder, network)


def _fit_dynamics(
    recipe: DynamicsRecipe, domain: Domain, model: DirectDynamics, folder: Path, network: LPIPS | None = None
) -> None:
    """Train by `recipe.train`, with the picture in the loss."""
    mae = domain.world.mae
    picture = PictureLoss(mae, recipe.picture_weight, network, recipe.perceptual.weight)
    objective = NextState(model, None if recipe.views else mae, picture)
    data = ActionData(recipe, domain.corpus, domain.encoder)
    fit_action_pairs(data, objective, model, model, TrainingRun(folder, domain.context.stop))


# FICC


def ficc_stage(recipe: FICCRecipe, corpus: Corpus) -> Stage:
    """Identity of FICC on the frames of a corpus."""
    inputs = {corpus.name: training_pairs(recipe, corpus).manifest.sha256}
    return Stage("ficc", 2, identity_fields(recipe), inputs)


def ficc_recipe(recipe: FICCRecipe, domain: Domain) -> FICCRecipe:
    """The recipe at the domain's picture size."""
    return replace(recipe, model=recipe.model.fitted(domain.world.image_size))


def obtain_ficc(recipe: FICCRecipe, domain: Domain) -> Trained:
    """FICC: cached, or trained now."""
    recipe = ficc_recipe(recipe, domain)
    compute = functools.partial(_train_ficc, recipe, domain)
    return obtain_trained(domain.context, ficc_stage(recipe, domain.corpus), FICC, compute)


def _train_ficc(recipe: FICCRecipe, domain: Domain, folder: Path) -> None:
    model: Any = FICC(recipe.model, seed=recipe.train.seed)
    pairs, size = training_pairs(recipe, domain.corpus), model.image_size
    bank, frame_index = frames_of(pairs, recipe.short_side, recipe.gap)

    def load(rows: Tensor, draws: Draws) -> Tensor:
        return random_crops(bank.frames[frame_index[rows]], size, draws, flip=False)

    source = IndexSource(len(pairs), load, batch_size=recipe.train.batch_size, seed=recipe.train.seed)
    stop = domain.context.stop
    train(CycleConsistency(model), source, recipe.train, folder / "run", name="FICC", stop=stop)
    finish_training(model, folder, recipe)


def ficc_encoder(ficc: Trained) -> FrozenEncoder:
    """FICC's own representation network."""
    model: FICC = ficc.model

    def encode(images: Tensor) -> Tensor:
        return model.represent(images.to(next(model.parameters()).device).float() / 255)

    return FrozenEncoder(ficc.sha256, model.image_size, encode)


def _ficc_adapter_recipe(recipe: AdapterRecipe) -> AdapterRecipe:
    # Its representation network is small, so states are always computed once; its one token has no place.
    network = replace(recipe.model, blocks="attention")
    return replace(recipe, views=max(1, recipe.views), model=network, change_weight=0.0)


def ficc_adapter_stage(recipe: AdapterRecipe, parent: FICCRecipe, domain: Domain) -> Stage:
    """Identity of the adapter to FICC; trains nothing."""
    recipe = _ficc_adapter_recipe(recipe)
    above = ficc_stage(ficc_recipe(parent, domain), domain.corpus)
    inputs = {domain.corpus.name: training_pairs(recipe, domain.corpus).sha256, above.name: above.digest}
    return Stage("ficc-adapter", 3, identity_fields(recipe), inputs)


def obtain_ficc_adapter(recipe: AdapterRecipe, parent: FICCRecipe, domain: Domain) -> Trained:
    """The adapter from real actions to FICC's latent action, trained as the world model's is."""
    stage, recipe = ficc_adapter_stage(recipe, parent, domain), _ficc_adapter_recipe(recipe)

    def compute(folder: Path) -> None:
        ficc = obtain_ficc(parent, domain)
        config = _ficc_adapter_config(recipe, domain.corpus, ficc.model)
        data = ActionData(recipe, domain.corpus, ficc_encoder(ficc))
        run = TrainingRun(folder, domain.context.stop)
        train_adapter(data, config, FrozenLatents(ficc.model, ficc.sha256, None), run)

    return obtain_trained(domain.context, stage, ActionAdapter, compute)


def _ficc_adapter_config(recipe: AdapterRecipe, corpus: Corpus, model: FICC) -> ActionAdapterConfig:
    return replace(
        recipe.model,
        heads=model.config.heads,
        tokens=model.tokens,
        codes=model.quantizer.config.codes,
        controller=controller(recipe, corpus),
    )
