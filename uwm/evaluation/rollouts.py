"""Predictions several steps ahead, each from what the one before predicted."""

import numpy as np
import torch
from torch import Tensor

from uwm.evaluation.eval_pairs import RolloutSegments
from uwm.evaluation.predictors import Predictor, Step
from uwm.metrics.image import psnr
from uwm.metrics.perceptual import LPIPS
from uwm.models.world import World


@torch.no_grad()
def roll_out(
    predictor: Predictor,
    segments: RolloutSegments,
    device: torch.device,
    other: Tensor | None = None,
    size: int = 64,
) -> Tensor:
    """States (n, K, 1+N, D) predicted 1 to K steps after the first frame of each segment.

    `other` (n,) names for each segment the one whose actions it gets.
    """
    states, (actions, mask) = segments.pairs.states, segments.pairs.controls
    acting = segments.places if other is None else segments.places[other]  # (n, K)
    parts = []
    for places, doing in zip(segments.places.split(size), acting.split(size), strict=True):
        now, predicted = states[places[:, 0], 0].to(device), []
        for k in range(places.shape[1]):
            s_t, s_next = states[places[:, k]].to(device).unbind(1)
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
    found: dict[str, np.ndarray] = {}
    for k in range(predicted.shape[1]):
        rows = segments.places[:, k]
        names = "rollout_lpips", "rollout_psnr", "rollout_state_mse"
        columns: dict[str, list[Tensor]] = {name: [] for name in names}
        for some in torch.arange(len(rows)).split(32):
            frame = decoder.mae.decode(predicted[some, k])
            s_next = segments.pairs.states[rows[some], 1].to(predicted.device)
            o_next = segments.pairs.images[rows[some], 1].to(predicted.device).float() / 255
            near = network(frame, decoder.mae.decode(s_next))
            error = (predicted[some, k] - s_next).square().mean((1, 2))
            for name, values in zip(names, (near, psnr(frame, o_next), error), strict=True):
                columns[name].append(values.double().cpu())
        found |= {f"{name}_{k + 1}": torch.cat(parts).numpy() for name, parts in columns.items()}
    return found
