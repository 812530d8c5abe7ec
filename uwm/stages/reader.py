"""Networks that read numbers off states, as cached stages: places of hand and block, cloning's action."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from uwm.baselines.reader import ReaderConfig, StateReader
from uwm.bounds import Count, NotNegative, OutOfBounds, Share, check_bounds, later
from uwm.data.action_pairs import all_action_pairs, eef_in_crop
from uwm.data.corpora import Corpus
from uwm.data.draws import Draws
from uwm.errors import UserError
from uwm.models import TokenConfig, WorldModel
from uwm.runs.artifacts import Stage
from uwm.runs.settings import identity_fields
from uwm.stages.action_training import ActionData, ActionRecipe, training_pairs
from uwm.stages.finetune import SMALL_CLIPS, Domain
from uwm.stages.trained import Trained, finish_training, obtain_trained
from uwm.training.batches import IndexSource
from uwm.training.distributed import std_over_ranks
from uwm.training.loop import TrainConfig, train

READ_VERSION = 2
# What an HDF5 file calls the hand's place.
NAMED_IN_FILES = {"hand": "robot0_eef_pos", "hand-in-picture": "CAMERA_hand"}
Reads = Literal["hand", "hand-in-picture", "block", "action"]


@dataclass(frozen=True)
class ReaderRecipe(ActionRecipe):
    """What is read: the place of hand or block off one state (in metres, or of the hand in pixels of the
    picture), or the action between a state and the next one.

    The last is behaviour cloning whose goals are what was reached later in the same clip (hindsight,
    arXiv:1707.01495).
    """

    reads: Reads = "hand"
    model: ReaderConfig = ReaderConfig()  # its sizes are set by what is read
    # `pairs` of a place's reader are at most so many, of cloning's just so many.
    noise: NotNegative = 0.3  # added to the states in training, in their deviations
    # The expected share of training states that the domain's world model predicts, the MAE giving the rest.
    # For readers of predictions. A reader that measures predictions must not be trained on any.
    predicted_share: Share = later(0.0)
    goals_ahead: Count = later(1)  # cloning: a pair's goals are the frames up to so many gaps after its first

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.predicted_share and self.reads not in ("hand", "block"):
            raise OutOfBounds(f"predicted_share must be 0 for a reader of {self.reads}: it reads true states")


_MINI = TrainConfig(
    steps=5000, batch_size=64, learning_rate=2e-3, weight_decay=0.05, warmup_steps=50, checkpoint_every=500
)
READER = {
    # So many pairs' states are held in memory, as for the decoder.
    "paper": ReaderRecipe(replace(_MINI, precision="bf16"), pairs=20_000, views=1),
    "small": ReaderRecipe(replace(_MINI, precision="bf16"), pairs=5000, clips=SMALL_CLIPS, views=1),
    "mini": ReaderRecipe(_MINI, short_side=128, views=1),
    "smoke": ReaderRecipe(
        TrainConfig(steps=3, batch_size=4, learning_rate=1e-3), pairs=8, short_side=64, clips=4, views=1
    ),
}
# A planner's cost reads states that a model predicts. Noise alone does not prepare a reader for them.
PLANNING_READER = {scale: replace(recipe, predicted_share=0.5) for scale, recipe in READER.items()}


class Examples(NamedTuple):
    """States (F, 1+N, D); per example the index (n, C) of its states and its target (n, Q)."""

    states: Tensor
    frame_index: Tensor
    targets: Tensor

    def batch(self, rows: Tensor) -> dict[str, Tensor]:
        """`states` (b, C, 1+N, D) and `targets` (b, Q) of some examples."""
        return {"states": self.states[self.frame_index[rows]], "targets": self.targets[rows]}


def _at_most(recipe: ReaderRecipe, corpus: Corpus) -> ReaderRecipe:
    """The recipe for a corpus that may have fewer pairs. Cloning from fewer would be another method."""
    if recipe.reads == "action" or recipe.pairs is None:
        return recipe
    there = len(all_action_pairs(corpus, recipe.gap, recipe.clips))
    return replace(recipe, pairs=None) if recipe.pairs > there else recipe


def sees_hand(recipe: ReaderRecipe, corpus: Corpus) -> bool:
    """Whether the gripper's place in the picture is known in every training frame."""
    return bool(np.isfinite(training_pairs(_at_most(recipe, corpus), corpus).actions.eef_in_picture).all())


