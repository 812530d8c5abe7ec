"""Pre-training of the world model (section 4.1) as a cached stage."""

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from uwm.bounds import Bounded, Count, Natural, NotNegative, OutOfBounds, Positive, Quality, check_bounds
from uwm.data.corpora import Corpus
from uwm.data.crops import center_crop, fixed_views
from uwm.data.manifest import Manifest, write_manifest
from uwm.data.pairs import FrameBank, load_frames, load_pairs
from uwm.data.selection import Corpora, first_clips_of_each, frozen_pairs
from uwm.data.shards import find_shards, shard_stream
from uwm.data.stream import PairStream, video_stream
from uwm.env import cache_root, shards_root
from uwm.errors import UserError
from uwm.models import (
    QUANTIZER_PRESETS,
    WORLD_MODEL_PRESETS,
    DynamicsConfig,
    MAEConfig,
    MaskedAutoencoder,
    TokenConfig,
    WorldModel,
    WorldModelConfig,
)
from uwm.models.world import World
from uwm.runs.artifacts import Artifacts, Stage
from uwm.runs.record import file_sha256
from uwm.stages.mae import MAERecipe, mae_identity, obtain_mae
from uwm.stages.trained import WEIGHTS, Stop, finish_training
from uwm.training.alarm import ActionAlarm
from uwm.training.batches import BatchSource, IndexSource
from uwm.training.loop import TrainConfig, train
from uwm.training.objectives import LatentActionPrediction, action_gap
from uwm.training.sources import encode_images, state_pairs


@dataclass(frozen=True)
class PairRecipe(Bounded):
    """A training of the world model on frame pairs."""

    train: TrainConfig
    short_side: Count = 256  # the frames' shorter side, before the random crop
    gap: Positive = 0.2  # seconds between the frames of a pair (section 5.1)
    pairs: Count | None = None  # training pairs per corpus; None: every pair there is
    clips: Count | None = None  # per corpus and split; None: every clip there is
    views: Natural = 0  # crops per clip whose states are computed once; 0: crop and encode anew at every step
    # Read pairs from shards of this JPEG quality (0: raw) below the folder UWM_SHARDS; None: from the videos.
    shards: Quality | None = None
    # Weight of the loss on the picture that the prediction shows, 1 - SSIM; 0: the state's error alone, as in
    # the authors' code. A small state error is not a sharp picture.
    picture_weight: NotNegative = 0.0

    def seeded(self, seed: int | None) -> Self:
        """The recipe with a cell's seed; 0 for a cell without."""
        return replace(self, train=replace(self.train, seed=seed or 0))


@dataclass(frozen=True)
class PretrainRecipe(PairRecipe):
    """Pre-training of the world model (section 4.1)."""

    model: WorldModelConfig = WORLD_MODEL_PRESETS["paper"]  # its sizes of None are those of the MAE
    stage: str = "world-model"  # what the training is called among a run's stages and curves

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.views and self.pairs is not None:
            raise OutOfBounds(
                f"pairs must be none where views are computed once (views={self.views}), since these hold "
                f"every pair of the clips, not {self.pairs}; set clips, or views=0"
            )


def high_rate(num_action_tokens: int) -> WorldModelConfig:
    """Four codes for each patch, where the paper has 24 in all: a code of the next frame, not an action."""
    return WorldModelConfig(
        tokens=TokenConfig(num_action_tokens=num_action_tokens, action_source="regions", codes_per_region=4),
        # Few and small steps: unused codes restart after 75 steps instead of 178; a commitment of 0.25
        # draws each token to two codes before the dynamics have learnt to read them.
        quantizer=replace(QUANTIZER_PRESETS["authors"], ema_decay=0.97, restart_threshold=0.1),
        dynamics=DynamicsConfig(output="state", residual=True),
        continuous_steps=100,
    )


# The paper's 24 codes of 10 bits, each of a region of the picture: so it need not first find out what to look
# at, nor the dynamics where to put it.
PLACED = WorldModelConfig(
    tokens=TokenConfig(action_source="regions"),
    # Small batches: a slower average of each code's use; unused codes restart after 150 steps.
    quantizer=replace(QUANTIZER_PRESETS["authors"], ema_decay=0.985, restart_threshold=0.1),
    dynamics=DynamicsConfig(output="state", residual=True, conditioning="modulation", convolutions=3),
    continuous_steps=200,
)


def without_actions(recipe: PretrainRecipe, steps: int) -> PretrainRecipe:
    """The same training of dynamics that read no action."""
    train, model = replace(recipe.train, steps=steps), replace(recipe.model, use_action=False)
    return replace(recipe, train=train, model=model, stage="no-action")


