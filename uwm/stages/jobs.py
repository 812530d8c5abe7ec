"""Trainings as jobs of their own on a cluster: the pre-training, and those in a robot's domain, for which one
GPU is enough."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from uwm.data.corpora import BUNDLED, IN_DOMAIN
from uwm.data.selection import first_clips_of_each
from uwm.runs.artifacts import Stage
from uwm.runs.experiment import Context, SkipCell, StageJob
from uwm.stages.adapter import AdapterRecipe, adapter_stage, obtain_adapter
from uwm.stages.baselines import (
    DynamicsRecipe,
    FICCRecipe,
    dynamics_stage,
    ficc_adapter_stage,
    ficc_recipe,
    ficc_stage,
    obtain_dynamics,
    obtain_ficc,
    obtain_ficc_adapter,
)
from uwm.stages.counting import TrainedRecipe, training_operations
from uwm.stages.decoder import DecoderRecipe, decoder_stage, obtain_decoder
from uwm.stages.finetune import Domain, FinetuneRecipe
from uwm.stages.mae import mae_stage
from uwm.stages.pair_training import training_manifests
from uwm.stages.pretrained import (
    Pretrained,
    Recipes,
    corpus_of,
    different_lists,
    obtain_manifests,
    obtain_pretrained,
    obtain_pretrained_mae,
    pretrain_stage,
    unlisted,
)
from uwm.stages.reader import ReaderRecipe, obtain_reader, reader_stage, sees_hand

DomainRecipe: TypeAlias = AdapterRecipe | DynamicsRecipe | FICCRecipe | DecoderRecipe | ReaderRecipe
PRETRAINING = ("manifests", "mae", "pretrain")  # the jobs of `pretrain_jobs`
OpenDomain: TypeAlias = Callable[[Context], Domain]  # may raise SkipCell


def pretrain_jobs(
    config: Pretrained, cells: tuple[str, ...] = ("*",), further: Recipes = ()
) -> list[StageJob]:
    """The pre-training as a job of its own on a cluster; `cells` read it themselves. `further`: as for
    `shared_first`."""
    operations = operations_of(config.pretrain)
    pretrain = StageJob("pretrain", obtain_pretrained, pretrain_stage, cells=cells, operations=operations)
    return after_lists(config, [pretrain], further)


def after_lists(config: Pretrained, trainings: list[StageJob], further: Recipes = ()) -> list[StageJob]:
    """`trainings` on the config's corpora, after what `shared_first` gives."""
    first = shared_first(config, further, mae=len(trainings) > 1)
    names = tuple(job.name for job in first)
    return [*first, *(replace(job, needs=(*job.needs, *names)) for job in trainings)]


def shared_first(config: Pretrained, further: Recipes = (), *, mae: bool) -> list[StageJob]:
    """What trainings on the config's corpora share: where some of these are a user's, a job without a GPU
    that lists their pairs, for it opens every clip, which takes hours for large corpora; with `mae` the
    training of the MAE, where it is trained. Else one training would train it while the others wait.

    `further`: recipes besides the config's own that the trainings are by.
    """
    first: list[StageJob] = []
    if not set(config.pretrain_on) <= {*BUNDLED, IN_DOMAIN}:
        recipes = different_lists([config.pretrain, *further])
        run, stage = partial(obtain_manifests, recipes=recipes), partial(unlisted, recipes=recipes)
        first += [StageJob("manifests", run, stage, trains=False, computes=False, cells=())]
    if mae and config.mae.train is not None:
        needs = tuple(job.name for job in first)
        first += [StageJob("mae", obtain_pretrained_mae, _mae_stage, needs=needs, cells=())]
    return first


def _mae_stage(context: Context) -> Stage:
    config: Pretrained = context.config
    pretrain_stage(context)  # NotThere, where a plan asks and the lists would take long
    corpora = {name: corpus_of(context, name) for name in config.pretrain_on}
    inputs = training_manifests(first_clips_of_each(corpora, config.pretrain.clips), config.pretrain)
    return mae_stage(config.mae, inputs)


def operations_of(recipe: TrainedRecipe | ReaderRecipe) -> Callable[[Context], int | None]:
    """Counts what a recipe's training takes in an experiment; a small reader's is not counted."""
    if isinstance(recipe, ReaderRecipe):
        return lambda context: None
    return lambda context: training_operations(recipe, context.config.mae, context.config.pretrain)


def finetune_job(name: str, recipe: FinetuneRecipe, domain: OpenDomain) -> StageJob:
    """The training of a domain's world model by `recipe`."""
    return StageJob(
        name,
        lambda context: domain(context).world,
        lambda context: domain(context).stage,
        needs=("pretrain",),
        small=True,
        operations=operations_of(recipe),
    )


def domain_job(name: str, recipe: DomainRecipe, domain: OpenDomain, *needs: str) -> StageJob:
    """A recipe's training in a domain, after the jobs `needs`."""
    return StageJob(
        name,
        lambda context: obtain(recipe, domain(context)),
        lambda context: stage_of(recipe, domain(context)),
        needs=needs,
        small=True,
        operations=operations_of(recipe),
    )


def ficc_adapter_job(
    name: str, recipe: AdapterRecipe, ficc: FICCRecipe, domain: OpenDomain, parent: str
) -> StageJob:
    """The training of the adapter to FICC, after the job `parent` that trains FICC."""
    return StageJob(
        name,
        lambda context: obtain_ficc_adapter(recipe, ficc, domain(context)),
        lambda context: ficc_adapter_stage(recipe, ficc, domain(context)),
        needs=(parent,),
        small=True,
    )


def picture_reader_job(name: str, recipe: ReaderRecipe, domain: OpenDomain, *needs: str) -> StageJob:
    """The training of what sees a robot's gripper, after the jobs `needs`. A domain that does not tell where
    in its pictures the gripper is needs none."""

    def with_gripper(context: Context) -> Domain:
        opened = domain(context)
        if not sees_hand(recipe, opened.corpus):
            raise SkipCell(f"{opened.corpus.name} does not tell where in the picture the gripper is")
        return opened

    return domain_job(name, replace(recipe, reads="hand-in-picture"), with_gripper, *needs)


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
