"""The trainings that every experiment starts from, as cached stages: the MAE, then the world model on top.

Table 1, Figure 4 and Figure 5 declare the same stages, so they share one pre-training.
"""

import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from uwm.data.corpora import SPLITS, Corpus
from uwm.data.manifest import Manifest, write_manifest
from uwm.data.manifest_cache import cached_manifest
from uwm.data.pairs import FrameBank, center_crop, load_frames, load_pairs
from uwm.data.procedural import procedural_images
from uwm.data.shards import find_shards, shard_stream
from uwm.data.stream import PairStream, video_stream
from uwm.errors import UserError
from uwm.metrics.image import psnr
from uwm.models import MAE_PRESETS, MAEConfig, MaskedAutoencoder, WorldModel, world_model_config
from uwm.models.mae_init import warm_start
from uwm.models.world_model import Preset
from uwm.runs.artifacts import Artifacts, Stage, cache_root
from uwm.training.batches import BatchSource, IndexSource
from uwm.training.loop import TrainConfig, train
from uwm.training.objectives import LatentActionPrediction, MaskedReconstruction, action_gap
from uwm.training.sources import cropped_images, encode_images, fixed_views, random_crops, state_pairs

WEIGHTS = "weights.safetensors"
Corpora = Mapping[str, Corpus]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class MAERecipe:
    """An MAE: a published checkpoint (`file`, found in UWM_WEIGHTS), or one trained here (`train`)."""

    preset: str = "base"
    file: str | None = "mae_visualize_vit_base.pth"  # authors' code; trained on pixels as they are
    train: TrainConfig | None = None
    mask_ratios: tuple[float, ...] = (0.75, 0.0)  # section 3 names one; 0 is how the world model uses it
    spectrum_power: float = 0.5  # of the PCA start, see `warm_start`
    token_scale: float = 0.5  # the same
    procedural: int = 0  # procedural images beside the corpora's frames, so that new pictures decode too
    short_side: int = 128  # of the frames, before the random crop


@dataclass(frozen=True)
class PretrainRecipe:
    """Pre-training of the world model (section 4.1)."""

    preset: Preset = "paper"
    train: TrainConfig = TrainConfig(steps=1, batch_size=1)
    short_side: int = 256  # the frames' shorter side, before the random crop
    gap: float = 0.2  # seconds between the frames of a pair (section 5.1)
    pairs: int | None = None  # training pairs per corpus; None: every pair there is
    clips: int | None = None  # per corpus and split; None: every clip there is
    views: int = 0  # crops per clip whose states are computed once; 0: crop and encode anew at every step
    # Read pairs from shards of this JPEG quality (0: raw) below the folder UWM_SHARDS; None: from the videos.
    shards: int | None = None


def thinned_curve(log: Path, rows: int = 200) -> pd.DataFrame:
    """A training log as a table of about `rows` rows, each the mean over as many steps."""
    lines = pd.DataFrame([json.loads(line) for line in log.read_text().splitlines()])
    by_step = lines.groupby("step").first()  # a step's own row and its validation row
    bins = np.ceil(by_step.index / max(1, len(by_step) / rows)).astype(int)
    return by_step.reset_index().groupby(bins).mean().reset_index(drop=True).round(6)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class World:
    """A frozen MAE and a world model over its states, with what a record must say of their weights."""

    def __init__(self, mae: MaskedAutoencoder, world_model: WorldModel, weights: Mapping[str, str]) -> None:
        self.mae, self.world_model = mae, world_model
        self.weights = dict(weights)  # sha256 of the weights files, by model

    @property
    def image_size(self) -> int:
        """Side of the square images, in pixels."""
        return self.mae.config.image_size

    def to(self, device: torch.device) -> Self:
        self.mae.to(device)
        self.world_model.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return self.mae.mean.device

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """uint8 images (B, ..., 3, S, S), on any device -> states (B, ..., 1+N, D) on the model's."""
        flat = images.flatten(0, -4).to(self.device).float() / 255
        return self.mae.encode(flat).unflatten(0, images.shape[:-3])


def obtain_world(
    mae: MAERecipe, pretrain: PretrainRecipe, corpora: Corpora, artifacts: Artifacts, stop: Stop
) -> World:
    """The MAE and the world model of two recipes: released, cached, or trained now on `corpora`."""
    autoencoder, mae_sha256, mae_digest = obtain_mae(mae, pretrain, corpora, artifacts, stop)
    corpora = first_clips_of_each(corpora, pretrain.clips)
    inputs = training_manifests(corpora, pretrain)
    stage = world_model_stage(pretrain, autoencoder.config, {**inputs, "mae": mae_digest})
    artifact = artifacts.obtain(stage, functools.partial(_pretrain, pretrain, autoencoder, corpora, stop))
    weights = artifact.path / WEIGHTS
    world_model = WorldModel.load(weights)
    return World(autoencoder, world_model, {"mae": mae_sha256, "world-model": sha256_of(weights)})