def reader_stage(recipe: ReaderRecipe, domain: Domain) -> Stage:
    """Identity of a reader; trains nothing. The world model is no part of it, unless it predicts states."""
    recipe, parent = _at_most(recipe, domain.corpus), domain.stage
    inputs = {domain.corpus.name: training_pairs(recipe, domain.corpus).sha256, "mae": parent.inputs["mae"]}
    if recipe.predicted_share:
        inputs[parent.name] = parent.digest
    return Stage(f"reader-{recipe.reads}", READ_VERSION, identity_fields(recipe), inputs)


def obtain_picture_reader(recipe: ReaderRecipe, domain: Domain) -> Trained | None:
    """What sees where in the picture a robot's gripper is; None where the corpus does not know it.

    It reads the MAE's states, whatever the world model.
    """
    recipe = replace(recipe, reads="hand-in-picture")
    if not sees_hand(recipe, domain.corpus):
        return None
    return obtain_reader(recipe, replace(domain, recipe=None))


def obtain_reader(recipe: ReaderRecipe, domain: Domain) -> Trained:
    """A reader of the states of a domain's MAE: cached, or trained now."""
    recipe = _at_most(recipe, domain.corpus)
    compute = functools.partial(_train, recipe, domain)
    return obtain_trained(domain.context, reader_stage(recipe, domain), StateReader, compute)


