"""Latent actions of one clip, used on the frames of another."""

import numpy as np
import torch
from torch import Tensor

from uwm.baselines.reader import StateReader
from uwm.data.action_pairs import ActionPairs
from uwm.evaluation.actions import ActionModel, DrawingModel
from uwm.evaluation.eval_pairs import EvalPairs
from uwm.evaluation.gripper import moved_in_picture
from uwm.evaluation.probes import MM_PER_METRE, EefProbe, eef_positions
from uwm.training.objectives import derangement

# Transfer


def donors(pairs: ActionPairs) -> Tensor:
    """For each pair the pair of another clip whose gripper stands nearest in the picture: (n,) int64.

    Latent actions belong to places of the picture, so they can only mean the same where the gripper is near.
    """
    eef_in_picture = torch.from_numpy(pairs.actions.eef_in_picture[:, 0]).double()  # (n, 2)
    clips = pairs.manifest.table["video"].astype("category").cat.codes.to_numpy(copy=True)
    same = torch.from_numpy(clips[:, None] == clips[None])
    return torch.cdist(eef_in_picture, eef_in_picture).masked_fill(same, torch.inf).argmin(1)


def seen_by(model: ActionModel, pairs: EvalPairs) -> Tensor:
    """What a model reads of both frames of pairs: states (n, 2, 1+N, D), or frames, uint8 (n, 2, 3, S, S)."""
    return pairs.images if isinstance(model, DrawingModel) else pairs.states


@torch.no_grad()
def transferred(model: ActionModel, now: Tensor, given: Tensor, device: torch.device) -> Tensor:
    """Next states (n, 1+N, D) of `now` (n, ...) by the latent actions of other pairs, `given` (n, 2, ...);
    both as the model reads them (`seen_by`)."""
    parts = []
    for here, there in zip(now.split(64), given.split(64), strict=True):
        latents = model.infer_actions(*there.to(device).unbind(1))
        parts.append(model.predict(here.to(device), latents.quantized))
    return torch.cat(parts)


def transfer_in_picture(
    model: ActionModel, reader: StateReader, test: EvalPairs, eef_px: Tensor, device: torch.device
) -> dict[str, np.ndarray]:
    """As `transfer_columns`, in pixels (n,): these can be compared between cameras.

    `eef_px` (n, 2, 2): the gripper's true ones.
    """
    moved, nearest = eef_px[:, 1] - eef_px[:, 0], donors(test.pairs)  # (n, 2)
    states = seen_by(model, test)
    predicted = transferred(model, states[:, 0], states[nearest], device)
    error = moved_in_picture(reader, test.states[:, 0], predicted) - moved[nearest]
    offsets = {"transfer_px": error, "transfer_still_px": moved[nearest]}
    return {name: distance.norm(dim=1).numpy() for name, distance in offsets.items()}


def transfer_columns(
    model: ActionModel, probe: EefProbe, test: EvalPairs, device: torch.device
) -> dict[str, np.ndarray]:
    """Distance (n,) in mm between how the gripper moves by a donor's latent actions and how it moved in the
    donor: from the nearest donor, from any one, and were it to stand still."""
    eef_pos = eef_positions(test.pairs)[..., :3].double()
    moved = eef_pos[:, 1] - eef_pos[:, 0]  # (n, 3)
    nearest = donors(test.pairs)
    anyone = derangement(len(moved), torch.Generator().manual_seed(0))
    errors, states = {"transfer_still_mm": moved[nearest]}, seen_by(model, test)
    for name, donor in (("transfer_mm", nearest), ("transfer_random_mm", anyone)):
        predicted = transferred(model, states[:, 0], states[donor], device)
        errors[name] = probe.displacement(test.states[:, 0], predicted)[:, :3] - moved[donor]
    return {name: error.norm(dim=1).numpy() * MM_PER_METRE for name, error in errors.items()}
