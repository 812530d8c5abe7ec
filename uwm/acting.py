"""How each method of Figure 5 predicts from actions, and what is measured of it besides single frames."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from uwm.adapt import Predict
from uwm.baselines.probe import Probe, fit_probe
from uwm.data.corpora import Corpus
from uwm.labelled import FrozenEncoder, LabelledPairs, encoded, evaluation_images, with_actions
from uwm.metrics.image import psnr
from uwm.metrics.perceptual import LPIPS
from uwm.metrics.statistics import Interval, bootstrap_mean, bootstrap_ratio
from uwm.models import ActionAdapter, LatentActions, WorldModel
from uwm.rollouts import Step, chained, continued, rolled_out
from uwm.stages import World, frozen_pairs


@dataclass(frozen=True)
class Sight:
    """How pairs of a corpus are seen: the encoder, the frames' size before the crop, the gap."""

    encoder: FrozenEncoder
    corpus: Corpus
    short_side: int
    gap: float


class Seen(NamedTuple):
    """Labelled pairs with their frames, uint8 (n, 2, 3, S, S), and states (n, 2, 1+N, D)."""

    pairs: LabelledPairs
    images: Tensor
    states: Tensor

    @property
    def controls(self) -> tuple[Tensor, Tensor]:
        """Actions (n, T, A) and their mask (n, T)."""
        return self.pairs.controls

    @property
    def clips(self) -> np.ndarray:
        """The clip of each pair."""
        return self.pairs.manifest.table["video"].to_numpy()

    def part(self, rows: Sequence[int]) -> "Seen":
        """Some of the pairs."""
        index = torch.tensor(list(rows))
        return Seen(self.pairs.part(rows), self.images[index], self.states[index])


@functools.lru_cache(maxsize=6)
def seen_pairs(sight: Sight, split: str, pairs: int | None, seed: int) -> Seen:
    """`pairs` of a split, evenly over its clips."""
    manifest = frozen_pairs(sight.corpus, split, sight.gap, pairs, seed)
    return _seen(sight, with_actions(sight.corpus, manifest), split)


class Chains(NamedTuple):
    """Runs of K pairs, each from where the one before ends: the pairs, and their places (n, K) among them."""

    seen: Seen
    places: Tensor

    @property
    def clips(self) -> np.ndarray:
        """The clip of each run."""
        return self.seen.clips[self.places[:, 0].numpy()]


@functools.lru_cache(maxsize=2)
def seen_chains(sight: Sight, split: str, horizon: int, most: int) -> Chains:
    """Up to `most` runs of `horizon` pairs, evenly over those that a split has."""
    manifest, places = chained(frozen_pairs(sight.corpus, split, sight.gap, None, 0), horizon, most)
    return Chains(_seen(sight, with_actions(sight.corpus, manifest), f"{split}, runs"), places)


@functools.lru_cache(maxsize=2)
def seen_ahead(sight: Sight, split: str, steps: int, pairs: int, seed: int) -> tuple[Seen, Chains]:
    """`pairs` frames of a split, evenly over its clips, each with the one `steps` steps later; and the steps
    between."""
    corpus, far = sight.corpus, round(steps * sight.gap, 6)
    starts = frozen_pairs(corpus, split, far, pairs, seed)
    manifest, places, ends = continued(frozen_pairs(corpus, split, sight.gap, None, 0), starts, steps)
    chains = Chains(_seen(sight, with_actions(corpus, manifest), f"{split}, steps"), places)
    return _seen(sight, with_actions(corpus, ends), f"{split}, {steps} steps ahead"), chains


def _seen(sight: Sight, pairs: LabelledPairs, name: str) -> Seen:
    images = evaluation_images(pairs, sight.short_side, sight.encoder.image_size)
    name = f"{sight.corpus.name} {name}"
    return Seen(pairs, images, encoded(sight.encoder, images, name, dtype=torch.float32))


# Methods


class Situation(NamedTuple):
    """What a method may know of B steps. `now` is where it stands, a predicted state in a rollout; `s_t` and
    `s_next` are the true states; each (B, 1+N, D). `actions` (B, T, A) and `mask` (B, T) are the robot's."""

    now: Tensor
    s_t: Tensor
    s_next: Tensor
    actions: Tensor
    mask: Tensor


class Acted(NamedTuple):
    """The next state (B, 1+N, D), and the latent actions, where the method has some."""

    state: Tensor
    latents: LatentActions | None = None


Act = Callable[[Situation], Acted]


def still(situation: Situation) -> Acted:
    """The copy."""
    return Acted(situation.now)


def knowing(situation: Situation) -> Acted:
    """The oracle."""
    return Acted(situation.s_next)


def by_latent_actions(world_model: WorldModel) -> Act:
    """R_LA: the latent actions between the true states."""

    def act(situation: Situation) -> Acted:
        latents = world_model.infer_actions(situation.s_t, situation.s_next)
        return Acted(world_model.predict(situation.now, latents.quantized), latents)

    return act


def by_adapter(world_model: WorldModel, adapter: ActionAdapter) -> Act:
    """R_GT: the robot's actions through the adapter."""

    def act(situation: Situation) -> Acted:
        latents = adapter.infer_actions(
            situation.now, situation.actions, situation.mask, world_model.quantizer
        )
        return Acted(world_model.predict(situation.now, latents.quantized), latents)

    return act