def examples(data: ActionData, reads: Reads, goals_ahead: int = 1) -> Examples:
    """What a reader learns from. UserError where the corpus does not know the hand's place, or no block's."""
    states, frame_index = data.states()
    actions = data.pairs.actions
    if reads == "action":
        held, mask = data.pairs.controls
        mean = (held * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # (n, A)
        rows, index = later_goals(data.pairs.manifest.table, frame_index, data.recipe.gap * goals_ahead)
        return Examples(states[0], index, mean[rows])
    if reads == "hand-in-picture":
        positions = eef_in_crop(data.pairs, data.recipe.short_side, data.encoder.image_size).float()
    else:
        positions = torch.from_numpy(actions.eef_pos if reads == "hand" else actions.block_pos)  # (n, 2, 3)
    if reads != "block" and not positions.isfinite().all():
        source = NAMED_IN_FILES[reads]
        raise UserError(f"{data.corpus.name}: the hand's place is not known in every frame ({source})")
    targets = torch.full((states.shape[1], positions.shape[2]), torch.nan)
    targets[frame_index.flatten()] = positions.flatten(0, 1)
    known = targets.isfinite().all(1).nonzero()  # (m, 1): the frames of tasks with a block
    if not len(known):
        raise UserError(f"{data.corpus.name}: no frame with a block (object_pos of a cube)")
    return Examples(states[0], known, targets[known[:, 0]])


def later_goals(table: pd.DataFrame, frame_index: Tensor, seconds: float) -> tuple[Tensor, Tensor]:
    """Each pair with every frame of its clip that is known as a goal, from its second frame on and up to
    `seconds` after its first.

    `table` lists n pairs (video, t0, t1), `frame_index` (n, 2) are their frames. Gives m rows of it (m,),
    each once or more, and the index (m, 2) of first frame and goal.
    """
    frames = pd.DataFrame(
        {
            "video": np.tile(table["video"].to_numpy(), 2),
            "t": np.concatenate([table["t0"], table["t1"]]),
            "frame": frame_index.T.flatten().numpy(),
        }
    ).drop_duplicates(["video", "t"])
    pairs = table[["video", "t0", "t1"]].assign(row=np.arange(len(table)), first=frame_index[:, 0].numpy())
    matches = pairs.merge(frames, on="video")
    near = (matches["t"] >= matches["t1"]) & (
        (matches["t"] <= matches["t0"] + seconds + 1e-6) | (matches["t"] == matches["t1"])
    )
    matches = matches[near].sort_values(["row", "t"])
    rows, index = matches["row"].to_numpy(copy=True), matches[["first", "frame"]].to_numpy(copy=True)
    return torch.from_numpy(rows), torch.from_numpy(index)


@torch.no_grad()
def predicted_states(world_model: WorldModel, states: Tensor, frame_index: Tensor) -> Tensor:
    """What a world model predicts of the second frame of each pair, from the first one and the latent action
    that it infers between the two.

    `states` (F, 1+N, D) of frames, of which `frame_index` (n, 2) are the pairs -> states (n, 1+N, D), on CPU.
    """
    device = next(world_model.parameters()).device
    output = states.new_empty(len(frame_index), *states.shape[1:])
    for rows in tqdm(torch.arange(len(frame_index)).split(64), "predict states", mininterval=10):
        now, then = states[frame_index[rows]].to(device).float().unbind(1)
        output[rows] = world_model.predict(now, world_model.infer_actions(now, then).quantized).to(output)
    return output


def predicted_examples(observed: Examples, world_model: WorldModel, frame_index: Tensor) -> Examples:
    """The same targets to be read off predictions; `frame_index` (n, 2) are the pairs' among the states."""
    targets = torch.full((len(observed.states), observed.targets.shape[1]), torch.nan)
    targets[observed.frame_index[:, 0]] = observed.targets
    targets = targets[frame_index[:, 1]]  # (n, Q)
    known = targets.isfinite().all(1).nonzero()  # (k, 1)
    return Examples(predicted_states(world_model, observed.states, frame_index), known, targets[known[:, 0]])


def mixed_batch(
    true: Examples, predicted: Examples, share: float, rows: Tensor, draws: Draws
) -> dict[str, Tensor]:
    """The examples of `rows`, each replaced with probability `share` by one drawn from `predicted`."""
    batch, chosen = true.batch(rows), draws.rand(len(rows)) < share
    drawn = predicted.batch(draws.randint(len(predicted.targets), len(rows))[chosen])
    for name, values in drawn.items():
        batch[name][chosen] = values
    return batch


class ReadingError(nn.Module):
    """Mean squared error of what is read, in deviations of the targets, off states with some noise: what a
    model predicts is never quite what the MAE would see."""

    def __init__(self, reader: StateReader, noise: float) -> None:
        super().__init__()
        self.reader, self.noise = reader, noise

    def forward(self, batch: dict[str, Tensor], draws: Draws) -> dict[str, Tensor]:
        reader, states = self.reader, batch["states"].float()
        noise = draws.randn(*states.shape).to(states.device)
        noisy = states + self.noise * std_over_ranks(states) * noise
        targets = (batch["targets"] - reader.mean) / reader.deviation
        return {"loss": F.mse_loss(reader.scaled(noisy), targets)}


def training_batches(recipe: ReaderRecipe, domain: Domain) -> tuple[Examples, IndexSource]:
    """What a reader learns from, and its batches, of `states` and `targets`."""
    data = ActionData(recipe, domain.corpus, domain.encoder)
    observed = examples(data, recipe.reads, recipe.goals_ahead)
    predicted: Examples | None = None
    if recipe.predicted_share:
        world_model = domain.world.world_model
        predicted = predicted_examples(observed, world_model, data.states()[1])

    def load(rows: Tensor, draws: Draws) -> dict[str, Tensor]:
        if predicted is None:
            return observed.batch(rows)
        return mixed_batch(observed, predicted, recipe.predicted_share, rows, draws)

    batch, seed = recipe.train.batch_size, recipe.train.seed
    return observed, IndexSource(len(observed.targets), load, batch_size=batch, seed=seed)


def _train(recipe: ReaderRecipe, domain: Domain, folder: Path) -> None:
    observed, source = training_batches(recipe, domain)
    count, outputs = observed.frame_index.shape[1], observed.targets.shape[1]
    tokens = TokenConfig().fitted(domain.mae.model.config)
    sizes: dict[str, Any] = {"tokens": tokens, "states": count, "outputs": outputs}
    model: Any = StateReader(replace(recipe.model, **sizes), seed=recipe.train.seed)
    model.mean.copy_(observed.targets.mean(0))
    model.deviation.copy_(observed.targets.std(0).clamp_min(1e-6))
    objective, stop = ReadingError(model, recipe.noise), domain.context.stop
    train(objective, source, recipe.train, folder / "run", name=f"reader of {recipe.reads}", stop=stop)
    finish_training(model, folder, recipe)
