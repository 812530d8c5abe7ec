"""The adapter from real to latent actions (section 4.2, eq. 13) as a cached stage; all else is frozen."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from uwm.bounds import NotNegative
from uwm.data.states import view_states
from uwm.models import (
    ActionAdapter,
    ActionAdapterConfig,
    LatentActions,
    MaskedAutoencoder,
)
from uwm.runs.artifacts import Stage
from uwm.runs.settings import identity_fields
from uwm.stages.action_training import ActionData, ActionRecipe, controller, fit_action_pairs, training_pairs
from uwm.stages.finetune import SMALL_CLIPS, Domain
from uwm.stages.trained import Trained, TrainingRun, obtain_trained
from uwm.training.adaptation import AdapterRegression
from uwm.training.loop import TrainConfig


@dataclass(frozen=True)
class AdapterRecipe(ActionRecipe):
    """The adapter, the only thing that is trained (section 4.2)."""

    model: ActionAdapterConfig = ActionAdapterConfig()  # its sizes of None: the world model's, the robot's
    # How much more a token's error counts where the state changes: 1 + weight x root of the change of its
    # region, over the mean. 0: all alike, as in eq. 13.
    change_weight: NotNegative = 0.0
    commitment: NotNegative = 0.03  # weight, with the target "prediction"


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
    "small": AdapterRecipe(
        TrainConfig(
            steps=2500,
            batch_size=128,
            learning_rate=3e-4,
            betas=(0.9, 0.999),
            weight_decay=0.0,
            precision="bf16",
            validate_every=500,
        ),
        clips=SMALL_CLIPS,
        views=1,
    ),
    "mini": AdapterRecipe(
        TrainConfig(
            steps=6000,  # each pair is seen about five times
            batch_size=16,  # twice the steps of 32 in the same time learn more
            learning_rate=3e-3,  # 3e-4 wants more steps than a mini run has
            betas=(0.9, 0.999),
            weight_decay=0.0,
            warmup_steps=30,
            checkpoint_every=1000,
            validate_every=500,
        ),
        short_side=128,
        views=1,
        # Convolutions learn faster than attention; fitted to the codes they place the hand best. See
        # paper/deviations.md.
        model=ActionAdapterConfig(depth=3, blocks="convolutions", target="codes", decode="mean"),
        change_weight=6.0,
    ),
    "smoke": AdapterRecipe(
        TrainConfig(steps=3, batch_size=4, learning_rate=1e-3, betas=(0.9, 0.999), weight_decay=0.0),
        short_side=64,
        clips=4,
        views=1,
        model=ActionAdapterConfig(depth=1, target="codes", decode="mean"),
        change_weight=6.0,
    ),
}


# Judged by what the frozen dynamics predict: the one target that suits codes and numbers, placed or not.
JUDGED = ActionAdapterConfig(target="prediction")


def family_adapter(scale: str, steps: int) -> AdapterRecipe:
    """The scale's adapter for any family of latent actions, trained briefly."""
    recipe = ADAPTER[scale]
    train = replace(recipe.train, steps=steps, checkpoint_every=steps, validate_every=steps)
    return replace(recipe, train=train, model=JUDGED, change_weight=0.0)


def adapter_stage(recipe: AdapterRecipe, domain: Domain) -> Stage:
    """Identity of the adapter to a domain's world model; trains nothing."""
    parent = domain.stage
    inputs = {domain.corpus.name: training_pairs(recipe, domain.corpus).sha256, parent.name: parent.digest}
    return Stage("adapter", 3, identity_fields(recipe), inputs)


def obtain_adapter(recipe: AdapterRecipe, domain: Domain) -> Trained:
    """The adapter to the domain's world model: cached, or trained now."""

    def compute(folder: Path) -> None:
        world, data = domain.world, ActionData(recipe, domain.corpus, domain.encoder)
        frozen = FrozenLatents(world.world_model, world.weights["world-model"], world.mae)
        config = recipe.model.fitted(world.world_model.config, controller(recipe, domain.corpus))
        train_adapter(data, config, frozen, TrainingRun(folder, domain.context.stop))

    return obtain_trained(domain.context, adapter_stage(recipe, domain), ActionAdapter, compute)


class FrozenLatents(NamedTuple):
    """What an adapter is fitted to: a WorldModel, or what infers and predicts like one.

    `mae` gives the states that are not computed once; `sha256` is that of the model's weights.
    """

    model: Any
    sha256: str
    mae: MaskedAutoencoder | None


def train_adapter(
    data: ActionData, config: ActionAdapterConfig, frozen: FrozenLatents, run: TrainingRun
) -> None:
    """Fit an adapter (eq. 13) and leave it in the run's folder."""
    recipe, world_model = data.recipe, frozen.model
    assert isinstance(recipe, AdapterRecipe)
    adapter = ActionAdapter(config, seed=recipe.train.seed)
    mae = None if recipe.views else frozen.mae
    objective = AdapterRegression(adapter, world_model, mae, recipe.change_weight, recipe.commitment)
    targets: Mapping[str, Tensor] = {}
    if recipe.views and config.target != "prediction":
        device = next(world_model.parameters()).device
        targets = latent_targets(FrozenInference(frozen.sha256, device, world_model.infer_actions), data)

    def predict(s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        latents = adapter.infer_actions(s_t, actions, mask, world_model.quantizer)
        prediction: Tensor = world_model.predict(s_t, latents.quantized)
        return prediction

    fit_action_pairs(data, objective, adapter, predict, run, targets)


@dataclass(frozen=True)
class FrozenInference:
    """States s_t and s_t+1 -> latent actions; two are equal where their weights are."""

    sha256: str
    device: torch.device = field(compare=False)
    infer: Callable[[Tensor, Tensor], LatentActions] = field(compare=False)


def latent_targets(inference: FrozenInference, data: ActionData) -> Mapping[str, Tensor]:
    """What eq. 13 fits, computed once: `latents` (V, n, L, W) float16 and `codes` (V, n, L) of all pairs.

    Trainings in one process share them, as they do the states.
    """
    recipe = data.recipe
    source = data.encoder, data.pairs, recipe.short_side, recipe.gap, recipe.views
    return _latent_targets(inference, *source)


@functools.lru_cache(maxsize=2)
@torch.no_grad()
def _latent_targets(inference: FrozenInference, *source: Any) -> Mapping[str, Tensor]:
    states, frame_index = view_states(*source)
    targets: dict[str, Tensor] = {}
    for i, view in enumerate(states):
        for rows in tqdm(torch.arange(len(frame_index)).split(64), "latent actions", mininterval=10):
            latents = inference.infer(*view[frame_index[rows]].to(inference.device).float().unbind(1))
            kept = {"latents": latents.continuous.half(), "codes": latents.codes.int()}
            for name, values in kept.items():
                if name not in targets:
                    size = len(states), len(frame_index), *values.shape[1:]
                    targets[name] = values.new_empty(size, device="cpu")
                targets[name][i, rows] = values.cpu()
    return targets
