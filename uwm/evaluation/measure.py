"""Distances of predicted frames to the observations.

Every method predicts states; a state is shown by the frozen MAE and compared with O_t and O_t+1, both as the
MAE shows them (R_t and R_t+1, so that all are blurred alike, section 5.2) and as they are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from uwm.data.manifest import Manifest
from uwm.methods import COPY, ORACLE
from uwm.metrics.image import psnr, ssim
from uwm.metrics.perceptual import LPIPS, Features
from uwm.metrics.region import moving_region, region_lpips, region_psnr
from uwm.models.world import World


def in_batches(function: Callable[..., Any], *tensors: Tensor, size: int = 64) -> Any:
    """`function` over batches of the tensors; a tensor or a named tuple of tensors, joined again."""
    parts = [function(*batch) for batch in zip(*(t.split(size) for t in tensors), strict=True)]
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return type(parts[0])(*(torch.cat(field) for field in zip(*parts, strict=True)))


# Predictions against observations


@dataclass(frozen=True)
class Observed:
    """What the predictions of B pairs are compared with.

    `frames` and their LPIPS `features`: `o_t` and `o_next` as they are, `r_t` and `r_next` as the MAE shows
    them, (B, 3, S, S) in [0, 1]. `s_next` (B, 1+N, D).
    """

    frames: Mapping[str, Tensor]
    features: Mapping[str, Features]
    s_next: Tensor


class Predicted(NamedTuple):
    """One method's predictions of B pairs: states (B, 1+N, D), the frames that they show, their features.

    `drawn` and `drawn_features` are what is compared with the sharp observations: the same, but for a method
    that draws frames itself and whose states are the MAE's of these.
    """

    state: Tensor
    frame: Tensor
    features: Features
    drawn: Tensor
    drawn_features: Features


Measure = Callable[[LPIPS, Observed, Predicted], Mapping[str, Tensor]]


def frame_distances(network: LPIPS, observed: Observed, predicted: Predicted) -> dict[str, Tensor]:
    """The measures (B,) of Table 1.

    `lpips_to_current` and `lpips_to_next` compare with R_t and R_t+1, the observations blurred by the MAE
    (section 5.2); the `_true` ones, PSNR (dB) and SSIM with the frames themselves.
    """
    blurred, sharp = predicted.features, predicted.drawn_features
    return {
        "lpips_to_current": network.distance(blurred, observed.features["r_t"]),
        "lpips_to_next": network.distance(blurred, observed.features["r_next"]),
        "lpips_to_current_true": network.distance(sharp, observed.features["o_t"]),
        "lpips_to_next_true": network.distance(sharp, observed.features["o_next"]),
        "psnr": psnr(predicted.drawn, observed.frames["o_next"]),
        "ssim": ssim(predicted.drawn, observed.frames["o_next"]),
        "state_mse": (predicted.state - observed.s_next).square().mean((1, 2)),
    }


def region_distances(network: LPIPS, observed: Observed, predicted: Predicted) -> dict[str, Tensor]:
    """Measures (B,) over the moving region alone (`uwm.metrics.region`)."""
    region = moving_region(observed.frames["o_t"], observed.frames["o_next"])
    return {
        "lpips_region": region_lpips(network, predicted.features, observed.features["r_next"], region),
        "lpips_region_true": region_lpips(
            network, predicted.drawn_features, observed.features["o_next"], region
        ),
        "psnr_region": region_psnr(predicted.drawn, observed.frames["o_next"], region),
    }


class Measuring(NamedTuple):
    """What shows states (the world's MAE), what compares the frames, and the measures to take."""

    world: World
    network: LPIPS
    measures: Sequence[Measure] = (frame_distances,)


class FramePairs(NamedTuple):
    """The pairs of a manifest and their frames, uint8 (n, 2, 3, S, S); `name` is for the progress bar.

    `drawn`: by method, the frames (n, 3, S, S) in [0, 1] of those that draw their predictions themselves.
    """

    manifest: Manifest
    images: Tensor
    name: str = ""
    drawn: Mapping[str, Tensor] | None = None


def measure_pairs(
    how: Measuring,
    test: FramePairs,
    states: Mapping[str, Tensor],
    *,
    only: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    batch_size: int = 32,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Measure all methods on all pairs, and give the predicted frames of those to `keep`.

    `states` (n, 1+N, D) by method, among them `copy` (s_t) and `oracle` (s_t+1). The table has, per
    pair, `video`, `t0`, `t1`, `moving` (motion above the median), `motion` (LPIPS between O_t and O_t+1),
    `lpips_of_copy`, and `<method>/<measure>` for the methods in `only` (None: all).
    """
    tables, frames = [], []
    rows_of_batches = torch.arange(len(test.images)).split(batch_size)
    for rows in tqdm(rows_of_batches, desc=f"measure {test.name}", mininterval=10):
        part = {method: state[rows] for method, state in states.items()}
        images = test.images[rows].to(how.world.device)
        drawn = {method: frame[rows].to(images.device) for method, frame in (test.drawn or {}).items()}
        table, batch_frames = _measure_batch(how, images, part, drawn, only or list(states))
        tables.append(table)
        frames.append({method: batch_frames[method].cpu() for method in keep})
    pairs = pd.concat(
        [test.manifest.table[["video", "t0", "t1"]], pd.concat(tables, ignore_index=True)], axis=1
    )
    pairs.insert(3, "moving", pairs["motion"] > pairs["motion"].median())
    return pairs, {method: torch.cat([part[method] for part in frames]) for method in keep}


@torch.no_grad()
def _measure_batch(
    how: Measuring,
    images: Tensor,
    states: Mapping[str, Tensor],
    drawn: Mapping[str, Tensor],
    methods: Sequence[str],
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    world, network = how.world, how.network
    frames = {method: world.mae.decode(state) for method, state in states.items()}
    o_t, o_next = images.float().div(255).unbind(1)
    features = {name: network.features(x) for name, x in {**frames, "o_t": o_t, "o_next": o_next}.items()}
    observed = Observed(
        {"o_t": o_t, "o_next": o_next, "r_t": frames[COPY.name], "r_next": frames[ORACLE.name]},
        {"o_t": features["o_t"], "o_next": features["o_next"],
         "r_t": features[COPY.name], "r_next": features[ORACLE.name]},
        states[ORACLE.name],
    )  # fmt: skip
    columns = {
        "motion": network.distance(features["o_t"], features["o_next"]),
        "lpips_of_copy": network.distance(features[COPY.name], features[ORACLE.name]),
    }
    for method in methods:
        decoded = frames[method], features[method]
        sharp = (drawn[method], network.features(drawn[method])) if method in drawn else decoded
        predicted = Predicted(states[method], *decoded, *sharp)
        for measure in how.measures:
            measured = measure(network, observed, predicted)
            columns |= {f"{method}/{name}": value for name, value in measured.items()}
    return pd.DataFrame({name: value.double().cpu().numpy() for name, value in columns.items()}), frames
