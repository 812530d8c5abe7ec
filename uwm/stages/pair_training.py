"""Trainings of the world model on frame pairs: their recipe, their batches, and how they are watched."""

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self

import numpy as np
import torch
from torch import Tensor

from uwm.bounds import (
    Bounded,
    Count,
    JpegQuality,
    Natural,
    NotNegative,
    OutOfBounds,
    Pixels,
    Positive,
    Range,
    check_bounds,
    later,
)
from uwm.data.corpora import Corpus
from uwm.data.crops import center_crop, fixed_views
from uwm.data.manifest import Manifest
from uwm.data.pairs import FrameBank, load_frames, load_pairs
from uwm.data.pool import WORKER_BYTES, HostMemory, host_memory, joined_batches, memory_of
from uwm.data.procedural_video import PROCEDURAL, procedural_bank
from uwm.data.selection import Corpora, frozen_pairs, list_arguments
from uwm.data.shard_stream import PIECE, shard_stream
from uwm.data.stream import BUFFER, PER_VISIT, Crop, PairStream, video_stream
from uwm.env import ranks_here
from uwm.errors import UserError
from uwm.metrics.perceptual import tensors_sha256
from uwm.models import (
    MaskedAutoencoder,
    WorldModel,
)
from uwm.stages.prepared import prepared_shards
from uwm.training.alarm import ActionAlarm
from uwm.training.batches import IndexSource
from uwm.training.distributed import environment_ranks
from uwm.training.loop import TrainConfig
from uwm.training.objectives import action_gap, pair_batches
from uwm.training.sources import encode_images, encode_views, state_pairs

HELD_OUT = 256  # validation pairs of each corpus


@dataclass(frozen=True)
class PairRecipe(Bounded):
    """A training of the world model on frame pairs."""

    train: TrainConfig
    short_side: Pixels = 256  # the frames' shorter side, before the random crop
    gap: Positive = 0.2  # seconds between the frames of a pair (section 5.1)
    pairs: Count | None = None  # training pairs per corpus; None: every pair there is
    clips: Count | None = None  # per corpus and split; None: every clip there is
    views: Natural = 0  # crops per clip whose states are computed once; 0: crop and encode anew at every step
    # Read pairs from shards of this JPEG quality (0: raw) below the folder UWM_SHARDS; None: from the videos.
    shards: JpegQuality | None = None
    # Weight of the loss on the picture that the prediction shows, 1 - SSIM; 0: the state's error alone, as in
    # the authors' code. A small state error is not a sharp picture.
    picture_weight: NotNegative = 0.0
    # Of a long video so many pairs are drawn from the same 4 s (a visit), which are decoded together: live
    # decoding reads up to 8 at a time. Pairs of a visit lie in different batches, but show the same scene.
    pairs_per_visit: Annotated[int, Range(1, 8)] = later(1)

    def __post_init__(self) -> None:
        check_bounds(self)
        check_passes(self.train)

    def seeded(self, seed: int | None) -> Self:
        """The recipe with a cell's seed; 0 for a cell without."""
        return replace(self, train=replace(self.train, seed=seed or 0))


def check_passes(train: TrainConfig) -> None:
    """OutOfBounds where a step of a model with a codebook would take several forward passes."""
    if train.accumulate > 1:
        raise OutOfBounds(
            f"accumulate must be 1 where a codebook is trained, not {train.accumulate}: it counts forward "
            "passes as steps (continuous_steps, restarts, running means); train in more processes instead"
        )


def check_trained(lpips: str) -> None:
    """OutOfBounds for an LPIPS that is not trained, as part of a loss."""
    if lpips in ("random", "lpips-random"):
        raise OutOfBounds("LPIPS in a loss must be of a trained network, such as squeeze, not a random one")


def chosen(sources: Sequence[str], corpora: Corpora) -> Corpora:
    """The corpora among a recipe's sources; all without sources. UserError for one that is none of them."""
    named = [name for name in sources if name != PROCEDURAL]
    for name in named:
        if name not in corpora:
            known = ", ".join((*corpora, PROCEDURAL))
            raise UserError(f"sources: {name!r} is none of {known}; pretrain_on names the corpora")
    return {name: corpora[name] for name in named} if sources else corpora


