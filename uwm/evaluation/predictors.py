"""How each method of Figure 5 predicts the next state."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from uwm.baselines.ficc import FICC
from uwm.evaluation.eval_pairs import EvalPairs
from uwm.models import ActionAdapter, LatentActions, WorldModel
from uwm.models.dynamics import DynamicsFunction
from uwm.models.world import World

# Methods


class Step(NamedTuple):
    """What a method may know of B steps. `now` is where it stands, a predicted state in a rollout; `s_t` and
    `s_next` are the true states; each (B, 1+N, D). `actions` (B, T, A) and `mask` (B, T) are the robot's.
    `frames`, uint8 (B, 2, 3, S, S), are those of the true states, outside of rollouts."""

    now: Tensor
    s_t: Tensor
    s_next: Tensor
    actions: Tensor
    mask: Tensor
    frames: Tensor | None = None


class Prediction(NamedTuple):
    """The next state (B, 1+N, D), and the latent actions, where the method has some."""

    state: Tensor
    latents: LatentActions | None = None


Predictor = Callable[[Step], Prediction]


def copy_predictor(step: Step) -> Prediction:
    """The copy."""
    return Prediction(step.now)


def oracle_predictor(step: Step) -> Prediction:
    """The oracle."""
    return Prediction(step.s_next)


def latent_action_predictor(world_model: WorldModel) -> Predictor:
    """R_LA: the latent actions between the true states."""

    def predict(step: Step) -> Prediction:
        latents = world_model.infer_actions(step.s_t, step.s_next)
        return Prediction(world_model.predict(step.now, latents.quantized), latents)

    return predict


def adapter_predictor(world_model: WorldModel, adapter: ActionAdapter) -> Predictor:
    """R_GT: the robot's actions through the adapter."""

    def predict(step: Step) -> Prediction:
        latents = adapter.infer_actions(step.now, step.actions, step.mask, world_model.quantizer)
        return Prediction(world_model.predict(step.now, latents.quantized), latents)

    return predict


def dynamics_predictor(predict: DynamicsFunction) -> Predictor:
    """The robot's actions, with no latent ones between."""
    return lambda step: Prediction(predict(step.now, step.actions, step.mask))


def as_dynamics(predictor: Predictor) -> DynamicsFunction:
    """A method that knows nothing but the present state and the robot's actions, as a function of these."""

    def predict(s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        return predictor(Step(s_t, s_t, s_t, actions, mask)).state

    return predict


@torch.no_grad()
def predict_pairs(
    predictor: Predictor, pairs: EvalPairs, device: torch.device, other: Tensor | None = None
) -> Prediction:
    """A method on all pairs, in batches; `other` (n,) names for each pair the one whose action it gets."""
    actions, mask = pairs.controls
    if other is not None:
        actions, mask = actions[other], mask[other]
    parts = []
    for rows in torch.arange(len(pairs.states)).split(64):
        s_t, s_next = pairs.states[rows].to(device).unbind(1)
        controls = actions[rows].to(device), mask[rows].to(device)
        parts.append(predictor(Step(s_t, s_t, s_next, *controls, pairs.images[rows].to(device))))
    state = torch.cat([part.state for part in parts])
    latents = [part.latents for part in parts if part.latents is not None]
    return Prediction(state, _joined(latents) if latents else None)


@torch.no_grad()
def predict_by_ficc(
    ficc: FICC, adapter: ActionAdapter | None, world: World, test: EvalPairs
) -> tuple[Prediction, LatentActions]:
    """FICC's predictions of all pairs: its frames, seen by the MAE as all others are; and its latent actions
    between both frames. It predicts from these, or from the robot's actions through `adapter`."""
    frames, used, inferred = [], [], []
    for images, action, mask in zip(
        test.images.split(64), *(c.split(64) for c in test.controls), strict=True
    ):
        o_t, o_next = (images.to(world.device).float() / 255).unbind(1)
        s_t = ficc.represent(o_t)
        inferred.append(ficc.infer_actions(s_t, ficc.represent(o_next)))
        used.append(inferred[-1])
        if adapter is not None:
            controls = action.to(world.device), mask.to(world.device)
            used[-1] = adapter.infer_actions(s_t, *controls, ficc.quantizer)
        frames.append(ficc.decode(ficc.predict(s_t, used[-1].quantized)))
    pictures = torch.cat(frames).mul(255).round().byte()  # (n, 3, S, S)
    state = torch.cat([world.encode(part) for part in pictures.split(64)])
    return Prediction(state, _joined(used)), _joined(inferred)


def _joined(parts: Sequence[LatentActions]) -> LatentActions:
    return LatentActions(*(torch.cat(field) for field in zip(*parts, strict=True)))
