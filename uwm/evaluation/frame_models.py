"""Models of others, which read and draw frames, measured by what measures a world model over states.

What such a model predicts is encoded by the frozen MAE: its state is compared like any other, and shown by
the MAE's decoder, blurred like the observations (section 5.2). Only with the sharp frames is the frame
compared that the model drew itself.
"""

from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from uwm.evaluation.actions import StatePairs, action_columns, code_rates
from uwm.evaluation.further_metrics import FurtherMetrics
from uwm.evaluation.measure import FramePairs, Measuring, in_batches, measure_pairs
from uwm.evaluation.predictors import Prediction, Predictor, Step
from uwm.methods import COPY, ORACLE
from uwm.methods.protocol import CheckedModel, resize_frames
from uwm.models import LatentActions, MaskedAutoencoder, VectorQuantizer, WorldModel
from uwm.models.world import World
from uwm.runs.experiment import Estimate


class FrameModel:
    """A model of others as an `uwm.evaluation.actions.ActionModel`: it reads frames, uint8 (B, 3, S, S), and
    gives states (B, 1+N, D) of the MAE."""

    def __init__(self, model: CheckedModel, mae: MaskedAutoencoder) -> None:
        self.model, self.mae = model, mae

    def infer_actions(self, now: Tensor, then: Tensor) -> LatentActions:
        """Its actions between two frames, as they are; `codes` (B, L) are empty where it has none."""
        actions = self.model.infer(self._shown(now), self._shown(then))
        codes = (
            actions.new_zeros((len(actions), 0))
            if actions.is_floating_point()
            else actions.reshape(len(actions), -1)
        )
        return LatentActions(actions, actions, codes.long())

    def random_actions(self, actions: LatentActions, generator: torch.Generator) -> Tensor | None:
        """Codes drawn by chance, in the shape of `actions`; None where they are of no known codebook."""
        size = self.model.codebook(actions.codes)
        if size is None:
            return None
        return torch.randint(size, actions.quantized.shape, generator=generator).to(actions.quantized)

    def draw(self, now: Tensor, actions: Tensor) -> Tensor:
        """The frames that it predicts, (B, 3, S, S) in [0, 1] at the size of `now`."""
        return resize_frames(self.model.predict(self._shown(now), actions), now.shape[-1])

    def predict(self, now: Tensor, actions: Tensor) -> Tensor:
        """Their states."""
        return self.mae.encode(self.draw(now, actions))

    def _shown(self, images: Tensor) -> Tensor:
        frames = images.to(self.mae.mean.device).float() / 255
        return resize_frames(frames, self.model.image_size)


class PixelModel:
    """A world model over patches of pixels as one that reads and draws frames (`LatentActionModel`)."""

    def __init__(self, world: World) -> None:
        self.world, self.model, self.image_size = world, world.world_model, world.image_size
        assert isinstance(self.model.quantizer, VectorQuantizer)
        self.quantizer, self.bits = self.model.quantizer, self.model.config.bits

    def infer(self, frames_t: Tensor, frames_next: Tensor) -> Tensor:
        encode = self.world.mae.encode
        return self.model.infer_actions(encode(frames_t), encode(frames_next)).codes

    def predict(self, frames_t: Tensor, actions: Tensor) -> Tensor:
        patches = self.model.predict(self.world.mae.encode(frames_t), self.quantizer.lookup(actions))
        return self.world.mae.decode(patches)

    def embed(self, actions: Tensor) -> Tensor:
        return self.quantizer.lookup(actions).flatten(1)

    def parameters(self) -> Iterator[Tensor]:
        return self.model.parameters()


def through_frames(predict: Predictor, pixels: World, mae: MaskedAutoencoder) -> Predictor:
    """A predictor over patches of pixels as one over the MAE's states: it reads a step's frames, and what it
    draws is encoded."""

    def predicted(step: Step) -> Prediction:
        assert step.frames is not None
        now, then = pixels.encode(step.frames).unbind(1)
        prediction = predict(step._replace(now=now, s_t=now, s_next=then))
        return Prediction(mae.encode(pixels.mae.decode(prediction.state)), prediction.latents)

    return predicted


class FrameWorld(NamedTuple):
    """The frozen MAE that shows states, and the model."""

    mae: MaskedAutoencoder
    world_model: FrameModel


def frame_predictor(model: FrameModel) -> Predictor:
    """The model's own actions between the true frames; as latent actions, what it embeds them as."""

    def predict(step: Step) -> Prediction:
        assert step.frames is not None
        now, then = step.frames.unbind(1)
        actions = model.infer_actions(now, then)
        embedded = model.model.embed(actions.quantized)
        return Prediction(
            model.predict(now, actions.quantized), LatentActions(embedded, embedded, actions.codes)
        )

    return predict


@torch.no_grad()
def measure_frame_model(
    method: str, model: FrameModel, how: Measuring, test: FramePairs, no_action: WorldModel | None, seed: int
) -> tuple[pd.DataFrame, Tensor, Tensor]:
    """All that is measured per pair, as the table of `measure_pairs`; the frames drawn; the actions (n, ...).

    `no_action`: the predictor without actions that the model is compared with; None: it isn't.
    """
    s_t, s_next = in_batches(how.world.encode, test.images).unbind(1)
    now, then = test.images.unbind(1)
    actions = in_batches(model.infer_actions, now, then)
    drawn = in_batches(model.draw, now, actions.quantized)
    states = {method: in_batches(model.mae.encode, drawn), COPY.name: s_t, ORACLE.name: s_next}
    pairs, _ = measure_pairs(how, test._replace(drawn={method: drawn}), states, only=[method])
    clips = list(test.manifest.table["video"])
    state_pairs = StatePairs(s_t, s_next, clips, then, now)
    columns = action_columns(
        {method: FrameWorld(model.mae, model)}, no_action, how.network, state_pairs, seed
    )
    return pairs.assign(**columns), drawn, actions.quantized


def frame_model_rates(model: CheckedModel, actions: Tensor) -> FurtherMetrics:
    """Bits of a transition, what codes carry by their entropy, and how many numbers were trained."""
    n = len(actions)
    further = FurtherMetrics({"bits": Estimate(model.bits, n)})
    if not actions.is_floating_point():
        further |= code_rates(actions.reshape(n, -1))
    if model.parameters is not None:
        further |= FurtherMetrics({"parameters": Estimate(model.parameters / 1e6, n)})
    return further
