"""Training on frame pairs of one domain as a cached stage: fine-tuning, or from scratch on the same pairs.

Section 4.2: "fine-tune the generic world model with a small bunch of domain-specific data". The MAE stays as
it is; the world model goes on with a fresh optimiser, or starts anew on the same pairs.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from uwm.bounds import Count, NotNegative, OutOfBounds, later
from uwm.data.corpora import Corpus
from uwm.data.manifest import Manifest
from uwm.data.pairs import load_frames
from uwm.data.selection import first_clips, frozen_pairs, needed_frames, nested_pairs
from uwm.data.states import FrozenEncoder
from uwm.metrics.perceptual import ProtocolName, published_lpips
from uwm.models import MaskedAutoencoder, WorldModel
from uwm.models.world import World, encode_images_by
from uwm.runs.artifacts import Stage
from uwm.runs.experiment import Context, SkipCell
from uwm.runs.record import file_sha256
from uwm.runs.settings import identity_fields
from uwm.stages.mae import MAERecipe, ObtainedMAE
from uwm.stages.pair_training import (
    LiveBatches,
    PairRecipe,
    bank_view_states,
    check_trained,
    held_out_states,
    pair_stream,
    watched,
)
from uwm.stages.pretrained import obtain_pretrained, obtain_pretrained_mae, pretrain_stage
from uwm.stages.stand_ins import telling_stand_ins
from uwm.stages.trained import WEIGHTS, finish_training
from uwm.stages.world_model import PretrainRecipe
from uwm.training.batches import BatchSource, IndexSource
from uwm.training.distributed import default_device
from uwm.training.loop import TrainConfig, train
from uwm.training.objectives import LatentActionPrediction, PictureLoss
from uwm.training.sources import state_pairs

# What stays as it is for each choice of `trained`.
FROZEN: Mapping[str, tuple[str, ...]] = {
    "all": (),
    "no-codebook": ("quantizer",),
    "dynamics": ("extractor", "quantizer"),
}


@dataclass(frozen=True)
class FinetuneRecipe(PairRecipe):
    """Training of the pre-training's network on one domain."""

    start: Literal["pretrained", "scratch"] = "pretrained"
    trained: Literal["all", "no-codebook", "dynamics"] = "all"
    pairs: Count | None = 2000  # section 5.2; None: every pair there is
    perceptual_weight: NotNegative = later(0.0)  # of LPIPS of the shown picture, as PerceptualRecipe has it
    perceptual_lpips: ProtocolName = later("squeeze")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_trained(self.perceptual_lpips)
        if self.pairs_per_visit != 1:
            raise OutOfBounds(f"pairs_per_visit is the pre-training's: 1 here, not {self.pairs_per_visit}")


# Of a small scale: 240 clips have 10,000 pairs, whose frames' states take 4 GB of memory.
SMALL_CLIPS = 240

# The paper gives no setting. One for all starts and numbers of pairs, but for the steps (see figure4.py).
FINETUNE = {
    "paper": FinetuneRecipe(
        train=TrainConfig(
            steps=1000,
            batch_size=256,
            learning_rate=1e-4,  # section 5.1
            warmup_steps=100,
            precision="bf16",
            validate_every=250,
        ),
    ),
    "small": FinetuneRecipe(
        train=TrainConfig(
            steps=1000,
            batch_size=128,
            learning_rate=1e-4,
            warmup_steps=100,
            precision="bf16",
            validate_every=250,
        ),
        clips=SMALL_CLIPS,
        views=1,
    ),
    "mini": FinetuneRecipe(
        train=TrainConfig(
            steps=1200,
            batch_size=16,
            learning_rate=1e-3,  # after 400 steps, on validation pairs, 5e-4 was no better
            warmup_steps=30,
            checkpoint_every=100,
            validate_every=100,
        ),
        short_side=128,
        views=1,
        # As the pre-training ended; without it the picture gets blurred again.
        picture_weight=0.5,
        perceptual_weight=1.0,
    ),
    "smoke": FinetuneRecipe(
        train=TrainConfig(steps=3, batch_size=4, learning_rate=1e-3),
        short_side=64,
        clips=4,
        views=1,
        pairs=8,
    ),
}


def available_pairs(recipe: FinetuneRecipe, corpus: Corpus) -> Manifest:
    """All pairs of a corpus that the recipe may choose from."""
    return frozen_pairs(first_clips(corpus, recipe.clips), "train", recipe.gap, None, 0)


def skip_where_few(recipe: FinetuneRecipe, corpus: Corpus, field: str) -> None:
    """SkipCell where a recipe wants more training pairs than there are: `field` is to be lowered."""
    there = len(available_pairs(recipe, corpus).table)
    if recipe.pairs is not None and recipe.pairs > there:
        raise SkipCell(f"{corpus.name} has {there} training pairs, fewer than {recipe.pairs}: lower {field}")


def finetuning_pairs(recipe: FinetuneRecipe, corpus: Corpus) -> Manifest:
    """The pairs that the recipe trains on: another draw for another seed."""
    return nested_pairs(available_pairs(recipe, corpus), recipe.pairs, recipe.train.seed)


