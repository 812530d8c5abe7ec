"""The pre-training that every experiment starts from: its recipes by scale, defined once, and its world.

The same recipes give the same stage digests, so Table 1, Figure 4 and Figure 5 share one pre-training.
"""

from typing import Protocol

from uwm.data.corpora import Corpus, open_corpus
from uwm.models import MaskedAutoencoder
from uwm.runs.artifacts import Stage
from uwm.runs.experiment import Context, StageJob
from uwm.stages import MAERecipe, PretrainRecipe, World, obtain_mae, obtain_world, world_stage
from uwm.training.loop import TrainConfig

MAE = {
    "paper": MAERecipe(),
    "mini": MAERecipe(
        preset="mini",
        file=None,
        train=TrainConfig(
            steps=1200,
            batch_size=64,
            learning_rate=6e-4,
            warmup_steps=50,
            checkpoint_every=100,
            validate_every=100,
        ),
        procedural=6000,
    ),
    "smoke": MAERecipe(
        preset="tiny", file=None, train=TrainConfig(steps=4, batch_size=8), procedural=16, short_side=64
    ),
}
PRETRAIN = {
    "paper": PretrainRecipe(
        train=TrainConfig(
            steps=16_000,  # 20 epochs of 200k pairs at batch 256 (authors' code)
            batch_size=256,
            learning_rate=1e-4,  # section 5.1; the authors' code has 1e-3
            warmup_steps=1_600,
            precision="bf16",
            validate_every=500,
        ),
        pairs=100_000,  # per corpus: 200k in all, as in the authors' code
    ),
    "mini": PretrainRecipe(
        preset="mini",
        train=TrainConfig(
            steps=6000,
            batch_size=32,
            learning_rate=4e-3,
            warmup_steps=100,
            checkpoint_every=500,
            validate_every=500,
        ),
        short_side=128,
        views=2,
    ),
    "smoke": PretrainRecipe(
        preset="mini",
        train=TrainConfig(steps=4, batch_size=8, learning_rate=1e-3),
        short_side=64,
        clips=4,
        views=1,
    ),
}


class Pretrained(Protocol):
    """The fields of an experiment's config that say what its world is trained on, and how."""

    @property
    def mae(self) -> MAERecipe: ...
    @property
    def pretrain(self) -> PretrainRecipe: ...
    @property
    def pretrain_on(self) -> tuple[str, ...]: ...


def corpus_of(context: Context, name: str) -> Corpus:
    """A corpus by name: from the folder that --data gives it, or the bundled one."""
    return open_corpus(name, context.data.get(name))


def obtain_pretrained(context: Context) -> World:
    """The MAE and the world model of the context's config: released, cached, or trained now."""
    config: Pretrained = context.config
    return obtain_world(config.mae, config.pretrain, _corpora(context), context.artifacts, context.stop)


def obtain_pretrained_mae(context: Context) -> tuple[MaskedAutoencoder, str]:
    """That MAE alone, for what uses no pre-trained world model, and the sha256 of its weights."""
    config: Pretrained = context.config
    found = obtain_mae(config.mae, config.pretrain, _corpora(context), context.artifacts, context.stop)
    return found[0], found[1]


def pretrain_stage(context: Context) -> Stage:
    """Identity of that world model; trains nothing."""
    config: Pretrained = context.config
    return world_stage(config.mae, config.pretrain, _corpora(context))


def pretrain_job() -> StageJob:
    """The pre-training as a job of its own on a cluster."""
    return StageJob("pretrain", obtain_pretrained, pretrain_stage)


def _corpora(context: Context) -> dict[str, Corpus]:
    config: Pretrained = context.config
    return {name: corpus_of(context, name) for name in config.pretrain_on}
