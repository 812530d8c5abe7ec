"""Does the predicted arm move as commanded? Predictions under constant commands."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uwm.data.action_pairs import ActionPairs
from uwm.evaluation.eval_pairs import EvalPairs
from uwm.evaluation.probes import MM_PER_METRE, EefProbe, has_eef_pos
from uwm.models.dynamics import DynamicsFunction


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


def commandable(pairs: ActionPairs) -> bool:
    """Whether COMMANDS mean something for these pairs."""
    known = has_eef_pos(pairs) and bool(np.isfinite(pairs.actions.gripper_opening).all())
    return known and pairs.actions.actions.shape[2] == POSE_NUMBERS


# Commands


def commanded(pairs: ActionPairs, command: Command) -> Tensor:
    """Control actions (n, T, A) that hold nothing but the command; the gripper is told what it was told."""
    actions, mask = pairs.controls
    low, high = pairs.limits
    middle, reach = (low + high) / 2, (high - low) / 2
    given = middle.expand_as(actions).clone()
    given[..., POSE_NUMBERS - 1] = actions[..., POSE_NUMBERS - 1]
    given[..., command.dimension] = (middle + command.value * reach)[command.dimension]
    return given.masked_fill(~mask[..., None], 0.0)


@torch.no_grad()
def under_command(
    predict: DynamicsFunction, pairs: EvalPairs, command: Command, device: torch.device
) -> Tensor:
    """The predicted states (n, 1+N, D) when every pair's action is the command."""
    controls = (commanded(pairs.pairs, command), pairs.controls[1])
    parts = zip(pairs.states[:, 0].split(64), *(control.split(64) for control in controls), strict=True)
    return torch.cat([predict(*(tensor.to(device) for tensor in part)) for part in parts])


def command_columns(
    predict: DynamicsFunction, probe: EefProbe, test: EvalPairs, device: torch.device
) -> dict[str, np.ndarray]:
    """Per pair (n,), how far the gripper moves as told: `control_<command>_mm` (open and close: the opening's
    change), and `control_success`, the share of commands by which it moves that way."""
    columns, right = {}, []
    for name, command in COMMANDS.items():
        predicted = under_command(predict, test, command, device)
        moved = probe.displacement(test.states[:, 0], predicted)[:, command.axis] * command.sign  # (n,)
        right.append((moved > 0).double())
        in_space = command.axis < 3
        values = moved.numpy() * (MM_PER_METRE if in_space else 1.0)
        columns[f"control_{name}" + "_mm" * in_space] = values
    return {**columns, "control_success": torch.stack(right, dim=1).mean(1).numpy()}
