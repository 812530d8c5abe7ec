"""The adapter from real to latent actions (section 4.2, eq. 13) as a cached stage; all else is frozen."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm import tqdm

from uwm.data.action_pairs import ActionPairs
from uwm.data.corpora import Corpus
from uwm.data.states import FrozenEncoder, view_states
from uwm.models import (
    ActionAdapter,
    ActionAdapterConfig,
    LatentActions,
    MaskedAutoencoder,
    WorldModel,
    adapter_config,
)
from uwm.models.adapter import Target
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
from uwm.stages.finetune import FinetuneRecipe, finetune_stage
from uwm.stages.trained import Trained, obtain_trained
from uwm.training.adaptation import AdapterRegression
from uwm.training.loop import TrainConfig


@dataclass(frozen=True)
class AdapterRecipe(ActionRecipe):
    """The adapter, the only thing that is trained (section 4.2)."""

    depth: int = 2
    blocks: Literal["attention", "convolutions"] = "attention"  # see ActionAdapterConfig
    use_state: bool = True
    target: Target = "continuous"  # see ActionAdapterConfig
    # How much more a slot's error counts where the state changes: 1 + weight x root of the change of its
    # region, over the mean. 0: all alike, as in eq. 13.
    change_weight: float = 0.0
    commitment: float = 0.03  # weight, with the target "prediction": 0.01 to 0.05 were alike


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


# The adapter


def adapter_stage(
    context: Context, recipe: AdapterRecipe, finetuned: FinetuneRecipe, corpus: Corpus
) -> Stage:
    """Identity of the adapter to a fine-tuned world model; trains nothing."""
    parent = finetune_stage(context, finetuned, corpus)
    inputs = {corpus.name: training_pairs(recipe, corpus).sha256, parent.name: parent.digest}
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
    low, high = training_pairs(recipe, corpus).limits
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
        pairs = training_pairs(recipe, corpus)
        targets = latent_targets(inference, encoder, pairs, recipe.short_side, recipe.gap, recipe.views)

    def predict(s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        found = adapter.infer_actions(s_t, actions, mask, world_model.quantizer)
        prediction: Tensor = world_model.predict(s_t, found.quantized)
        return prediction

    fit_action_pairs(context, recipe, corpus, encoder, objective, adapter, predict, folder, targets)


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
    pairs: ActionPairs,
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
