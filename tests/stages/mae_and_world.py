"""An MAE and the world model over it, both by recipes: what an experiment obtains, without its context."""

from collections.abc import Mapping

from uwm.data.corpora import Corpus
from uwm.models.world import World
from uwm.runs.artifacts import Artifacts
from uwm.stages.mae import MAERecipe, obtain_mae
from uwm.stages.pair_training import training_manifests
from uwm.stages.trained import ShouldStop
from uwm.stages.world_model import PretrainRecipe, obtain_world


def obtain_mae_and_world(
    mae: MAERecipe,
    pretrain: PretrainRecipe,
    corpora: Mapping[str, Corpus],
    artifacts: Artifacts,
    stop: ShouldStop,
) -> World:
    found = obtain_mae(mae, corpora, training_manifests(corpora, pretrain), artifacts, stop)
    return obtain_world(found, pretrain, corpora, artifacts, stop)
