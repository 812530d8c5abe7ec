"""The pre-trained world of an experiment's config.

The same recipes give the same stage digests, so Table 1, Figure 4 and Figure 5 share one pre-training.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from uwm.data.corpora import Corpus, all_test, open_corpus
from uwm.data.manifest_cache import files_key
from uwm.data.selection import MANY_CLIPS, first_clips_of_each, quickly_listed
from uwm.models.world import World
from uwm.runs.artifacts import Artifact, NotThere, Stage
from uwm.runs.experiment import Context
from uwm.stages.mae import MAERecipe, ObtainedMAE, mae_identity, obtain_mae
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
    """A corpus by name: from the folder that --data gives it, or the bundled one. Opened once."""
    return context.once(("corpus", name), lambda: open_corpus(name, context.data.get(name)))


def table_corpora(corpora: Sequence[str], data: Mapping[str, Path]) -> tuple[str, ...]:
    """The corpora that a table has rows of: the config's `corpora`, then those of --data."""
    return (*corpora, *(name for name in data if name not in corpora))


def in_domain_corpus(context: Context, name: str, gap: float) -> Corpus:
    """A corpus by name, whose training pairs are `gap` seconds apart.

    Raises:
        NotThere: a plan asks (`find_only`), and listing these pairs would take long.
    """
    corpus = corpus_of(context, name)
    if context.artifacts.find_only and not quickly_listed(corpus, "train", gap, None, 0):
        raise NotThere(f"training pairs of {name}")
    return corpus


def zero_shot_corpus(context: Context, name: str) -> Corpus:
    """The same where it is only tested: of a user's corpus that nothing is trained on, every clip is."""
    config: Pretrained = context.config
    if name not in context.data or name in config.pretrain_on:
        return corpus_of(context, name)
    return context.once(("tested corpus", name), lambda: all_test(corpus_of(context, name)))


def obtain_pretrained(
    context: Context, recipe: PretrainRecipe | None = None, mae: MAERecipe | None = None
) -> World:
    """The MAE and a world model over it: released, cached, or trained now.

    `recipe`, `mae`: others than the config's, on the same corpora.
    """
    config: Pretrained = context.config
    found = obtain_pretrained_mae(context, mae)
    recipe = recipe or config.pretrain
    return obtain_world(found, recipe, _corpora(context), context.artifacts, context.stop)


def obtain_pretrained_mae(context: Context, mae: MAERecipe | None = None) -> ObtainedMAE:
    """That MAE alone, for what uses no pre-trained world model."""
    config: Pretrained = context.config
    corpora, inputs = _read_by_mae(context)
    return obtain_mae(mae or config.mae, corpora, inputs, context.artifacts, context.stop)


def pretrain_stage(
    context: Context, recipe: PretrainRecipe | None = None, mae: MAERecipe | None = None
) -> Stage:
    """Identity of that world model; trains nothing."""
    config: Pretrained = context.config
    found = mae_identity(mae or config.mae, _read_by_mae(context)[1])
    return world_stage(found, recipe or config.pretrain, _corpora(context))


def _read_by_mae(context: Context) -> tuple[dict[str, Corpus], dict[str, str]]:
    """The corpora whose frames the MAE is trained on, and the digests of their lists by the config's own
    recipe: recipes that differ from it share the MAE."""
    config: Pretrained = context.config
    corpora = first_clips_of_each(_corpora(context), config.pretrain.clips)
    return corpora, training_manifests(corpora, config.pretrain)


def manifests_stage(context: Context) -> Stage:
    """Identity of the lists of training pairs, by the corpora's files as they are. Opens none of them."""
    return context.once("manifests stage", lambda: _manifests_stage(context))


def _manifests_stage(context: Context) -> Stage:
    config: Pretrained = context.config
    recipe, corpora = config.pretrain, first_clips_of_each(_opened(context), config.pretrain.clips)
    fields = {"gap": recipe.gap, "pairs": recipe.pairs, "seed": recipe.train.seed}
    files = {name: files_key(corpus, "train", {}) for name, corpus in corpora.items()}
    return Stage("manifests", 1, {**fields, "pairs_per_visit": recipe.pairs_per_visit}, files)


def obtain_manifests(context: Context) -> Artifact:
    """The lists of training pairs, kept with all others; the artifact only names them."""

    def compute(folder: Path) -> None:
        config: Pretrained = context.config
        corpora = first_clips_of_each(_opened(context), config.pretrain.clips)
        found = training_manifests(corpora, config.pretrain)
        (folder / "manifests.json").write_text(json.dumps(found, indent=1) + "\n")

    return context.artifacts.obtain(manifests_stage(context), compute, together=False)


def _corpora(context: Context) -> dict[str, Corpus]:
    """The corpora of the pre-training.

    Raises:
        NotThere: a plan asks (`find_only`), and listing their pairs would take long.
    """
    found = _opened(context)
    if context.artifacts.find_only and any(len(corpus.of("train")) > MANY_CLIPS for corpus in found.values()):
        stage = manifests_stage(context)
        if context.artifacts.find(stage) is None:
            raise NotThere(stage.folder_name)
    return found


def _opened(context: Context) -> dict[str, Corpus]:
    config: Pretrained = context.config
    return {name: corpus_of(context, name) for name in config.pretrain_on}
