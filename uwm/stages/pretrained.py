"""The pre-trained world of an experiment's config.

The same recipes give the same stage digests, so Table 1, Figure 4 and Figure 5 share one pre-training.
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

from uwm.data.corpora import Corpus, all_test, open_corpus
from uwm.data.manifest_cache import files_key
from uwm.data.selection import MANY_CLIPS, first_clips, first_clips_of_each, quickly_listed
from uwm.models.world import World
from uwm.runs.artifacts import Artifact, NotThere, Stage
from uwm.runs.experiment import Context
from uwm.stages.mae import MAERecipe, ObtainedMAE, mae_identity, obtain_mae
from uwm.stages.pair_training import held_out_pairs, pair_lists, training_manifests
from uwm.stages.world_model import PretrainRecipe, obtain_world, world_stage

Recipes: TypeAlias = Sequence[PretrainRecipe]


class Pretrained(Protocol):
    """The fields of an experiment's config that say what its world is trained on, and how."""

    @property
    def mae(self) -> MAERecipe: ...
    @property
    def pretrain(self) -> PretrainRecipe: ...
    @property
    def pretrain_on(self) -> tuple[str, ...]: ...


class Lists(Protocol):
    """The fields of a recipe that say which pairs there are to choose from."""

    @property
    def gap(self) -> float: ...
    @property
    def clips(self) -> int | None: ...


class InDomain(Protocol):
    """The fields of an experiment's config that say what it measures and what was trained before."""

    @property
    def corpora(self) -> tuple[str, ...]: ...
    @property
    def pretrain_on(self) -> tuple[str, ...]: ...


def corpus_of(context: Context, name: str) -> Corpus:
    """A corpus by name: from the folder that --data gives it, or the bundled one. Opened once."""
    return context.once(("corpus", name), lambda: open_corpus(name, context.data.get(name)))


def table_corpora(corpora: Sequence[str], data: Mapping[str, Path]) -> tuple[str, ...]:
    """The corpora that a table has rows of: the config's `corpora`, then those of --data."""
    return (*corpora, *(name for name in data if name not in corpora))


def measured_corpora(config: InDomain, data: Mapping[str, Path]) -> tuple[str, ...]:
    """The in-domain corpora: the config's, then those of --data that nothing is pre-trained on."""
    return (*config.corpora, *(name for name in data if name not in (*config.corpora, *config.pretrain_on)))


def in_domain_corpus(context: Context, name: str, recipe: Lists) -> Corpus:
    """A corpus by name, of whose training pairs a recipe reads some.

    Raises:
        NotThere: a plan asks (`find_only`), and listing these pairs would take long.
    """
    corpus = corpus_of(context, name)
    read = first_clips(corpus, recipe.clips)
    if context.artifacts.find_only and not quickly_listed(read, "train", recipe.gap, None, 0):
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
    obtained = obtain_pretrained_mae(context, mae)
    recipe = recipe or config.pretrain
    return obtain_world(obtained, recipe, _corpora(context, recipe), context.artifacts, context.stop)


def pretrained_weights(context: Context, recipe: PretrainRecipe) -> Mapping[str, str]:
    """The digests of these weights, by name. A plan, which trains nothing, looks at each once."""

    def find() -> Mapping[str, str]:
        return obtain_pretrained(context, recipe).weights

    return context.once(("weights", recipe), find) if context.artifacts.find_only else find()


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
    identity, recipe = mae_identity(mae or config.mae, _read_by_mae(context)[1]), recipe or config.pretrain
    return world_stage(identity, recipe, _corpora(context, recipe))


def _read_by_mae(context: Context) -> tuple[dict[str, Corpus], dict[str, str]]:
    """The corpora whose frames the MAE is trained on, and the digests of their lists by the config's own
    recipe: recipes that differ from it share the MAE."""
    config: Pretrained = context.config
    corpora = first_clips_of_each(_corpora(context, config.pretrain), config.pretrain.clips)
    return corpora, training_manifests(corpora, config.pretrain)


def manifests_stage(context: Context, recipe: PretrainRecipe) -> Stage:
    """Identity of the lists of pairs that a training reads and is watched by, by the corpora's files as they
    are. Opens none of them."""
    fields = {"clips": recipe.clips, **pair_lists(recipe)}
    corpora = first_clips_of_each(_opened(context), recipe.clips)
    files = {
        f"{name} {split}": context.once(
            ("files", name, split, recipe.clips), partial(files_key, corpus, split, {})
        )
        for name, corpus in corpora.items()
        for split in ("train", "validation")
    }
    return Stage("manifests", 2, fields, files)


def different_lists(recipes: Recipes) -> list[PretrainRecipe]:
    """One recipe for each of the lists that some recipes read."""
    return list({json.dumps([recipe.clips, pair_lists(recipe)]): recipe for recipe in recipes}.values())


def unlisted(context: Context, recipes: Recipes) -> Stage:
    """Identity of the last lists that are not made yet of those of some recipes."""
    stages = [manifests_stage(context, recipe) for recipe in recipes]
    return next((stage for stage in stages[::-1] if context.artifacts.find(stage) is None), stages[-1])


def obtain_manifests(context: Context, recipes: Recipes) -> list[Artifact]:
    """These lists, kept with all others; an artifact only names those of a recipe."""
    return [_obtain_manifests(context, recipe) for recipe in recipes]


def _obtain_manifests(context: Context, recipe: PretrainRecipe) -> Artifact:
    def compute(folder: Path) -> None:
        corpora = first_clips_of_each(_opened(context), recipe.clips)
        held_out = {name: held_out_pairs(recipe, corpus).sha256 for name, corpus in corpora.items()}
        manifests = {"train": training_manifests(corpora, recipe), "validation": held_out}
        (folder / "manifests.json").write_text(json.dumps(manifests, indent=1) + "\n")

    return context.artifacts.obtain(manifests_stage(context, recipe), compute, together=False)


def _corpora(context: Context, recipe: PretrainRecipe) -> dict[str, Corpus]:
    """The corpora of the pre-training.

    Raises:
        NotThere: a plan asks (`find_only`), and listing the pairs of a recipe would take long.
    """
    corpora = _opened(context)
    if context.artifacts.find_only and any(
        len(corpus.of("train")) > MANY_CLIPS for corpus in corpora.values()
    ):
        stage = manifests_stage(context, recipe)
        if context.artifacts.find(stage) is None:
            raise NotThere(stage.folder_name)
    return corpora


def _opened(context: Context) -> dict[str, Corpus]:
    config: Pretrained = context.config
    return {name: corpus_of(context, name) for name in config.pretrain_on}
