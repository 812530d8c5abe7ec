"""One world model measured on the pairs of a corpus, as Table 1 measures its own."""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from uwm.data.states import FrozenEncoder
from uwm.evaluation.actions import ActionModel, StatePairs, action_columns, rates
from uwm.evaluation.compute import frame_model_cost, world_cost
from uwm.evaluation.frame_models import (
    FrameModel,
    PixelModel,
    frame_model_rates,
    measure_frame_model,
    through_frames,
)
from uwm.evaluation.further_metrics import FurtherMetrics
from uwm.evaluation.measure import FramePairs, Measuring, in_batches, measure_pairs
from uwm.evaluation.predictors import Predictor
from uwm.methods import COPY, ORACLE
from uwm.methods.protocol import CheckedModel
from uwm.metrics.perceptual import LPIPS
from uwm.models import LatentActions
from uwm.models.world import World


class MeasuredWorld(NamedTuple):
    """Numbers per pair as in `measure_pairs`, frames drawn (n, 3, S, S), latent actions, and the pairs."""

    pairs: pd.DataFrame
    frames: Tensor
    actions: LatentActions
    states: StatePairs
    images: Tensor  # uint8 (n, 2, 3, S, S)


@torch.no_grad()
def measure_world(method: str, world: World, network: LPIPS, test: FramePairs, seed: int) -> MeasuredWorld:
    """All that is measured per pair, in columns `<method>/<measure>`."""
    s_t, s_next = in_batches(world.encode, test.images).unbind(1)
    actions = in_batches(world.world_model.infer_actions, s_t, s_next)
    predicted = in_batches(world.world_model.predict, s_t, actions.quantized)
    states = {COPY.name: s_t, ORACLE.name: s_next, method: predicted}
    pairs, frames = measure_pairs(Measuring(world, network), test, states, only=[method], keep=[method])
    compared = StatePairs(s_t, s_next, list(test.manifest.table["video"]), test.images[:, 1])
    columns = action_columns({method: world}, None, network, compared, seed)
    return MeasuredWorld(pairs.assign(**columns), frames[method], actions, compared, test.images)


@dataclass(frozen=True)
class MeasuredModel:
    """A world model, and the MAE whose states are compared: in `world`, with the model over its states; or,
    where that is one over `pixels`, with the model that draws frames."""

    world: World
    pixels: World | None = None

    def measure(
        self, method: str, network: LPIPS, test: FramePairs, seed: int
    ) -> tuple[pd.DataFrame, Tensor, FurtherMetrics]:
        """Numbers per pair, the frames drawn (n, 3, S, S), and what is of the whole: rates, costs."""
        if self.pixels is None:
            measured = measure_world(method, self.world, network, test, seed)
            whole = rates(self.world.world_model, measured.actions, measured.states)
            whole |= FurtherMetrics(world_cost(self.world, test.images))
            return measured.pairs, measured.frames, whole
        model = self._drawing(self.pixels, method)
        how = Measuring(self.world, network)
        pairs, drawn, actions = measure_frame_model(method, model, how, test, None, seed)
        whole = frame_model_rates(model.model, actions) | FurtherMetrics(frame_model_cost(model, test.images))
        return pairs, drawn.cpu(), whole

    def acting(self) -> ActionModel:
        """The model over states; one over pixels as a model that draws frames."""
        return self._drawing(self.pixels, "pixels") if self.pixels else self.world.world_model

    def _drawing(self, pixels: World, name: str) -> FrameModel:
        return FrameModel(CheckedModel(PixelModel(pixels), name), self.world.mae)

    def through(self, predict: Predictor) -> Predictor:
        """A predictor of the model's as one over the MAE's states."""
        return through_frames(predict, self.pixels, self.world.mae) if self.pixels else predict


def encoder_of(world: World) -> FrozenEncoder:
    """The MAE's encoder, known by the digest of its weights."""
    return FrozenEncoder(world.weights["mae"], world.image_size, world.encode)
