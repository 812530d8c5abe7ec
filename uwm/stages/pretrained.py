"""The pre-trained world of an experiment's config.

The same recipes give the same stage digests, so Table 1, Figure 4 and Figure 5 share one pre-training.
"""

from typing import Protocol

from uwm.data.corpora import Corpus, open_corpus
from uwm.data.selection import first_clips_of_each
from uwm.models.world import World
from uwm.runs.artifacts import Stage
from uwm.runs.experiment import Context, StageJob
from uwm.stages.mae import MAERecipe, ObtainedMAE, obtain_mae
from uwm.stages.pair_training import training_manifests
from uwm.stages.world_model import PretrainRecipe, obtain_world, world_stage


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


def zero_shot_corpus(context: Context, name: str) -> Corpus:
    """The same where it is only tested: of a user's corpus that nothing is trained on, every clip is."""
    config: Pretrained = context.config
    if name not in context.data or name in config.pretrain_on:
        return corpus_of(context, name)
    return open_corpus(name, context.data[name], splits="all-test")


def obtain_pretrained(context: Context, recipe: PretrainRecipe | None = None) -> World:
    """The MAE and a world model over it: released, cached, or trained now.

    `recipe`: another one than the config's, on the same corpora.
    """
    config: Pretrained = context.config
    recipe = recipe or config.pretrain
    return obtain_world(config.mae, recipe, _corpora(context), context.artifacts, context.stop)


def obtain_pretrained_mae(context: Context) -> ObtainedMAE:
    """That MAE alone, for what uses no pre-trained world model."""
    config: Pretrained = context.config
    corpora = first_clips_of_each(_corpora(context), config.pretrain.clips)
    inputs = training_manifests(corpora, config.pretrain)
    return obtain_mae(config.mae, corpora, inputs, context.artifacts, context.stop)


def pretrain_stage(context: Context) -> Stage:
    """Identity of that world model; trains nothing."""
    config: Pretrained = context.config
    return world_stage(config.mae, config.pretrain, _corpora(context))


def pretrain_job(cells: tuple[str, ...] = ("*",)) -> StageJob:
    """The pre-training as a job of its own on a cluster; `cells` read it themselves."""
    return StageJob("pretrain", obtain_pretrained, pretrain_stage, cells=cells)


def _corpora(context: Context) -> dict[str, Corpus]:
    config: Pretrained = context.config
    return {name: corpus_of(context, name) for name in config.pretrain_on}
