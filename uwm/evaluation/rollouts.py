"""Predictions several steps ahead, each from what the one before predicted."""

import numpy as np
import torch
from torch import Tensor

from uwm.errors import UserError
from uwm.evaluation.eval_pairs import RolloutSegments
from uwm.evaluation.predictors import Predictor, Step
from uwm.metrics.fvd import ClipNetwork, frechet_distance
from uwm.metrics.image import psnr
from uwm.metrics.perceptual import LPIPS
from uwm.models.world import World
from uwm.runs.experiment import Estimate

RUNS_AT_ONCE = 8  # whose frames are decoded together


@torch.no_grad()
def roll_out(
    predictor: Predictor,
    segments: RolloutSegments,
    device: torch.device,
    other: Tensor | None = None,
    size: int = 64,
) -> Tensor:
    """States (n, H, 1+N, D) predicted 1 to H steps after the first frame of each segment.

    `other` (n,) names for each segment the one whose actions it gets.
    """
    states, (actions, mask) = segments.pairs.states, segments.pairs.controls
    acting = segments.pair_index if other is None else segments.pair_index[other]  # (n, H)
    parts = []
    for index, doing in zip(segments.pair_index.split(size), acting.split(size), strict=True):
        now, predicted = states[index[:, 0], 0].to(device), []
        for k in range(index.shape[1]):
            s_t, s_next = states[index[:, k]].to(device).unbind(1)
            controls = actions[doing[:, k]].to(device), mask[doing[:, k]].to(device)
            now = predictor(Step(now, s_t, s_next, *controls)).state
            predicted.append(now)
        parts.append(torch.stack(predicted, dim=1))
    return torch.cat(parts)


@torch.no_grad()
def rollout_columns(
    network: LPIPS, decoder: World, segments: RolloutSegments, predicted: Tensor
) -> dict[str, np.ndarray]:
    """Per run (n,) and step k from 1, `<measure>_<k>`: LPIPS to R_t+k, PSNR to O_t+k, state error."""
    by_step: dict[str, np.ndarray] = {}
    for k in range(predicted.shape[1]):
        rows = segments.pair_index[:, k]
        names = "rollout_lpips", "rollout_psnr", "rollout_state_mse"
        columns: dict[str, list[Tensor]] = {name: [] for name in names}
        for batch in torch.arange(len(rows)).split(32):
            frame = decoder.mae.decode(predicted[batch, k])
            s_next = segments.pairs.states[rows[batch], 1].to(predicted.device)
            o_next = segments.pairs.images[rows[batch], 1].to(predicted.device).float() / 255
            near = network(frame, decoder.mae.decode(s_next))
            error = (predicted[batch, k] - s_next).square().mean((1, 2))
            for name, values in zip(names, (near, psnr(frame, o_next), error), strict=True):
                columns[name].append(values.double().cpu())
        by_step |= {f"{name}_{k + 1}": torch.cat(parts).numpy() for name, parts in columns.items()}
    return by_step


@torch.no_grad()
def rollout_fvd(
    network: ClipNetwork, decoder: World, segments: RolloutSegments, predicted: Tensor
) -> dict[str, Estimate]:
    """Of predicted states (n, H, 1+N, D): the Fréchet distance of the clips of their H frames to the true
    ones as the MAE shows them (`fvd`) and as they are (`fvd_true`). No interval: it is no mean over runs.

    UserError for fewer frames than the network takes, and for a single run.
    """
    runs, length = predicted.shape[:2]
    fewest = network.protocol.fewest_frames
    if length < fewest or runs < 2:
        raise UserError(
            f"{network.protocol.name} needs at least 2 runs of at least {fewest} frames, and there are "
            f"{runs} of {length}: set horizon and rollouts"
        )
    parts: dict[str, list[Tensor]] = {"predicted": [], "fvd": [], "fvd_true": []}
    for rows in torch.arange(runs).split(RUNS_AT_ONCE):
        index = segments.pair_index[rows].flatten()
        true = segments.pairs.states[index, 1].to(predicted.device)
        clips = {
            "predicted": decoder.mae.decode(predicted[rows].flatten(0, 1)),
            "fvd": decoder.mae.decode(true),
            "fvd_true": segments.pairs.images[index, 1].to(predicted.device).float() / 255,
        }
        for name, frames in clips.items():
            parts[name].append(network.features(frames.clamp(0, 1).unflatten(0, (-1, length))))
    features = {name: torch.cat(batches) for name, batches in parts.items()}
    predicted_features = features.pop("predicted")
    return {
        name: Estimate(frechet_distance(predicted_features, target), runs, protocol=network.protocol.name)
        for name, target in features.items()
    }