def training_manifests(corpora: Corpora, recipe: PairRecipe) -> dict[str, str]:
    """What a training on these corpora reads: the sha256 of each corpus's list of training pairs."""
    return {name: training_manifest(corpus, recipe).sha256 for name, corpus in corpora.items()}


def training_manifest(corpus: Corpus, recipe: PairRecipe) -> Manifest:
    """The frozen training pairs of one corpus."""
    seed, visit = recipe.train.seed, recipe.pairs_per_visit
    return frozen_pairs(corpus, "train", recipe.gap, recipe.pairs, seed, visit)


def pair_lists(recipe: PairRecipe) -> dict[str, dict[str, Any]]:
    """What the lists of training and of validation pairs are made by: the same for equal lists."""
    seed, visit = recipe.train.seed, recipe.pairs_per_visit
    return {
        "train": list_arguments(recipe.gap, recipe.pairs, seed, visit),
        "validation": list_arguments(recipe.gap, HELD_OUT, seed),
    }


def watched(
    recipe: PairRecipe, world_model: WorldModel, held_out: Mapping[str, list[Tensor]]
) -> Callable[[], dict[str, float]]:
    """The validation of a training: errors by `action_gap`, and a warning while the action is ignored."""
    validate = functools.partial(action_gaps, world_model, held_out, recipe.train.seed)
    if not world_model.config.use_action:
        return validate
    first = int(world_model.step)  # fine-tuning goes on counting
    return ActionAlarm().watching(validate, lambda: (int(world_model.step) - first) / recipe.train.steps)


@dataclass(frozen=True)
class TrainingViews:
    """What the states of a training's fixed crops follow from; the others tell the last three fields."""

    mae_sha256: str
    manifests: tuple[tuple[str, str], ...]  # each corpus's name and the sha256 of its list
    short_side: int
    gap: float
    views: int
    seed: int
    procedural: int
    recipe: PairRecipe = field(compare=False, repr=False)
    mae: MaskedAutoencoder = field(compare=False, repr=False)
    corpora: Corpora = field(compare=False, repr=False)


def cached_states(
    recipe: PairRecipe, mae: MaskedAutoencoder, corpora: Corpora, procedural: int = 0
) -> IndexSource:
    """Batches of state pairs whose states are all computed now: for frozen encoders and fixed crops.

    `procedural`: so many pairs of procedural video besides.
    """
    manifests = tuple(training_manifests(corpora, recipe).items())
    settings = (recipe.short_side, recipe.gap, recipe.views, recipe.train.seed, procedural)
    views = TrainingViews(tensors_sha256(mae.state_dict()), manifests, *settings, recipe, mae, corpora)
    states, pairs = _states_and_pairs(views)
    load = state_pairs(states, pairs)
    return IndexSource(len(pairs), load, batch_size=recipe.train.batch_size, seed=recipe.train.seed)


@functools.lru_cache(maxsize=1)  # trainings that differ in the model alone read the same states
def _states_and_pairs(of: TrainingViews) -> tuple[Tensor, Tensor]:
    """States (V, F, 1+N, D) of all frames in each view, and the pairs' index among them (n, 2)."""
    banks = [load_frames(c, "train", of.short_side, gap=of.gap) for c in of.corpora.values()]
    if of.procedural:
        banks.append(procedural_bank(of.procedural, of.short_side, of.gap, of.seed))
    states = bank_view_states(of.recipe, of.mae, *banks)
    starts = np.cumsum([0, *(len(bank.frames) for bank in banks[:-1])])
    pairs = [bank.pairs + int(start) for bank, start in zip(banks, starts, strict=True)]
    return states, torch.cat(pairs)


def bank_view_states(recipe: PairRecipe, mae: MaskedAutoencoder, *banks: FrameBank) -> Tensor:
    """States (V, F, 1+N, D) of all frames of the banks in each of the recipe's views."""
    size, views, seed = mae.config.image_size, recipe.views, recipe.train.seed
    of_banks = [fixed_views(bank.frames, bank.clip, size, views, seed) for bank in banks]
    frames = sum(len(bank.frames) for bank in banks)
    return encode_views(mae, zip(*of_banks, strict=True), views * frames).unflatten(0, (views, frames))