PAPER = PretrainRecipe(
    TrainConfig(
        steps=16_000,  # 20 epochs of 200k pairs at batch 256 (authors' code)
        batch_size=256,
        learning_rate=1e-4,  # section 5.1; the authors' code has 1e-3
        warmup_steps=1_600,
        precision="bf16",
        validate_every=500,
    ),
    pairs=100_000,  # per corpus: 200k in all, as in the authors' code
)
MINI = PretrainRecipe(
    TrainConfig(
        steps=4200,
        batch_size=16,
        learning_rate=1e-3,
        warmup_steps=200,
        checkpoint_every=250,
        validate_every=300,
    ),
    short_side=128,
    views=4,
    picture_weight=0.5,
    model=PLACED,
)
MINI_1960 = PretrainRecipe(
    TrainConfig(
        steps=6000,
        batch_size=32,
        learning_rate=4e-3,
        warmup_steps=100,
        checkpoint_every=500,
        validate_every=500,
    ),
    short_side=128,
    views=2,
    model=high_rate(196),
    stage="world-model-1960",
)
SMOKE = PretrainRecipe(
    TrainConfig(steps=4, batch_size=8, learning_rate=1e-3), short_side=64, clips=4, views=1, model=PLACED
)
PRETRAIN = {
    "paper": PAPER,
    "paper-no-action": without_actions(PAPER, 4000),
    "mini": MINI,
    "mini-1960": MINI_1960,  # and the world model of Figures 4 and 5 at scale mini
    "mini-no-action": without_actions(MINI, 1500),
    "smoke": SMOKE,
    "smoke-high-rate": replace(SMOKE, model=high_rate(64), stage="world-model-1960"),
    "smoke-no-action": without_actions(SMOKE, 4),
}


def obtain_world(
    mae: MAERecipe, pretrain: PretrainRecipe, corpora: Corpora, artifacts: Artifacts, stop: Stop
) -> World:
    """The MAE and the world model of two recipes: released, cached, or trained now on `corpora`."""
    corpora = first_clips_of_each(corpora, pretrain.clips)
    inputs = training_manifests(corpora, pretrain)
    found = obtain_mae(mae, corpora, inputs, artifacts, stop)
    stage = world_model_stage(pretrain, found.model.config, {**inputs, "mae": found.digest})
    artifact = artifacts.obtain(stage, functools.partial(_pretrain, pretrain, found.model, corpora, stop))
    weights = artifact.path / WEIGHTS
    world_model = WorldModel.load(weights)
    return World(found.model, world_model, {"mae": found.sha256, "world-model": file_sha256(weights)})


def world_stage(mae: MAERecipe, pretrain: PretrainRecipe, corpora: Corpora) -> Stage:
    """Identity of what `obtain_world` trains last, the world model. Trains nothing."""
    inputs = training_manifests(first_clips_of_each(corpora, pretrain.clips), pretrain)
    config, digest = mae_identity(mae, inputs)
    return world_model_stage(pretrain, config, {**inputs, "mae": digest})


def training_manifests(corpora: Corpora, recipe: PairRecipe) -> dict[str, str]:
    """What a training on these corpora reads: the sha256 of each corpus's list of training pairs."""
    return {name: training_manifest(corpus, recipe).sha256 for name, corpus in corpora.items()}


def training_manifest(corpus: Corpus, recipe: PairRecipe) -> Manifest:
    """The frozen training pairs of one corpus."""
    return frozen_pairs(corpus, "train", recipe.gap, recipe.pairs, recipe.train.seed)


def world_model_stage(recipe: PretrainRecipe, mae: MAEConfig, inputs: Mapping[str, str]) -> Stage:
    """Identity of the pre-training; `inputs` are the training manifests and the MAE."""
    return Stage(recipe.stage, 2, {**asdict(recipe), "model": asdict(recipe.model.fitted(mae))}, inputs)


def _pretrain(
    recipe: PretrainRecipe, mae: MaskedAutoencoder, corpora: Corpora, stop: Stop, folder: Path
) -> None:
    world_model = WorldModel(recipe.model.fitted(mae.config), seed=recipe.train.seed)
    cached = recipe.views > 0
    source = cached_states(recipe, mae, corpora) if cached else live_video(recipe, mae, corpora)
    objective = LatentActionPrediction(
        world_model, None if cached else mae, decoder=mae, picture_weight=recipe.picture_weight
    )
    held_out = {name: held_out_states(recipe, mae, corpus) for name, corpus in corpora.items()}
    validate = watched(recipe, world_model, held_out)
    train(objective, source, recipe.train, folder / "run", validate=validate, name="world model", stop=stop)
    finish_training(world_model, folder, recipe)


def watched(
    recipe: PairRecipe, world_model: WorldModel, held_out: Mapping[str, list[Tensor]]
) -> Callable[[], dict[str, float]]:
    """The validation of a training: errors by `action_gap`, and a warning while the action is ignored."""
    validate = functools.partial(action_gaps, world_model, held_out, recipe.train.seed)
    if not world_model.config.use_action:
        return validate
    return ActionAlarm().watching(validate, lambda: int(world_model.step) / recipe.train.steps)


