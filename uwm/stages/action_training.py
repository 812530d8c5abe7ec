"""Trainings on pairs with real actions: which pairs, their batches, and how a trained network is watched."""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from uwm.bounds import Bounded, Count, Natural, Pixels, Positive
from uwm.data.action_pairs import ActionPairs, action_pairs, all_action_pairs
from uwm.data.corpora import Corpus
from uwm.data.crops import random_crops
from uwm.data.draws import Draws
from uwm.data.pairs import FrameBank
from uwm.data.selection import frozen_pairs, nested_pairs
from uwm.data.states import (
    FrozenEncoder,
    encode_frames,
    evaluation_images,
    frames_of,
    view_states,
)
from uwm.models import ControllerConfig
from uwm.models.dynamics import DynamicsFunction
from uwm.runs.experiment import SkipCell
from uwm.stages.trained import TrainingRun, finish_training
from uwm.training.batches import IndexSource
from uwm.training.loop import TrainConfig, train


@dataclass(frozen=True)
class FewPairs(Bounded):
    """How few labelled pairs are trained on, which are soon learnt by heart; None: as all of them."""

    steps: Count | None = None  # at most, of no more than `scarce` pairs (None: of any number)
    scarce: Count | None = None
    epochs: Count | None = None  # how often each pair is seen at most
    views: Count | None = None  # crops of each pair


AS_ON_ALL = FewPairs()
# Of scale mini, chosen on validation pairs for dynamics from scratch, which learn few pairs by heart soonest:
# from 100 pairs their error was least after some 300 steps, from 500 after some 1,000. From 2,000 pairs 48
# epochs are as long as the adapter's training on all.
MINI_FEW_PAIRS = FewPairs(steps=1200, scarce=500, epochs=48, views=8)


@dataclass(frozen=True)
class ActionRecipe(Bounded):
    """A training on action-labelled pairs of one corpus."""

    train: TrainConfig
    pairs: Count | None = None  # labelled ones; None: every pair there is
    short_side: Pixels = 256
    gap: Positive = 0.2  # seconds between the frames of a pair (section 5.1)
    clips: Count | None = None  # per split; None: every clip there is
    # Crops whose states are computed once: the centre, then random ones; 0: crop and encode at every step.
    # Never flipped, unlike in the pre-training: a mirrored picture would want a mirrored action.
    views: Natural = 0

    def seeded(self, seed: int | None) -> Self:
        """The recipe with a cell's seed; 0 for a cell without."""
        return replace(self, train=replace(self.train, seed=seed or 0))

    def with_pairs(self, pairs: int, few: FewPairs = AS_ON_ALL) -> Self:
        """The recipe on so many pairs."""
        limits = [few.steps or self.train.steps] if pairs <= (few.scarce or pairs) else [self.train.steps]
        if few.epochs is not None:
            limits.append(math.ceil(few.epochs * pairs / self.train.batch_size))
        train = replace(self.train, steps=min(limits))
        return replace(self, pairs=pairs, train=train, views=few.views or self.views)


@functools.lru_cache(maxsize=8)
def training_pairs(recipe: ActionRecipe, corpus: Corpus) -> ActionPairs:
    """The pairs that a recipe trains on; fewer are a part of more, another seed draws others."""
    everything = all_action_pairs(corpus, recipe.gap, recipe.clips)
    if recipe.pairs is None:
        return everything
    manifest = nested_pairs(everything.manifest, recipe.pairs, recipe.train.seed)
    return action_pairs(everything.corpus, manifest)


def skip_where_fewer(recipe: ActionRecipe, corpus: Corpus, field: str) -> None:
    """SkipCell where a recipe wants more labelled pairs than there are: `field` is to be lowered. UserError
    for no actions at all."""
    there = len(all_action_pairs(corpus, recipe.gap, recipe.clips))
    if recipe.pairs is not None and recipe.pairs > there:
        raise SkipCell(f"{corpus.name} has {there} labelled pairs, fewer than {recipe.pairs}: lower {field}")


def controller(recipe: ActionRecipe, corpus: Corpus) -> ControllerConfig:
    """The robot's range of actions, and most of them between the frames of any training pair."""
    low, high = training_pairs(recipe, corpus).limits
    steps = int(all_action_pairs(corpus, recipe.gap, recipe.clips).actions.mask.shape[1])
    return ControllerConfig(tuple(low.tolist()), tuple(high.tolist()), steps)


LoadNamed = Callable[[Tensor, Draws], dict[str, Tensor]]


