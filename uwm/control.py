"""Does the gripper go where it is told? Where it is in a state, commands, and what is measured of both.

The gripper's place is read off states by a linear probe, so that predictions are measured where planning
would use them. The probe is fitted to true states alone, and its error on true test states is reported.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uwm.acting import Seen, Sight, seen_pairs
from uwm.adapt import Predict
from uwm.baselines.probe import Probe, fit_probe
from uwm.labelled import LabelledPairs
from uwm.metrics.statistics import Interval, bootstrap_mean
from uwm.models import WorldModel
from uwm.models.action_extractor import regions_of_patches
from uwm.training.objectives import derangement

REGIONS = 49  # a probe reads no more tokens than these: with more patches, their means
MILLIMETRES = 1000.0


@dataclass(frozen=True)
class Command:
    """A constant action in one dimension; `axis` of the gripper's place (metres; 3 is its opening) should
    then change in the direction `sign`."""

    dimension: int
    value: float  # as a share of the controller's range to either side
    axis: int
    sign: float


# For arms controlled by the pose of the hand, in 7 numbers: three of translation along the base's axes
# (forward, to its left, up), three of rotation, one of the gripper (1 closes it).
COMMANDS: Mapping[str, Command] = {
    "forward": Command(0, 1.0, 0, 1.0),
    "back": Command(0, -1.0, 0, -1.0),
    "left": Command(1, 1.0, 1, 1.0),
    "right": Command(1, -1.0, 1, -1.0),
    "up": Command(2, 1.0, 2, 1.0),
    "down": Command(2, -1.0, 2, -1.0),
    "open": Command(6, -1.0, 3, 1.0),
    "close": Command(6, 1.0, 3, -1.0),
}
POSE_NUMBERS = 7


def hand_known(pairs: LabelledPairs) -> bool:
    """Whether the gripper's place in the world is known in every frame."""
    return bool(np.isfinite(pairs.actions.hand_position).all())


def commandable(pairs: LabelledPairs) -> bool:
    """Whether COMMANDS mean something for these pairs."""
    known = hand_known(pairs) and bool(np.isfinite(pairs.actions.gripper).all())
    return known and pairs.actions.actions.shape[2] == POSE_NUMBERS


# The gripper's place in a state


@dataclass(frozen=True)
class HandProbe:
    """Reads the gripper's place (x, y, z in metres) and opening (0 to 1; 0 where unknown) off states."""

    probe: Probe

    def __call__(self, states: Tensor) -> Tensor:
        """States (n, 1+N, D) -> (n, 4) float64."""
        return self.probe.ridge(_features(states))

    def displacement(self, s_t: Tensor, s_next: Tensor) -> Tensor:
        """How the place changes between two states: (n, 4)."""
        return self(s_next) - self(s_t)


def fit_hand_probe(
    states: Tensor, pairs: LabelledPairs, held_out: Tensor, held_out_pairs: LabelledPairs
) -> HandProbe:
    """From the states (n, 2, 1+N, D) of pairs with a known hand; `held_out` ones choose the penalty."""
    fitted = fit_probe(
        _features(states.flatten(0, 1)),
        hand_places(pairs).flatten(0, 1),
        (_features(held_out.flatten(0, 1)), hand_places(held_out_pairs).flatten(0, 1)),
    )
    return HandProbe(fitted)


@functools.lru_cache(maxsize=2)
def hand_probe(sight: Sight, pairs: int) -> HandProbe:
    """The probe for the gripper's place, fitted to `pairs` training pairs."""
    fitted, held_out = (seen_pairs(sight, split, pairs, 0) for split in ("train", "validation"))
    return fit_hand_probe(fitted.states, fitted.pairs, held_out.states, held_out.pairs)


def hand_places(pairs: LabelledPairs) -> Tensor:
    """Place and opening in both frames: (n, 2, 4)."""
    opening = np.nan_to_num(pairs.actions.gripper)[..., None]
    return torch.from_numpy(np.concatenate([pairs.actions.hand_position, opening], axis=2))


def hand_errors(probe: HandProbe, pairs: LabelledPairs, s_t: Tensor, predicted: Tensor) -> Tensor:
    """Distance (n,) in mm between the predicted and the true displacement of the gripper."""
    places = hand_places(pairs)[..., :3].double()
    true = places[:, 1] - places[:, 0]
    return (probe.displacement(s_t, predicted)[:, :3] - true).norm(dim=1) * MILLIMETRES