def cached_states(recipe: PairRecipe, mae: MaskedAutoencoder, corpora: Corpora) -> IndexSource:
    """Batches of state pairs whose states are all computed now: for frozen encoders and fixed crops."""
    banks = [load_frames(c, "train", recipe.short_side, gap=recipe.gap) for c in corpora.values()]
    states = torch.cat([view_states(recipe, mae, bank) for bank in banks], dim=1)  # (V, F, 1+N, D)
    starts = np.cumsum([0, *(len(bank.frames) for bank in banks[:-1])])
    pairs = torch.cat([bank.pairs + int(start) for bank, start in zip(banks, starts, strict=True)])
    load = state_pairs(states, pairs)
    return IndexSource(len(pairs), load, batch_size=recipe.train.batch_size, seed=recipe.train.seed)


def view_states(recipe: PairRecipe, mae: MaskedAutoencoder, bank: FrameBank) -> Tensor:
    """States (V, F, 1+N, D) of all frames in each of the recipe's views."""
    views = fixed_views(bank.frames, bank.clip, mae.config.image_size, recipe.views, recipe.train.seed)
    return torch.stack([encode_images(mae, view, name=f"view {i + 1}") for i, view in enumerate(views)])


class JoinedBatches:
    """Batches with an equal share of pairs from each of several sources."""

    def __init__(self, sources: Sequence[BatchSource]) -> None:
        self.sources = sources

    def batches(self, start_step: int, rank: int, world_size: int) -> Iterator[Tensor]:
        """Endless: the sources' batches of each step, one after the other."""
        streams = [source.batches(start_step, rank, world_size) for source in self.sources]
        for parts in zip(*streams, strict=True):
            yield torch.cat(parts)


def live_video(recipe: PairRecipe, mae: MaskedAutoencoder, corpora: Corpora) -> JoinedBatches:
    """Batches of image pairs (B, 2, 3, S, S) decoded on the fly, for corpora that fit in no memory."""
    share, rest = divmod(recipe.train.batch_size, len(corpora))
    if rest or recipe.train.accumulate > 1:
        raise UserError(
            f"batch_size {recipe.train.batch_size} must be a multiple of the {len(corpora)} corpora, "
            "and accumulate 1, for training on live video"
        )
    size = mae.config.image_size
    return JoinedBatches(
        [pair_stream(recipe, c, training_manifest(c, recipe), size, share) for c in corpora.values()]
    )


def pair_stream(
    recipe: PairRecipe, corpus: Corpus, manifest: Manifest, image_size: int, batch_size: int
) -> PairStream:
    """The pairs of a manifest in random crops, from a corpus's videos or from shards."""
    seed = recipe.train.seed
    workers = len(os.sched_getaffinity(0)) - 1  # where they run changes no batch
    if recipe.shards is None:
        side = recipe.short_side
        return video_stream(
            corpus, manifest, image_size, batch_size, short_side=side, seed=seed, workers=workers
        )
    folder = prepared_shards(recipe.shards, recipe.short_side, corpus, manifest)
    return shard_stream(folder, image_size, batch_size, seed=seed, workers=workers)


def prepared_shards(quality: int, short_side: int, corpus: Corpus, manifest: Manifest) -> Path:
    """The folder of a manifest's shards below UWM_SHARDS. UserError with the command that makes them."""
    root = shards_root()
    try:
        return find_shards(root, manifest, short_side, quality)
    except UserError as error:
        pairs = cache_root() / "manifests" / f"{corpus.name}-train-{manifest.sha256[:12]}.csv"
        pairs.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(manifest, pairs)
        raise UserError(
            f"{error}; set UWM_SHARDS, or make them: "
            f"python -m uwm.data.prepare {corpus.name}={corpus.folder} --manifest {pairs} "
            f"--size {short_side} --quality {quality} --out {root / corpus.name}"
        ) from None


def held_out_states(
    recipe: PairRecipe, mae: MaskedAutoencoder, corpus: Corpus, pairs: int = 256
) -> list[Tensor]:
    """State pairs of the validation split, in batches of 64."""
    manifest = frozen_pairs(corpus, "validation", recipe.gap, pairs, recipe.train.seed)
    size = mae.config.image_size
    images = center_crop(load_pairs(corpus, manifest, recipe.short_side), size, size)
    states = encode_images(mae, images.flatten(0, 1), name=f"{corpus.name} validation")
    return list(states.unflatten(0, (-1, 2)).split(64))


def action_gaps(world_model: WorldModel, held_out: Mapping[str, list[Tensor]], seed: int) -> dict[str, float]:
    """`action_gap` on held-out pairs of each corpus, as `<number>/<corpus>`."""
    result = {}
    for name, batches in held_out.items():
        gaps = action_gap(world_model, batches, torch.Generator().manual_seed(seed))
        result.update({f"{key}/{name}": value for key, value in gaps.items()})
    return result