@dataclass(frozen=True)
class ActionData:
    """What a recipe trains on: the pairs of a corpus, and the encoder that makes states of their frames."""

    recipe: ActionRecipe
    corpus: Corpus
    encoder: FrozenEncoder

    @property
    def pairs(self) -> ActionPairs:
        """The training pairs."""
        return training_pairs(self.recipe, self.corpus)

    def states(self) -> tuple[Tensor, Tensor]:
        """States (V, F, 1+N, D) of the frames that the pairs need, and the pairs' index (n, 2) in them."""
        recipe = self.recipe
        return view_states(self.encoder, self.pairs, recipe.short_side, recipe.gap, recipe.views)

    def frames(self) -> tuple[FrameBank, Tensor]:
        """The frames that the pairs need, and the pairs' index (n, 2) among them."""
        return frames_of(self.pairs, self.recipe.short_side, self.recipe.gap)

    def batches(self, per_view: Mapping[str, Tensor] | None = None) -> IndexSource:
        """Batches with `actions`, `mask` and the pairs' `states`, or (no `views`) their `images`.

        `per_view`: more of each pair by name, (V, n, ...), of the view that the states are of.
        """
        load = self._load_states(per_view or {}) if self.recipe.views else self._load_images()
        actions, mask = self.pairs.controls

        def load_pairs(rows: Tensor, draws: Draws) -> dict[str, Tensor]:
            return {**load(rows, draws), "actions": actions[rows], "mask": mask[rows]}

        train = self.recipe.train
        return IndexSource(len(self.pairs), load_pairs, batch_size=train.batch_size, seed=train.seed)

    def _load_states(self, per_view: Mapping[str, Tensor]) -> LoadNamed:
        states, frame_index = self.states()

        def load(rows: Tensor, draws: Draws) -> dict[str, Tensor]:
            view = draws.randint(len(states), len(rows))
            batch = {"states": states[view[:, None], frame_index[rows]]}  # (B, 2, 1+N, D)
            return batch | {name: values[view, rows] for name, values in per_view.items()}

        return load

    def _load_images(self) -> LoadNamed:
        bank, frame_index = self.frames()

        def load(rows: Tensor, draws: Draws) -> dict[str, Tensor]:
            frames = bank.frames[frame_index[rows]]  # (B, 2, 3, H, W)
            return {"images": random_crops(frames, self.encoder.image_size, draws, flip=False)}

        return load


def fit_action_pairs(
    data: ActionData,
    objective: nn.Module,
    model: Any,
    predict: DynamicsFunction,
    run: TrainingRun,
    per_view: Mapping[str, Tensor] | None = None,
) -> None:
    """Train `objective` on action pairs, watch how well `predict` does, and leave `model` in the folder."""
    held_out = HeldOut.load(data)
    validate = functools.partial(held_out.errors, predict, model)
    name, source = type(objective).__name__, data.batches(per_view)
    train(
        objective, source, data.recipe.train, run.folder / "run", validate=validate, name=name, stop=run.stop
    )
    finish_training(model, run.folder, data.recipe)


class HeldOut(NamedTuple):
    """Validation pairs: states (n, 2, 1+N, D), actions (n, T, A), mask (n, T)."""

    corpus: str
    states: Tensor
    actions: Tensor
    mask: Tensor

    @classmethod
    def load(cls, data: ActionData, pairs: int = 256) -> Self:
        """Up to `pairs` of the validation split: the same for every seed."""
        recipe, corpus, encoder = data.recipe, data.corpus, data.encoder
        held_out = action_pairs(corpus, frozen_pairs(corpus, "validation", recipe.gap, pairs, 0))
        images = evaluation_images(held_out, recipe.short_side, encoder.image_size)
        steps = controller(recipe, corpus).steps
        actions, mask = (control[:, :steps] for control in held_out.controls)
        return cls(corpus.name, encode_frames(encoder, images, f"{corpus.name} validation"), actions, mask)

    def errors(self, predict: DynamicsFunction, model: nn.Module) -> dict[str, float]:
        """Mean squared error of the next state: predicted from the real actions, and of the copy of s_t."""
        device = next(model.parameters()).device
        sums = torch.zeros(2, dtype=torch.float64)
        for part in zip(self.states.split(64), self.actions.split(64), self.mask.split(64), strict=True):
            states, actions, mask = (tensor.to(device) for tensor in part)
            s_t, s_next = states.float().unbind(1)
            predictions = (predict(s_t, actions, mask), s_t)
            errors = torch.stack([(p - s_next).square().mean() for p in predictions])
            sums += errors.double().cpu() * len(s_t)
        predicted, copied = (sums / len(self.states)).tolist()
        return {f"state_mse/{self.corpus}": predicted, f"state_mse_copy/{self.corpus}": copied}