def by_dynamics(predict: Predict) -> Act:
    """The robot's actions, with no latent ones between."""
    return lambda situation: Acted(predict(situation.now, situation.actions, situation.mask))


def controlled(act: Act) -> Predict:
    """A method that knows nothing but the present state and the robot's actions, as a function of these."""

    def predict(s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
        return act(Situation(s_t, s_t, s_t, actions, mask)).state

    return predict


@torch.no_grad()
def acted(act: Act, seen: Seen, device: torch.device, other: Tensor | None = None) -> Acted:
    """A method on all pairs, in batches; `other` (n,) names for each pair the one whose action it gets."""
    actions, mask = seen.controls
    if other is not None:
        actions, mask = actions[other], mask[other]
    parts = []
    for rows in torch.arange(len(seen.states)).split(64):
        s_t, s_next = seen.states[rows].to(device).unbind(1)
        parts.append(act(Situation(s_t, s_t, s_next, actions[rows].to(device), mask[rows].to(device))))
    state = torch.cat([part.state for part in parts])
    found = [part.latents for part in parts if part.latents is not None]
    latents = LatentActions(*(torch.cat(field) for field in zip(*found, strict=True))) if found else None
    return Acted(state, latents)


# Latent actions


def latent_measures(latents: LatentActions, wanted: LatentActions) -> dict[str, Tensor]:
    """Of each pair (n,): the share of right codes, and the mean squared error to A_L."""
    return {
        "code_accuracy": (latents.codes == wanted.codes).double().mean(1),
        "latent_mse": (latents.continuous - wanted.continuous).square().mean((1, 2)).double(),
    }


def mean_controls(pairs: LabelledPairs) -> Tensor:
    """The mean control action (n, A) of each pair."""
    actions, mask = pairs.controls
    return (actions * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def reverse_probe(act: Act, fitted: Seen, held_out: Seen, test: Seen, device: torch.device) -> Interval:
    """R^2 of a linear probe from the discrete latent actions to the mean control action, over all of its
    dimensions that vary, each scaled to unit variance; with an interval over clips."""
    features, targets = [], []
    for seen in (fitted, held_out, test):
        latents = acted(act, seen, device).latents
        assert latents is not None
        features.append(latents.quantized.flatten(1).cpu())
        targets.append(mean_controls(seen.pairs).double())
    varies = targets[2].std(0) > 0
    spread = targets[2].std(0)[varies]
    scaled = [target[:, varies] / spread for target in targets]
    probe: Probe = fit_probe(features[0], scaled[0], (features[1], scaled[1]))
    residual = (probe.ridge(features[2]) - scaled[2]).square().sum(1)
    total = (scaled[2] - scaled[2].mean(0)).square().sum(1)
    unexplained = bootstrap_ratio(residual.numpy(), total.numpy(), test.clips)
    return Interval(
        1 - unexplained.estimate,
        1 - unexplained.high,
        1 - unexplained.low,
        unexplained.n,
        unexplained.clusters,
    )


# Rollouts


def rollout(
    act: Act, chains: Chains, device: torch.device, other: Tensor | None = None, size: int = 64
) -> Tensor:
    """States (n, K, 1+N, D) predicted 1 to K steps after the first frame of each run; `other` (n,) names for
    each run the one whose actions it gets."""
    states, (actions, mask) = chains.seen.states, chains.seen.controls
    acting = chains.places if other is None else chains.places[other]  # (n, K)
    parts = []
    for places, doing in zip(chains.places.split(size), acting.split(size), strict=True):

        def step(now: Tensor, k: int, places: Tensor = places, doing: Tensor = doing) -> Tensor:
            s_t, s_next = states[places[:, k]].to(device).unbind(1)
            controls = actions[doing[:, k]].to(device), mask[doing[:, k]].to(device)
            return act(Situation(now, s_t, s_next, *controls)).state

        start: Step = step
        parts.append(rolled_out(start, states[places[:, 0], 0].to(device), places.shape[1]))
    return torch.cat(parts)


@torch.no_grad()
def rollout_measures(
    network: LPIPS, shown: World, chains: Chains, predicted: Tensor
) -> dict[str, list[Interval]]:
    """Per step k from 1: LPIPS to R_t+k, PSNR to O_t+k and state error, with intervals over clips."""
    found: dict[str, list[Interval]] = {"rollout_lpips": [], "rollout_psnr": [], "rollout_state_mse": []}
    for k in range(predicted.shape[1]):
        rows = chains.places[:, k]
        columns: dict[str, list[Tensor]] = {name: [] for name in found}
        for some in torch.arange(len(rows)).split(32):
            frame = shown.mae.decode(predicted[some, k])
            s_next = chains.seen.states[rows[some], 1].to(predicted.device)
            o_next = chains.seen.images[rows[some], 1].to(predicted.device).float() / 255
            near = network(frame, shown.mae.decode(s_next))
            error = (predicted[some, k] - s_next).square().mean((1, 2))
            for name, values in zip(found, (near, psnr(frame, o_next), error), strict=True):
                columns[name].append(values.double().cpu())
        for name, parts in columns.items():
            found[name].append(bootstrap_mean(torch.cat(parts).numpy(), chains.clips))
    return found
