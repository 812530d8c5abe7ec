"""Is a latent action an action? Measures that a code of the next frame fails.

Per pair: the state's error beside those of a copy, of another pair's action and of a predictor without
actions; stitched pairs, whose action is inferred from O_t to a frame of another clip (the leak); and Genie's
delta-PSNR. Per model: the bits of a transition.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from uwm.evaluation.measure import in_batches
from uwm.metrics.image import delta_psnr
from uwm.metrics.leak import pairs_of_other_clips
from uwm.metrics.perceptual import LPIPS
from uwm.models import LatentActions, WorldModel
from uwm.models.world import World
from uwm.runs.experiment import Estimate
from uwm.training.objectives import code_counts, derangement, perplexity


class StatePairs(NamedTuple):
    """States of n pairs, each (n, 1+N, D), the clip of each, and O_t+1 as uint8 (n, 3, S, S)."""

    s_t: Tensor
    s_next: Tensor
    clips: list[str]
    o_next: Tensor


def state_errors(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of states (n, 1+N, D), per pair (n,)."""
    return (predicted - target).square().mean((1, 2))


@torch.no_grad()
def stitched_errors(world: World, network: LPIPS, pairs: StatePairs) -> dict[str, Tensor]:
    """Of pairs whose action leads to a frame of another clip: the errors to it of prediction and copy.

    In states and in LPIPS, (n,) each. Their ratio of sums is the leak.
    """
    model, foreign = world.world_model, pairs.s_next[pairs_of_other_clips(pairs.clips)]
    actions = in_batches(model.infer_actions, pairs.s_t, foreign)
    drawn = in_batches(model.predict, pairs.s_t, actions.quantized)

    def lpips(states: Tensor, wanted: Tensor) -> Tensor:
        return network(world.mae.decode(states), world.mae.decode(wanted))

    return {
        "stitched_mse": state_errors(drawn, foreign),
        "stitched_mse_copy": state_errors(pairs.s_t, foreign),
        "stitched_lpips": in_batches(lpips, drawn, foreign, size=32),
        "stitched_lpips_copy": in_batches(lpips, pairs.s_t, foreign, size=32),
    }


@torch.no_grad()
def action_errors(
    world: World, pairs: StatePairs, no_action: WorldModel | None, seed: int
) -> dict[str, Tensor]:
    """Per pair (n,): what the action is worth. `no_action` predicts without one; None: not measured."""
    model, generator = world.world_model, torch.Generator().manual_seed(seed)
    actions = in_batches(model.infer_actions, pairs.s_t, pairs.s_next)
    random = torch.randint(model.config.quantizer.codes, actions.codes.shape, generator=generator)
    other = actions.quantized[derangement(len(pairs.s_t), generator)]
    states = {
        "own": in_batches(model.predict, pairs.s_t, actions.quantized),
        "random": in_batches(model.predict, pairs.s_t, model.quantizer.lookup(random.to(pairs.s_t.device))),
    }

    def gained(own: Tensor, by_chance: Tensor, o_next: Tensor) -> Tensor:
        return delta_psnr(world.mae.decode(own), world.mae.decode(by_chance), o_next.to(own.device) / 255)

    found = {
        "state_mse_copy": state_errors(pairs.s_t, pairs.s_next),
        "state_mse_shuffled": state_errors(in_batches(model.predict, pairs.s_t, other), pairs.s_next),
        "delta_psnr": in_batches(gained, states["own"], states["random"], pairs.o_next),
    }
    if no_action is not None:
        free = in_batches(no_action.predict, pairs.s_t, actions.quantized)
        found["state_mse_no_action"] = state_errors(free, pairs.s_next)
    return found


def action_columns(
    models: Mapping[str, World], no_action: WorldModel | None, network: LPIPS, pairs: StatePairs, seed: int
) -> dict[str, np.ndarray]:
    """Columns `<method>/<measure>` (n,) of the above, of each model by its method's name.

    Pairs of one clip alone cannot be stitched.
    """
    found: dict[str, np.ndarray] = {}
    for method, world in models.items():
        measured = action_errors(world, pairs, no_action, seed)
        if len(set(pairs.clips)) > 1:
            measured |= stitched_errors(world, network, pairs)
        found |= {f"{method}/{name}": values.double().cpu().numpy() for name, values in measured.items()}
    return found


def rates(world_model: WorldModel, actions: LatentActions) -> dict[str, Estimate]:
    """Bits of a transition: L log2 K, and what the codes of n pairs carry by their entropy, L H."""
    tokens, counts = actions.codes.shape[1], code_counts(actions.codes, world_model.config.quantizer.codes)
    n = len(actions.codes)
    return {
        "bits": Estimate(world_model.config.bits, n),
        "code_bits": Estimate(tokens * float(np.log2(perplexity(counts))), n),
        "perplexity": Estimate(perplexity(counts), n),
    }
