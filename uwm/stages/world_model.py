"""Pre-training of the world model (section 4.1) as a cached stage."""

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from uwm.bounds import Bounded, Names, NotNegative, OutOfBounds, Range, later
from uwm.data.procedural_video import PROCEDURAL, PROCEDURAL_VERSION
from uwm.data.selection import Corpora, first_clips_of_each
from uwm.metrics.perceptual import LPIPS, ProtocolName, published_lpips
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
from uwm.runs.settings import identity_fields, with_settings
from uwm.stages.mae import ObtainedMAE
from uwm.stages.pair_training import (
    PairRecipe,
    cached_states,
    check_trained,
    chosen,
    held_out_states,
    live_video,
    training_manifests,
    watched,
)
from uwm.stages.stand_ins import telling_stand_ins
from uwm.stages.trained import WEIGHTS, ShouldStop, finish_training
from uwm.training.distributed import default_device
from uwm.training.loop import TrainConfig, train
from uwm.training.objectives import LatentActionPrediction, PictureLoss


@dataclass(frozen=True)
class PerceptualRecipe(Bounded):
    """How the pre-training goes on once the states are learnt: with LPIPS of the shown picture in its loss.

    The state's error alone leaves what moves blurred, for it is smallest at the mean of what may come.
    """

    weight: NotNegative = 0.0  # of LPIPS; 0: there is no such training
    lpips: ProtocolName = "squeeze"  # another network than the one that measures
    train: TrainConfig = TrainConfig(steps=1000, batch_size=256, learning_rate=5e-5, warmup_steps=50)


