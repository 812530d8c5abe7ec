"""Is a latent action an action? Measures that a code of the next frame fails.

Per pair: the state's error beside those of a copy, of another pair's action and of a predictor without
actions; stitched pairs, whose action is inferred from O_t to a frame of another clip (the leak); the same
action on another clip's frame and read off there again (the cycle); the action back from O_t+1 to O_t (the
reversal); and Genie's delta-PSNR. Per model: the bits of a transition.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from uwm.evaluation.further_metrics import CODE_ROWS, FurtherMetrics, code_table
from uwm.evaluation.measure import in_batches
from uwm.metrics.image import delta_psnr
from uwm.metrics.leak import pairs_of_other_clips
from uwm.metrics.perceptual import LPIPS
from uwm.metrics.statistics import perplexity
from uwm.models import LatentActions, MaskedAutoencoder, VectorQuantizer, WorldModel
from uwm.runs.experiment import Estimate
from uwm.training.objectives import derangement


class StatePairs(NamedTuple):
    """States of n pairs, each (n, 1+N, D), the clip of each, and O_t+1 as uint8 (n, 3, S, S).

    `o_t`, as `o_next`, is needed by models that read frames, and for the leak of a mean colour.
    """

    s_t: Tensor
    s_next: Tensor
    clips: list[str]
    o_next: Tensor
    o_t: Tensor | None = None

    def read_by(self, model: "ActionModel") -> tuple[Tensor, Tensor]:
        """The model's inputs for both frames: states, or the frames themselves."""
        if isinstance(model, WorldModel):
            return self.s_t, self.s_next
        assert self.o_t is not None
        return self.o_t, self.o_next


class ActionModel(Protocol):
    """A world model over states, or `uwm.evaluation.frame_models.FrameModel`, which reads frames instead."""

    def infer_actions(self, s_t: Tensor, s_next: Tensor) -> LatentActions: ...
    def predict(self, s_t: Tensor, quantized: Tensor) -> Tensor: ...


@runtime_checkable
class DrawingModel(Protocol):
    """A model that reads frames, and so draws them. `random_actions`: None where none can be drawn."""

    def draw(self, now: Tensor, actions: Tensor) -> Tensor: ...
    def random_actions(self, actions: LatentActions, generator: torch.Generator) -> Tensor | None: ...


class ActionWorld(Protocol):
    """A frozen MAE and such a model, as `uwm.models.world.World`."""

    @property
    def mae(self) -> MaskedAutoencoder: ...
    @property
    def world_model(self) -> ActionModel: ...


def state_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of states (n, 1+N, D), per pair (n,)."""
    return (predicted - target).square().mean((1, 2))


@torch.no_grad()
def stitched_errors(world: ActionWorld, network: LPIPS, pairs: StatePairs) -> dict[str, Tensor]:
    """Of pairs whose action leads to a frame of another clip: the errors to it of prediction and copy.

    In states and in LPIPS, (n,) each. Their ratio of sums is the leak. Where the frames are there, also the
    error of O_t in the foreign frame's mean colour: what an action would leak that told this alone.
    """
    model, other = world.world_model, pairs_of_other_clips(pairs.clips)
    now, then = pairs.read_by(model)
    actions = in_batches(model.infer_actions, now, then[other])
    drawn, foreign = in_batches(model.predict, now, actions.quantized), pairs.s_next[other]

    def lpips(states: Tensor, target: Tensor) -> Tensor:
        return network(world.mae.decode(states), world.mae.decode(target))

    tinted = {}
    if pairs.o_t is not None and isinstance(model, WorldModel):
        tinted = {"stitched_mse_colour": state_errors(_tinted_states(world.mae, pairs, other), foreign)}
    return {
        **tinted,
        "stitched_mse": state_errors(drawn, foreign),
        "stitched_mse_copy": state_errors(pairs.s_t, foreign),
        "stitched_lpips": in_batches(lpips, drawn, foreign, size=32),
        "stitched_lpips_copy": in_batches(lpips, pairs.s_t, foreign, size=32),
    }


def _tinted_states(mae: MaskedAutoencoder, pairs: StatePairs, other: Tensor) -> Tensor:
    """States (n, 1+N, D) of each O_t, moved to the mean colour of another pair's O_t+1."""
    assert pairs.o_t is not None

    def tinted(now: Tensor, foreign: Tensor) -> Tensor:
        device = pairs.s_t.device
        now, foreign = now.to(device) / 255, foreign.to(device) / 255
        shift = foreign.mean((2, 3), keepdim=True) - now.mean((2, 3), keepdim=True)  # (b, 3, 1, 1)
        return mae.encode((now + shift).clamp(0, 1))

    return in_batches(tinted, pairs.o_t, pairs.o_next[other.to(pairs.o_next.device)])


@torch.no_grad()
def action_errors(
    world: ActionWorld, pairs: StatePairs, no_action: WorldModel | None, seed: int
) -> dict[str, Tensor]:
    """Per pair (n,): what the action is worth. `no_action` predicts without one; None: not measured.

    `delta_psnr` asks for random actions, so for codes of a codebook.
    """
    model, generator = world.world_model, torch.Generator().manual_seed(seed)
    now, then = pairs.read_by(model)
    actions = in_batches(model.infer_actions, now, then)
    random = None
    if isinstance(model, WorldModel) and actions.codes.numel():
        assert isinstance(model.quantizer, VectorQuantizer)
        # Drawn first: the order of draws is part of committed numbers.
        codes = torch.randint(model.config.quantizer.codes, actions.codes.shape, generator=generator)
        random = model.quantizer.lookup(codes.to(pairs.s_t.device))
    other = actions.quantized[derangement(len(now), generator)]
    if isinstance(model, DrawingModel):  # likewise second
        random = model.random_actions(actions, generator)
    errors = {
        "state_mse_copy": state_errors(pairs.s_t, pairs.s_next),
        "state_mse_shuffled": state_errors(in_batches(model.predict, now, other), pairs.s_next),
    }
    if random is not None:
        errors["delta_psnr"] = _delta_psnr(world, pairs, actions.quantized, random)
    if no_action is not None:
        free = in_batches(no_action.predict, pairs.s_t, actions.quantized)
        errors["state_mse_no_action"] = state_errors(free, pairs.s_next)
    return errors