@dataclass(frozen=True)
class Domain:
    """A robot's domain: its corpus, and the world model that stands in it, fine-tuned by `recipe`.

    Without a recipe the world model is the pre-trained one. `pretrain`, `by_mae`: recipes of the pre-training
    and of the MAE other than the config's.
    """

    context: Context
    corpus: Corpus
    recipe: FinetuneRecipe | None
    pretrain: PretrainRecipe | None = None
    by_mae: MAERecipe | None = None

    def pretrained(self) -> World:
        """MAE and world model as they were pre-trained, loaded anew: released, cached, or trained now."""
        return obtain_pretrained(self.context, self.pretrain, self.by_mae)

    @cached_property
    def world(self) -> World:
        """The same after the fine-tuning."""
        return self.pretrained() if self.recipe is None else finetune(self, self.recipe)

    @cached_property
    def pretrained_stage(self) -> Stage:
        """Identity of the pre-trained world model; trains nothing."""
        return pretrain_stage(self.context, self.pretrain, self.by_mae)

    @cached_property
    def stage(self) -> Stage:
        """Identity of the world model; trains nothing."""
        return self.pretrained_stage if self.recipe is None else finetune_stage(self, self.recipe)

    @cached_property
    def mae(self) -> ObtainedMAE:
        """The MAE alone: what reads states needs no world model."""
        return obtain_pretrained_mae(self.context, self.by_mae)

    @property
    def encoder(self) -> FrozenEncoder:
        """The MAE's encoder."""
        mae, sha256, _ = self.mae
        return FrozenEncoder(sha256, mae.config.image_size, functools.partial(encode_images_by, mae))


def finetune_stage(domain: Domain, recipe: FinetuneRecipe) -> Stage:
    """Identity of a training in a domain; trains nothing."""
    parent = domain.pretrained_stage
    pairs = finetuning_pairs(recipe, domain.corpus)
    inputs = {domain.corpus.name: pairs.sha256, "mae": parent.inputs["mae"]}
    if recipe.start == "pretrained":
        inputs["world-model"] = parent.digest
    return Stage("finetune", 2, {**identity_fields(recipe), "model": parent.fields["model"]}, inputs)


def finetune(domain: Domain, recipe: FinetuneRecipe) -> World:
    """The domain's world model by the recipe, cached or trained now, with the MAE that all share."""
    mae, sha256, _ = obtain_pretrained_mae(domain.context, domain.by_mae)
    compute = functools.partial(_finetune, domain, recipe, mae)
    artifact = domain.context.artifacts.obtain(finetune_stage(domain, recipe), compute)
    weights = artifact.path / WEIGHTS
    world_model = WorldModel.load(weights).to(default_device())
    return World(mae, world_model, {"mae": sha256, "world-model": file_sha256(weights)})


class PartialTraining(LatentActionPrediction):
    """Trains a world model but for the parts named in `kept`, which stay as they are, bit for bit.

    They are kept in eval mode too: otherwise the codebook would restart codes, and the extractor's running
    statistics would move.
    """

    def __init__(
        self,
        world_model: WorldModel,
        mae: MaskedAutoencoder | None,
        kept: tuple[str, ...],
        picture: PictureLoss | None = None,
    ) -> None:
        super().__init__(world_model, mae, picture)
        self.kept = kept
        for part in kept:
            world_model.get_submodule(part).requires_grad_(False)

    def train(self, mode: bool = True) -> "PartialTraining":
        super().train(mode)
        for part in self.kept:
            self.world_model.get_submodule(part).eval()
        return self


def _finetune(domain: Domain, recipe: FinetuneRecipe, mae: MaskedAutoencoder, folder: Path) -> None:
    corpus = first_clips(domain.corpus, recipe.clips)
    lpips, weight = recipe.perceptual_lpips, recipe.perceptual_weight
    network = published_lpips(lpips) if weight else None
    picture = PictureLoss(mae, recipe.picture_weight, network, weight)
    manifest = finetuning_pairs(recipe, corpus)
    world_model = _start(domain, recipe, mae)
    cached = recipe.views > 0
    source: BatchSource
    if cached:
        source = chosen_states(recipe, mae, corpus, manifest)
    else:
        stream = pair_stream(recipe, corpus, manifest, mae.config.image_size, recipe.train.batch_size)
        source = LiveBatches({corpus.name: stream})
    objective = PartialTraining(world_model, None if cached else mae, FROZEN[recipe.trained], picture)
    validate = watched(recipe, world_model, held_out_states(recipe, mae, {corpus.name: corpus}))
    with telling_stand_ins(source, folder / "run"):
        train(
            objective,
            source,
            recipe.train,
            folder / "run",
            validate=validate,
            name=f"fine-tuning ({recipe.start})",
            stop=domain.context.stop,
        )
    finish_training(world_model, folder, recipe)


def _start(domain: Domain, recipe: FinetuneRecipe, mae: MaskedAutoencoder) -> WorldModel:
    """The world model before the first step."""
    if recipe.start == "scratch":
        pretrain: PretrainRecipe = domain.pretrain or domain.context.config.pretrain
        return WorldModel(pretrain.model.fitted(mae.config), seed=recipe.train.seed)
    world_model = domain.pretrained().world_model
    # The codebook is there: no steps without it.
    world_model.step.clamp_(min=world_model.config.continuous_steps)
    return world_model


def chosen_states(
    recipe: PairRecipe, mae: MaskedAutoencoder, corpus: Corpus, manifest: Manifest
) -> IndexSource:
    """Batches of the manifest's pairs as states that are computed once, of the frames that they need."""
    videos = set(manifest.table["video"])
    used = replace(corpus, clips=tuple(clip for clip in corpus.clips if clip.path in videos))
    bank = load_frames(used, "train", recipe.short_side, gap=recipe.gap)
    bank, pairs = needed_frames(bank, manifest)
    states = bank_view_states(recipe, mae, bank)
    load = state_pairs(states, pairs)
    return IndexSource(len(pairs), load, batch_size=recipe.train.batch_size, seed=recipe.train.seed)