@dataclass(frozen=True)
class PretrainRecipe(PairRecipe):
    """Pre-training of the world model (section 4.1)."""

    model: WorldModelConfig = WORLD_MODEL_PRESETS["paper"]  # its sizes of None are those of the MAE
    stage: str = "world-model"  # what the training is called among a run's stages and curves
    perceptual: PerceptualRecipe = later(PerceptualRecipe())
    # What it is trained on: some of the pre-training's corpora, and `procedural`; (): all of
    # the corpora. The MAE is that of all corpora, and all are watched.
    sources: Names = later(())
    # Of procedural video, where it is a source.
    procedural_pairs: Annotated[int, Range(1, 50_000)] = later(6000)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_trained(self.perceptual.lpips)
        if self.views and self.pairs is not None:
            raise OutOfBounds(
                f"pairs must be none where views are computed once (views={self.views}), since these hold "
                f"every pair of the clips, not {self.pairs}; set clips, or views=0"
            )
        if PROCEDURAL in self.sources and not self.views:
            raise OutOfBounds(
                f"sources: the states of {PROCEDURAL} video are computed once, before the training: "
                "set views to 1 or more"
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
    return replace(recipe, train=train, model=model, stage="no-action", perceptual=PerceptualRecipe())


# The paper's networks, with what makes their actions matter: as the text has them these are ignored at mini
# size (results/mini/ablations: `paper` and `paper-regions-modulation`).
ACTION_USED = replace(
    WORLD_MODEL_PRESETS["paper"],
    tokens=TokenConfig(action_source="regions"),
    dynamics=DynamicsConfig(conditioning="modulation"),
)
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
    # A GPU trains on more pairs a second (results/bench) than cores decode of long videos (make bench).
    shards=90,
    model=ACTION_USED,
)
# One GPU of 24 GB: the paper's networks and batch, on a part of one corpus (see `python -m uwm.cost`).
SMALL = replace(
    PAPER,
    train=replace(PAPER.train, steps=8_000, warmup_steps=800),  # 20 epochs, as at scale paper
    clips=20_000,  # the first ones of each split
)
MINI = PretrainRecipe(
    TrainConfig(
        steps=8000,
        batch_size=128,
        learning_rate=2e-3,
        warmup_steps=200,
        checkpoint_every=500,
        validate_every=500,
    ),
    short_side=128,
    views=4,
    picture_weight=0.5,
    model=PLACED,
    perceptual=PerceptualRecipe(
        weight=1.0,
        train=TrainConfig(
            steps=3000,
            batch_size=64,
            learning_rate=5e-4,
            warmup_steps=100,
            checkpoint_every=500,
            validate_every=500,
        ),
    ),
)
# Without actions there is less to learn.
SMALL_BATCHES = TrainConfig(
    steps=3000,
    batch_size=16,
    learning_rate=1e-3,
    warmup_steps=200,
    checkpoint_every=250,
    validate_every=300,
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
# Far fewer pairs than MINI sees: what variations of it are compared by.
MINI_SHORT = replace(
    MINI,
    train=replace(SMALL_BATCHES, steps=400, warmup_steps=80, checkpoint_every=200, validate_every=200),
    views=1,  # one crop of each clip has more pairs than 400 steps draw
    model=replace(MINI.model, continuous_steps=100),
    perceptual=PerceptualRecipe(),
)
# What families of latent actions are compared by.
MINI_FAMILIES = replace(MINI_SHORT, train=replace(MINI_SHORT.train, steps=1200), views=4)
SMOKE = PretrainRecipe(
    TrainConfig(steps=4, batch_size=8, learning_rate=1e-3), short_side=64, clips=4, views=1, model=PLACED
)
PRETRAIN = {
    "paper": PAPER,
    "paper-no-action": without_actions(PAPER, 4000),
    "small": SMALL,
    "small-no-action": without_actions(SMALL, 2000),
    "mini": MINI,
    "mini-short": MINI_SHORT,
    "mini-families": MINI_FAMILIES,
    "mini-1960": MINI_1960,  # of Table 1's `uwm-1960`
    "mini-no-action": without_actions(replace(MINI, train=SMALL_BATCHES), 3000),
    "smoke": SMOKE,
    "smoke-high-rate": replace(SMOKE, model=high_rate(64), stage="world-model-1960"),
    "smoke-no-action": without_actions(SMOKE, 4),
}


def varied(base: PretrainRecipe, preset: str | None, settings: Iterable[str]) -> PretrainRecipe:
    """The base recipe with the model of a preset, if one is named, and other values: `field=value` each."""
    if preset:
        base = replace(base, model=WORLD_MODEL_PRESETS[preset])
    return with_settings(base, settings)


def obtain_world(
    mae: ObtainedMAE, pretrain: PretrainRecipe, corpora: Corpora, artifacts: Artifacts, stop: ShouldStop
) -> World:
    """The world model of a recipe over an MAE, on its device: released, cached, or trained on `corpora`."""
    corpora = first_clips_of_each(corpora, pretrain.clips)
    inputs = training_manifests(corpora, pretrain)
    stage = world_model_stage(pretrain, mae.model.config, {**inputs, "mae": mae.digest})
    compute: Callable[[Path], None]
    if pretrain.perceptual.weight:
        compute = functools.partial(_train_perceptually, mae, pretrain, corpora, artifacts, stop)
    else:
        compute = functools.partial(_pretrain, pretrain, mae.model, corpora, stop)
    artifact = artifacts.obtain(stage, compute)
    weights = artifact.path / WEIGHTS
    world_model = WorldModel.load(weights).to(default_device())
    return World(mae.model, world_model, {"mae": mae.sha256, "world-model": file_sha256(weights)})


def world_stage(mae: tuple[MAEConfig, str], pretrain: PretrainRecipe, corpora: Corpora) -> Stage:
    """Identity of what `obtain_world` trains, over an MAE of such sizes and digest. Trains nothing."""
    inputs = training_manifests(first_clips_of_each(corpora, pretrain.clips), pretrain)
    return world_model_stage(pretrain, mae[0], {**inputs, "mae": mae[1]})


def world_model_stage(recipe: PretrainRecipe, mae: MAEConfig, inputs: Mapping[str, str]) -> Stage:
    """Identity of the pre-training; `inputs` are the training manifests and the MAE."""
    if PROCEDURAL in recipe.sources:
        inputs = {**inputs, PROCEDURAL: PROCEDURAL_VERSION}
    model = identity_fields(recipe.model.fitted(mae))
    return Stage(recipe.stage, 2, {**identity_fields(recipe), "model": model}, inputs)


def _pretrain(
    recipe: PretrainRecipe, mae: MaskedAutoencoder, corpora: Corpora, stop: ShouldStop, folder: Path
) -> None:
    world_model = WorldModel(recipe.model.fitted(mae.config), seed=recipe.train.seed)
    _train(recipe, World(mae, world_model, {}), corpora, stop, folder)


def _train_perceptually(
    mae: ObtainedMAE,
    recipe: PretrainRecipe,
    corpora: Corpora,
    artifacts: Artifacts,
    stop: ShouldStop,
    folder: Path,
) -> None:
    """Go on where the same recipe without `perceptual` ends."""
    network = published_lpips(recipe.perceptual.lpips)  # before hours of training
    plain = replace(recipe, perceptual=PerceptualRecipe())
    world = obtain_world(mae, plain, corpora, artifacts, stop)
    _train(recipe, world, corpora, stop, folder, network)


def _train(
    recipe: PretrainRecipe,
    world: World,
    corpora: Corpora,
    stop: ShouldStop,
    folder: Path,
    network: LPIPS | None = None,
) -> None:
    """Train a world's model; by `recipe.perceptual` where there is a `network`."""
    further = replace(recipe.perceptual.train, seed=recipe.train.seed)
    now = replace(recipe, train=further) if network else recipe
    mae, world_model = world.mae, world.world_model.train().requires_grad_(True)
    cached = now.views > 0
    read, drawn = chosen(now.sources, corpora), now.procedural_pairs if PROCEDURAL in now.sources else 0
    source = cached_states(now, mae, read, drawn) if cached else live_video(now, mae, read)
    picture = PictureLoss(mae, now.picture_weight, network, now.perceptual.weight)
    objective = LatentActionPrediction(world_model, None if cached else mae, picture)
    validate = watched(now, world_model, held_out_states(now, mae, corpora))
    with telling_stand_ins(source, folder / "run"):
        train(objective, source, now.train, folder / "run", validate=validate, name="world model", stop=stop)
    finish_training(world_model, folder, recipe)