class LiveBatches:
    """Batches with an equal share of pairs from each of several corpora, read by one pool of processes."""

    def __init__(self, streams: Mapping[str, PairStream]) -> None:
        """`streams`: of each corpus by its name."""
        self.streams = streams

    def batches(self, start_step: int, rank: int, world_size: int) -> Iterator[Tensor]:
        """Endless: the corpora's pairs of each step, one after the other. Says what memory that takes."""
        workers = decoding_workers()
        streams = list(self.streams.values())
        if rank == 0:
            print(told_memory(memory_of(streams, workers, world_size), workers), file=sys.stderr)
        return joined_batches(streams, workers, (start_step, rank, world_size))


def told_memory(memory: HostMemory, workers: int) -> str:
    """What reading takes of a rank, as a line for its log."""
    pairs = (memory.blocks + memory.results) / 1e9
    return (
        f"reading takes at most {memory.total / 1e9:.1f} GB of memory a rank: {pairs:.1f} GB of pairs and "
        f"{workers} processes of about {WORKER_BYTES / 1e9:.2g} GB"
    )


def planned_memory(recipe: PairRecipe, image_size: int, corpora: int, ranks: int, workers: int) -> HostMemory:
    """The same before anything is opened: of a rank, where a recipe reads so many corpora."""
    share = -(-recipe.train.batch_size // (corpora * ranks))
    pair = Crop(image_size, recipe.short_side).pair_bytes
    unit = PER_VISIT if recipe.shards is None else PIECE
    return host_memory([-(-BUFFER // share) * share * pair] * corpora, unit * pair, workers)


def decoding_workers() -> int:
    """Processes of one rank that read pairs: a core is left for the training. They change no batch.

    A launcher that binds no rank to cores of its own has them share the machine's.
    """
    cores = len(os.sched_getaffinity(0))
    if cores == os.cpu_count():
        cores //= ranks_here()
    return max(0, cores - 1)


def live_video(recipe: PairRecipe, mae: MaskedAutoencoder, corpora: Corpora) -> LiveBatches:
    """Batches of image pairs (B, 2, 3, S, S) decoded on the fly, for corpora that fit in no memory."""
    share, rest = divmod(recipe.train.batch_size, len(corpora))
    if rest:
        raise UserError(
            f"batch_size {recipe.train.batch_size} must be a multiple of the {len(corpora)} corpora "
            "for training on live video"
        )
    size = mae.config.image_size
    return LiveBatches(
        {n: pair_stream(recipe, c, training_manifest(c, recipe), size, share) for n, c in corpora.items()}
    )


def pair_stream(
    recipe: PairRecipe, corpus: Corpus, manifest: Manifest, image_size: int, batch_size: int
) -> PairStream:
    """The pairs of a manifest in random crops, from a corpus's videos or from shards."""
    seed, workers = recipe.train.seed, decoding_workers()
    if recipe.shards is None:
        side = recipe.short_side
        return video_stream(
            corpus, manifest, image_size, batch_size, short_side=side, seed=seed, workers=workers
        )
    folder = prepared_shards(recipe.shards, recipe.short_side, corpus, manifest)
    return shard_stream(folder, image_size, batch_size, seed=seed, workers=workers)


def held_out_pairs(recipe: PairRecipe, corpus: Corpus) -> Manifest:
    """The validation pairs by which a training of the world model is watched."""
    return frozen_pairs(corpus, "validation", recipe.gap, HELD_OUT, recipe.train.seed)


def held_out_states(recipe: PairRecipe, mae: MaskedAutoencoder, corpora: Corpora) -> dict[str, list[Tensor]]:
    """State pairs of each corpus's validation split, in batches: on rank 0, which alone validates. The
    others only see that there are pairs."""
    batches = {}
    for name, corpus in corpora.items():
        manifest = held_out_pairs(recipe, corpus)
        if environment_ranks().rank:
            continue
        size = mae.config.image_size
        images = center_crop(load_pairs(corpus, manifest, recipe.short_side), size, size)
        states = encode_images(mae, images.flatten(0, 1), name=f"{name} validation")
        batches[name] = pair_batches(states.unflatten(0, (-1, 2)))
    return batches


def action_gaps(world_model: WorldModel, held_out: Mapping[str, list[Tensor]], seed: int) -> dict[str, float]:
    """`action_gap` on held-out pairs of each corpus, as `<number>/<corpus>`."""
    result = {}
    for name, batches in held_out.items():
        gaps = action_gap(world_model, batches, torch.Generator().manual_seed(seed))
        result.update({f"{key}/{name}": value for key, value in gaps.items()})
    return result