@torch.no_grad()
def cycle_errors(model: ActionModel, pairs: StatePairs) -> dict[str, Tensor]:
    """Per pair (n,): the error to S_t+1 after the action went through another clip's frame.

    The action is used on a frame of another clip, inferred again from that frame and what was predicted, and
    used on S_t. An action that means the same on any frame comes back as it was; one that does nothing
    elsewhere comes back as none, with the copy's error. A code of the next frame comes back too: read it
    beside the leak. After the cycle-consistency by which DiLA is trained.
    """
    now, then = pairs.read_by(model)
    elsewhere = now[pairs_of_other_clips(pairs.clips)]
    actions = in_batches(model.infer_actions, now, then)
    drawn = in_batches(lambda s, a: _as_read(model, s, a), elsewhere, actions.quantized)
    again = in_batches(model.infer_actions, elsewhere, drawn)
    back = in_batches(model.predict, now, again.quantized)
    return {"cycle_mse": state_errors(back, pairs.s_next)}


@torch.no_grad()
def reversal_errors(model: ActionModel, pairs: StatePairs) -> dict[str, Tensor]:
    """Per pair (n,): squared length of the sum of the actions there and back, and the sum of their lengths'.

    Each is counted from the action of a pair of equal frames. The ratio of means is 0 where the way back is
    the inverse, 1 where the two have nothing to do with each other, 2 where they are the same. After the
    algebra of latent actions that ALAM asks for. Nothing where actions are codes without a vector.
    """
    now, then = pairs.read_by(model)
    there, back, none = (
        in_batches(model.infer_actions, a, b).quantized for a, b in ((now, then), (then, now), (now, now))
    )
    if not there.is_floating_point():
        return {}
    there, back = ((action - none).flatten(1) for action in (there, back))
    return {
        "reversal_sum": (there + back).square().sum(1),
        "reversal_parts": there.square().sum(1) + back.square().sum(1),
    }


def _as_read(model: ActionModel, now: Tensor, actions: Tensor) -> Tensor:
    """A prediction as the model's next input: states, or uint8 frames."""
    if isinstance(model, DrawingModel):
        return (model.draw(now, actions) * 255).round().to(torch.uint8)
    return model.predict(now, actions)


def _delta_psnr(world: ActionWorld, pairs: StatePairs, own_actions: Tensor, random: Tensor) -> Tensor:
    def gained(predicted: Tensor, by_chance: Tensor, o_next: Tensor) -> Tensor:
        return delta_psnr(
            world.mae.decode(predicted), world.mae.decode(by_chance), o_next.to(predicted.device) / 255
        )

    now, _ = pairs.read_by(world.world_model)
    predicted, by_chance = (in_batches(world.world_model.predict, now, a) for a in (own_actions, random))
    return in_batches(gained, predicted, by_chance, pairs.o_next)


def action_columns(
    models: Mapping[str, ActionWorld],
    no_action: WorldModel | None,
    network: LPIPS,
    pairs: StatePairs,
    seed: int,
) -> dict[str, np.ndarray]:
    """Columns `<method>/<measure>` (n,) of the above, of each model by its method's name.

    Pairs of one clip alone have no frame of another clip.
    """
    columns: dict[str, np.ndarray] = {}
    for method, world in models.items():
        measured = action_errors(world, pairs, no_action, seed)
        measured |= reversal_errors(world.world_model, pairs)
        if len(set(pairs.clips)) > 1:
            measured |= stitched_errors(world, network, pairs)
            measured |= cycle_errors(world.world_model, pairs)
        columns |= {f"{method}/{name}": values.double().cpu().numpy() for name, values in measured.items()}
    return columns


@torch.no_grad()
def rates(world_model: WorldModel, actions: LatentActions, pairs: StatePairs) -> FurtherMetrics:
    """Bits of a transition: L log2 K, a noisy channel's capacity, or the mean over n pairs where they differ;
    what the codes, if any, carry by their entropy; the model's size."""
    n, parameters = len(actions.codes), sum(parameter.numel() for parameter in world_model.parameters())
    bits = world_model.config.bits
    if bits is None:
        bits = float(in_batches(world_model.bits, pairs.s_t, pairs.s_next).double().mean())
    estimates = {"bits": Estimate(bits, n), "parameters": Estimate(parameters / 1e6, n)}
    return FurtherMetrics(estimates) | (
        code_rates(actions.codes) if actions.codes.numel() else FurtherMetrics()
    )


def code_rates(codes: Tensor) -> FurtherMetrics:
    """What codes (n, L) carry by their entropy, L H in bits, and their perplexity."""
    n, tokens = codes.shape
    table = code_table(codes)
    used = perplexity(table["count"].to_numpy())
    estimates = {"code_bits": Estimate(tokens * float(np.log2(used)), n), "perplexity": Estimate(used, n)}
    return FurtherMetrics(estimates, {CODE_ROWS: table})
