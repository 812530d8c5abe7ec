"""An MAE and the world model over it, both by recipes: what an experiment obtains, without its context.

`MAE` and `PRETRAIN` are small recipes, trained in seconds.
"""

from collections.abc import Mapping
from dataclasses import replace

from uwm.data.corpora import Corpus
from uwm.models import MAE_PRESETS
from uwm.models.world import World
from uwm.runs.artifacts import Artifacts
from uwm.stages.mae import MAERecipe, obtain_mae
from uwm.stages.pair_training import training_manifests
from uwm.stages.trained import ShouldStop
from uwm.stages.world_model import PretrainRecipe, high_rate, obtain_world
from uwm.training.loop import TrainConfig

MAE = MAERecipe(
    model=MAE_PRESETS["tiny"],
    file=None,
    train=TrainConfig(steps=3, batch_size=4, validate_every=3),
    procedural=4,
    short_side=64,
)
PRETRAIN = PretrainRecipe(
    train=TrainConfig(steps=12, batch_size=4, learning_rate=1e-3, checkpoint_every=3, validate_every=6),
    short_side=64,
    views=2,
    model=replace(high_rate(64), continuous_steps=2),  # a codebook from the third step on
)


def obtain_mae_and_world(
    mae: MAERecipe,
    pretrain: PretrainRecipe,
    corpora: Mapping[str, Corpus],
    artifacts: Artifacts,
    stop: ShouldStop,
) -> World:
    found = obtain_mae(mae, corpora, training_manifests(corpora, pretrain), artifacts, stop)
    return obtain_world(found, pretrain, corpora, artifacts, stop)