def world_stage(mae: MAERecipe, pretrain: PretrainRecipe, corpora: Corpora) -> Stage:
    """Identity of what `obtain_world` trains last, the world model. Trains nothing."""
    inputs = training_manifests(first_clips_of_each(corpora, pretrain.clips), pretrain)
    if mae.train is None:
        path = published_mae(mae)
        config, digest = MaskedAutoencoder.load(path).config, sha256_of(path)
    else:
        config, digest = MAE_PRESETS[mae.preset], mae_stage(mae, inputs).digest
    return world_model_stage(pretrain, config, {**inputs, "mae": digest})


def first_clips_of_each(corpora: Corpora, clips: int | None) -> dict[str, Corpus]:
    return {name: first_clips(corpus, clips) for name, corpus in corpora.items()}


def first_clips(corpus: Corpus, clips: int | None) -> Corpus:
    """The corpus with at most so many clips in each split."""
    if clips is None:
        return corpus
    chosen = [clip for split in SPLITS for clip in [c for c in corpus.clips if c.split == split][:clips]]
    return replace(corpus, clips=tuple(chosen))


def training_manifests(corpora: Corpora, recipe: PretrainRecipe) -> dict[str, str]:
    """What a training on these corpora reads: the sha256 of each corpus's list of training pairs."""
    return {name: training_manifest(corpus, recipe).sha256 for name, corpus in corpora.items()}


def training_manifest(corpus: Corpus, recipe: PretrainRecipe) -> Manifest:
    """The frozen training pairs of one corpus."""
    return frozen_pairs(corpus, "train", recipe.gap, recipe.pairs, recipe.train.seed)


@functools.lru_cache(maxsize=32)
def frozen_pairs(corpus: Corpus, split: str, gap: float, pairs: int | None, seed: int) -> Manifest:
    """The pair list of a split: made once for the same files, for that opens each. Names bad clips."""
    cache = cache_root() / "manifests"
    manifest = cached_manifest(cache, corpus, split, gap=gap, pairs=pairs, seed=seed)
    for file, reason in manifest.skipped:
        print(f"skipped {corpus.name} ({split}): {file}: {reason}", file=sys.stderr)
    return manifest


# The MAE


def obtain_mae(
    recipe: MAERecipe, pretrain: PretrainRecipe, corpora: Corpora, artifacts: Artifacts, stop: Stop
) -> tuple[MaskedAutoencoder, str, str]:
    """The MAE, the sha256 of its weights, and what names it in other digests.

    It is trained on what the world model is: `pretrain` says which clips of the corpora.
    """
    if recipe.train is None:
        path = published_mae(recipe)
        sha256 = sha256_of(path)
        return MaskedAutoencoder.load(path), sha256, sha256
    corpora = first_clips_of_each(corpora, pretrain.clips)
    stage = mae_stage(recipe, training_manifests(corpora, pretrain))
    artifact = artifacts.obtain(stage, functools.partial(_train_mae, recipe, corpora, stop))
    weights = artifact.path / WEIGHTS
    return MaskedAutoencoder.load(weights), sha256_of(weights), stage.digest


def published_mae(recipe: MAERecipe) -> Path:
    """The checkpoint file of the recipe in UWM_WEIGHTS. UserError with the place to get it when absent."""
    path = Path(os.environ.get("UWM_WEIGHTS", ".")) / str(recipe.file)
    if not path.exists():
        raise UserError(
            f"{path}: no such MAE checkpoint; download {recipe.file} from "
            "https://dl.fbaipublicfiles.com/mae/visualize/ and set UWM_WEIGHTS to its folder"
        )
    return path


def mae_stage(recipe: MAERecipe, inputs: Mapping[str, str]) -> Stage:
    """Identity of the MAE's training; `inputs` are the training manifests."""
    return Stage("mae", 1, {**asdict(recipe), "model": asdict(MAE_PRESETS[recipe.preset])}, inputs)


