"""Trainings as jobs of their own on a cluster: the pre-training, and those in a robot's domain."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from uwm.data.corpora import BUNDLED, IN_DOMAIN
from uwm.runs.artifacts import Stage
from uwm.runs.experiment import Context, StageJob
from uwm.stages.adapter import AdapterRecipe, adapter_stage, obtain_adapter
from uwm.stages.baselines import (
    DynamicsRecipe,
    FICCRecipe,
    dynamics_stage,
    ficc_recipe,
    ficc_stage,
    obtain_dynamics,
    obtain_ficc,
)
from uwm.stages.counting import Recipe, training_operations
from uwm.stages.decoder import DecoderRecipe, decoder_stage, obtain_decoder
from uwm.stages.finetune import Domain, FinetuneRecipe
from uwm.stages.pretrained import (
    Pretrained,
    manifests_stage,
    obtain_manifests,
    obtain_pretrained,
    pretrain_stage,
)
from uwm.stages.reader import ReaderRecipe, obtain_reader, reader_stage

DomainRecipe: TypeAlias = AdapterRecipe | DynamicsRecipe | FICCRecipe | DecoderRecipe | ReaderRecipe
OpenDomain: TypeAlias = Callable[[Context], Domain]  # may raise SkipCell


def pretrain_jobs(config: Pretrained, cells: tuple[str, ...] = ("*",)) -> list[StageJob]:
    """The pre-training as a job of its own on a cluster; `cells` read it themselves."""
    operations = operations_of(config.pretrain)
    pretrain = StageJob("pretrain", obtain_pretrained, pretrain_stage, cells=cells, operations=operations)
    return after_lists(config, [pretrain])


def after_lists(config: Pretrained, trainings: list[StageJob]) -> list[StageJob]:
    """`trainings` on the config's corpora; where some of these are a user's, after a job without a GPU that
    lists their pairs: it opens every clip, which takes hours for large corpora."""
    if set(config.pretrain_on) <= {*BUNDLED, IN_DOMAIN}:
        return trainings
    lists = StageJob("manifests", obtain_manifests, manifests_stage, trains=False, computes=False, cells=())
    return [lists, *(replace(job, needs=(lists.name,)) for job in trainings)]


def operations_of(recipe: Recipe | ReaderRecipe) -> Callable[[Context], int] | None:
    """Counts what a recipe's training takes in an experiment; a small reader's is not counted."""
    if isinstance(recipe, ReaderRecipe):
        return None
    return lambda context: training_operations(recipe, context.config.mae, context.config.pretrain)


def finetune_job(name: str, recipe: FinetuneRecipe, domain: OpenDomain) -> StageJob:
    """The training of a domain's world model by `recipe`."""
    return StageJob(
        name,
        lambda context: domain(context).world,
        lambda context: domain(context).stage,
        needs=("pretrain",),
        operations=operations_of(recipe),
    )


def domain_job(name: str, recipe: DomainRecipe, domain: OpenDomain, parent: str) -> StageJob:
    """A recipe's training in a domain, after the job `parent`."""
    return StageJob(
        name,
        lambda context: obtain(recipe, domain(context)),
        lambda context: stage_of(recipe, domain(context)),
        needs=(parent,),
        operations=operations_of(recipe),
    )


def obtain(recipe: DomainRecipe, domain: Domain) -> object:
    """What the recipe trains: cached, or trained now."""
    match recipe:
        case AdapterRecipe():
            return obtain_adapter(recipe, domain)
        case DynamicsRecipe():
            return obtain_dynamics(recipe, domain)
        case FICCRecipe():
            return obtain_ficc(recipe, domain)
        case DecoderRecipe():
            return obtain_decoder(recipe, domain)
        case ReaderRecipe():
            return obtain_reader(recipe, domain)


def stage_of(recipe: DomainRecipe, domain: Domain) -> Stage:
    """Identity of what the recipe trains; trains nothing."""
    match recipe:
        case AdapterRecipe():
            return adapter_stage(recipe, domain)
        case DynamicsRecipe():
            return dynamics_stage(recipe, domain)
        case FICCRecipe():
            return ficc_stage(ficc_recipe(recipe, domain), domain.corpus)
        case DecoderRecipe():
            return decoder_stage(recipe, domain.corpus, domain.world.weights["mae"])
        case ReaderRecipe():
            return reader_stage(recipe, domain)