def _features(states: Tensor) -> Tensor:
    patches = states[:, 1:].float().cpu()
    if patches.shape[1] > REGIONS:
        patches = regions_of_patches(patches, REGIONS)
    return patches.flatten(1)  # (n, regions * D)


# Commands


def commanded(pairs: LabelledPairs, command: Command) -> Tensor:
    """Control actions (n, T, A) that do nothing but what the command says, and hold the gripper as it was
    commanded before."""
    actions, mask = pairs.controls
    low, high = pairs.limits
    middle, reach = (low + high) / 2, (high - low) / 2
    given = middle.expand_as(actions).clone()
    given[..., POSE_NUMBERS - 1] = actions[..., POSE_NUMBERS - 1]
    given[..., command.dimension] = (middle + command.value * reach)[command.dimension]
    return given.masked_fill(~mask[..., None], 0.0)


@torch.no_grad()
def under_command(predict: Predict, seen: Seen, command: Command, device: torch.device) -> Tensor:
    """The predicted states (n, 1+N, D) when every pair's action is the command."""
    controls = (commanded(seen.pairs, command), seen.controls[1])
    parts = zip(seen.states[:, 0].split(64), *(control.split(64) for control in controls), strict=True)
    return torch.cat([predict(*(tensor.to(device) for tensor in part)) for part in parts])


def command_metrics(
    predict: Predict, probe: HandProbe, test: Seen, device: torch.device
) -> dict[str, Interval]:
    """How far the gripper moves as told: `control_<command>_mm` (open and close: the opening's change), and
    `control_success`, the share of frames and commands in which it moves that way."""
    found, right = {}, []
    for name, command in COMMANDS.items():
        predicted = under_command(predict, test, command, device)
        moved = probe.displacement(test.states[:, 0], predicted)[:, command.axis] * command.sign  # (n,)
        right.append((moved > 0).double())
        in_space = command.axis < 3
        values = moved.numpy() * (MILLIMETRES if in_space else 1.0)
        found[f"control_{name}" + "_mm" * in_space] = bootstrap_mean(values, test.clips)
    success = torch.stack(right, dim=1).mean(1).numpy()
    return {**found, "control_success": bootstrap_mean(success, test.clips)}


# Transfer


def donors(pairs: LabelledPairs) -> Tensor:
    """For each pair the pair of another clip whose gripper stands nearest in the picture: (n,) int64.

    Latent actions belong to places of the picture, so they can only mean the same where the gripper is near.
    """
    place = torch.from_numpy(pairs.actions.hand[:, 0]).double()  # (n, 2)
    clips = pairs.manifest.table["video"].astype("category").cat.codes.to_numpy(copy=True)
    same = torch.from_numpy(clips[:, None] == clips[None])
    return torch.cdist(place, place).masked_fill(same, torch.inf).argmin(1)


@torch.no_grad()
def transferred(world_model: WorldModel, s_t: Tensor, given: Tensor, device: torch.device) -> Tensor:
    """Next states (n, 1+N, D) of `s_t` by the latent actions of other pairs, `given` (n, 2, 1+N, D)."""
    parts = []
    for here, there in zip(s_t.split(64), given.split(64), strict=True):
        latents = world_model.infer_actions(*there.to(device).unbind(1))
        parts.append(world_model.predict(here.to(device), latents.quantized))
    return torch.cat(parts)


def transfer_metrics(
    world_model: WorldModel, probe: HandProbe, test: Seen, device: torch.device
) -> dict[str, Interval]:
    """Distance (mm) between how the gripper moves by a donor's latent actions and how it moved in the donor:
    from the nearest donor, from any one, and were it to stand still."""
    places = hand_places(test.pairs)[..., :3].double()
    moved = places[:, 1] - places[:, 0]  # (n, 3)
    nearest = donors(test.pairs)
    anyone = derangement(len(moved), torch.Generator().manual_seed(0))
    found = {"transfer_still_mm": moved[nearest]}
    for name, donor in (("transfer_mm", nearest), ("transfer_random_mm", anyone)):
        predicted = transferred(world_model, test.states[:, 0], test.states[donor], device)
        found[name] = probe.displacement(test.states[:, 0], predicted)[:, :3] - moved[donor]
    return {
        name: bootstrap_mean(error.norm(dim=1).numpy() * MILLIMETRES, test.clips)
        for name, error in found.items()
    }