def _train_mae(recipe: MAERecipe, corpora: Corpora, stop: Stop, folder: Path) -> None:
    assert recipe.train is not None
    mae = MaskedAutoencoder(MAE_PRESETS[recipe.preset], seed=recipe.train.seed)
    size, seed = mae.config.image_size, recipe.train.seed
    images = torch.cat([load_square_frames(c, "train", recipe.short_side) for c in corpora.values()])
    if recipe.procedural:
        made = procedural_images(recipe.procedural, recipe.short_side, seed)
        images = torch.cat([images, torch.as_tensor(made)])
    generator = torch.Generator().manual_seed(seed)
    sample = images[torch.randperm(len(images), generator=generator)[:1024]]
    crops = random_crops(sample, size, generator).float() / 255
    warm_start(mae, crops, spectrum_power=recipe.spectrum_power, token_scale=recipe.token_scale)
    held_out = {name: _held_out_frames(recipe, size, corpus) for name, corpus in corpora.items()}
    load = cropped_images(images, size)
    source = IndexSource(len(images), load, batch_size=recipe.train.batch_size, seed=seed)
    objective = MaskedReconstruction(mae, recipe.mask_ratios)
    validate = functools.partial(reconstruction_psnr, mae, held_out)
    train(objective, source, recipe.train, folder / "run", validate=validate, name="MAE", stop=stop)
    finish_training(mae, folder, recipe)


def load_square_frames(corpus: Corpus, split: str, side: int) -> Tensor:
    """The middle square of every frame of a split, `side` pixels wide: uint8 (F, 3, side, side)."""
    return center_crop(load_frames(corpus, split, side).frames, side, side)


def _held_out_frames(recipe: MAERecipe, size: int, corpus: Corpus, every: int = 7) -> Tensor:
    frames = load_square_frames(corpus, "validation", recipe.short_side)[::every]
    return center_crop(frames, size, size)


@torch.no_grad()
def reconstruction_psnr(mae: MaskedAutoencoder, held_out: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean PSNR (dB) of the unmasked reconstruction of uint8 frames (F, 3, S, S), by name."""
    result = {}
    for name, frames in held_out.items():
        batches = (batch.to(mae.mean.device).float() / 255 for batch in frames.split(64))
        values = torch.cat([psnr(mae.decode(mae.encode(batch)), batch) for batch in batches])
        result[f"psnr/{name}"] = float(values.mean())
    return result


# The world model


def world_model_stage(recipe: PretrainRecipe, mae: MAEConfig, inputs: Mapping[str, str]) -> Stage:
    """Identity of the pre-training; `inputs` are the training manifests and the MAE."""
    return Stage(
        "world-model", 1, {**asdict(recipe), "model": asdict(world_model_config(recipe.preset, mae))}, inputs
    )


def _pretrain(
    recipe: PretrainRecipe, mae: MaskedAutoencoder, corpora: Corpora, stop: Stop, folder: Path
) -> None:
    world_model = WorldModel(world_model_config(recipe.preset, mae.config), seed=recipe.train.seed)
    cached = recipe.views > 0
    source = cached_states(recipe, mae, corpora) if cached else live_video(recipe, mae, corpora)
    objective = LatentActionPrediction(world_model, None if cached else mae)
    held_out = {name: held_out_states(recipe, mae, corpus) for name, corpus in corpora.items()}
    validate = functools.partial(action_gaps, world_model, held_out, recipe.train.seed)
    train(objective, source, recipe.train, folder / "run", validate=validate, name="world model", stop=stop)
    finish_training(world_model, folder, recipe)


def cached_states(recipe: PretrainRecipe, mae: MaskedAutoencoder, corpora: Corpora) -> IndexSource:
    """Batches of state pairs whose states are all computed now: for frozen encoders and fixed crops."""
    banks = [load_frames(c, "train", recipe.short_side, gap=recipe.gap) for c in corpora.values()]
    states = torch.cat([view_states(recipe, mae, bank) for bank in banks], dim=1)  # (V, F, 1+N, D)
    starts = np.cumsum([0, *(len(bank.frames) for bank in banks[:-1])])
    pairs = torch.cat([bank.pairs + int(start) for bank, start in zip(banks, starts, strict=True)])
    load = state_pairs(states, pairs)
    return IndexSource(len(pairs), load, batch_size=recipe.train.batch_size, seed=recipe.train.seed)


def view_states(recipe: PretrainRecipe, mae: MaskedAutoencoder, bank: FrameBank) -> Tensor:
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


def live_video(recipe: PretrainRecipe, mae: MaskedAutoencoder, corpora: Corpora) -> JoinedBatches:
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
    recipe: PretrainRecipe, corpus: Corpus, manifest: Manifest, image_size: int, batch_size: int
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
    root = Path(os.environ.get("UWM_SHARDS", "shards"))
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
    recipe: PretrainRecipe, mae: MaskedAutoencoder, corpus: Corpus, pairs: int = 256
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


def finish_training(model: MaskedAutoencoder | WorldModel, folder: Path, recipe: Any) -> None:
    """Leave the weights, in half precision, and the curve."""
    curve = thinned_curve(folder / "run" / "log.jsonl")
    curve.to_csv(folder / "curve.csv", index=False, lineterminator="\n")
    model.cpu().save(folder / WEIGHTS, dtype=torch.float16, card={"recipe": asdict(recipe)})
