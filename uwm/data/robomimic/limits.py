"""The range of a robot's actions: as its controller has it, or by a user's explicit choice.

    NAME=FILE.hdf5                   the controller's range; an action beyond it is an error
    NAME:actions-clip=FILE.hdf5      actions beyond it are cut to it
    NAME:actions-rescale=FILE.hdf5   all actions times one number, so that the largest fits into it
    NAME:actions-measured=FILE.hdf5  the range that they have, of each number for itself
    NAME:actions-file=FILE.hdf5      the range that the file tells; one that tells none is refused

Physical units and absolute poses, which no controller's range fits, are for `measured`. It and `rescale` look
at the training clips alone, so that a training knows nothing of the held-out ones; at all clips where none is
trained on. A held-out action beyond that range stays as it is: the models scale actions, and cut none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from uwm.data.robomimic.hdf5 import demo_names, env_args, open_demos, within
from uwm.errors import UserError

Floats = NDArray[np.float32]
TOLERANCE = 1e-5  # beyond the range, as 32-bit numbers round
SMALLEST = 1e-6  # width of a measured range; a number that never changes gets 1 to each side
MOST_NUMBERS = 100_000_000  # in the actions of one demonstration
WAYS = "NAME:actions-clip=..., actions-rescale or actions-measured"


@dataclass(frozen=True)
class ActionRange:
    """low, high (A,) float32; actions are multiplied by `factor` first, and cut to the range if `clip`.

    An action beyond it is an error, unless it was `measured`, of clips that need not be all.
    """

    low: Floats
    high: Floats
    factor: float = 1.0
    clip: bool = False
    measured: bool = False


Demos = Sequence[tuple[Path, str]]  # each by its file and name


def action_range(choice: str | None, demos: Demos, trained: Demos) -> ActionRange:
    """The range of the actions of some demos, of which some are `trained` on.

    Without a choice it is the controller's, or measured where the file says so.

    Raises:
        UserError: files disagree on it; a training demo has no such actions.
    """
    files = list(dict.fromkeys(path for path, _ in demos))
    low, high = _told(files, required=choice == "file")
    if choice is None and _is_for_measuring(files[0]):
        choice = "measured"
    if choice in (None, "controller", "file"):
        return ActionRange(low, high)
    if choice == "clip":
        return ActionRange(low, high, clip=True)
    least, most = measured(trained or demos, len(low))
    if choice == "measured":
        still = most - least < SMALLEST
        low, high = np.where(still, least - 1, least), np.where(still, most + 1, most)
        return ActionRange(low, high, measured=True)
    beyond = max(
        float(np.max(most / np.maximum(high, SMALLEST))), float(np.max(least / np.minimum(low, -SMALLEST)))
    )
    return ActionRange(low, high, factor=1 / max(beyond, SMALLEST), measured=True)


def _is_for_measuring(path: Path) -> bool:
    with open_demos(path) as file:
        return bool(file["data"].attrs.get("action_range") == "measured")


def _told(files: Sequence[Path], *, required: bool) -> tuple[Floats, Floats]:
    ranges = []
    for path in files:
        with open_demos(path) as file:
            if required and not _tells_range(file):
                raise UserError(f"{path}: tells no range of its actions: choose controller or measured")
            ranges.append(action_limits(file))
    low, high = ranges[0]
    for path, (other_low, other_high) in zip(files, ranges, strict=True):
        if other_low.shape != low.shape or not np.array_equal([other_low, other_high], [low, high]):
            raise UserError(f"{path}: its actions have another size or range than those of {files[0].name}; "
                            "give each robot a name of its own")  # fmt: skip
    return low, high


def measured(demos: Demos, size: int) -> tuple[Floats, Floats]:
    """The least and the largest value of each number of an action (A,), over these demos."""
    least, most = np.full(size, np.inf, np.float32), np.full(size, -np.inf, np.float32)
    for path in dict.fromkeys(path for path, _ in demos):
        with open_demos(path) as file:
            for name in (demo for where, demo in demos if where == path):
                actions = read_actions(file, name)
                _check_shape(path, name, actions, size)
                _check_numbers(path, name, actions)
                least, most = np.minimum(least, actions.min(0)), np.maximum(most, actions.max(0))
    return least, most


def _controller(file: h5py.File) -> dict[str, Any]:
    """The controller's settings as robosuite wrote them; empty where there are none."""
    config = env_args(file)["env_kwargs"].get("controller_configs") or {}
    config = config[0] if isinstance(config, list) else config
    return config if isinstance(config, dict) else {}


def _tells_range(file: h5py.File) -> bool:
    return "action_low" in file["data"].attrs or "input_min" in _controller(file)


def action_limits(file: h5py.File) -> tuple[Floats, Floats]:
    """The controller's range (A,): as stored, or as in `controller_configs`, or robosuite's -1 to 1."""
    data, config = file["data"], _controller(file)
    size = read_actions(file, demo_names(file)[0]).shape[-1]
    ends = ({"action_low", "action_high"} & set(data.attrs), {"input_min", "input_max"} & set(config))
    if lone := next((names for names in ends if len(names) == 1), None):
        (name,) = lone
        raise UserError(f"{file.filename}: tells {name} of the actions and not the other end of the range")
    low = data.attrs.get("action_low", config.get("input_min", -1))
    high = data.attrs.get("action_high", config.get("input_max", 1))
    try:
        low, high = (np.broadcast_to(np.asarray(limit, np.float32), (size,)).copy() for limit in (low, high))
    except (ValueError, TypeError):
        raise UserError(
            f"{file.filename}: the range of actions has not the {size} numbers of an action"
        ) from None
    if not np.all(low < high):  # false for NaN too
        raise UserError(
            f"{file.filename}: the range of actions is empty: low {low.min():g}, high {high.max():g}"
        )
    return low, high


def read_actions(file: h5py.File, name: str) -> Floats:
    """The actions of one demo (N,A), as stored."""
    stored = within(file, f"data/{name}/actions")
    if not isinstance(stored, h5py.Dataset):
        raise UserError(f"{file.filename}: cannot be read as demonstrations ({name} has no actions)")
    if stored.size > MOST_NUMBERS or stored.dtype.kind not in "fiu" or stored.ndim < 1:
        raise UserError(
            f"{file.filename}: {name} has actions {stored.shape} of {stored.dtype}, not (N, A) numbers"
        )
    return np.asarray(stored[()], np.float32)


def fitted(path: Path, name: str, actions: Floats, chosen: ActionRange) -> Floats:
    """Actions (N,A) in the chosen range. `UserError` as `check_actions`."""
    _check_shape(path, name, actions, len(chosen.low))
    if chosen.clip:
        _check_numbers(path, name, actions)
        return np.clip(actions, chosen.low, chosen.high)
    scaled = (actions * np.float32(chosen.factor)).astype(np.float32)
    if chosen.measured:
        _check_numbers(path, name, scaled)
    else:
        check_actions(path, name, scaled, chosen.low, chosen.high)
    return scaled


def check_actions(path: Path, name: str, actions: Floats, low: Floats, high: Floats) -> None:
    """`UserError` for actions that are not (N,A), not numbers, or beyond the range."""
    _check_shape(path, name, actions, len(low))
    _check_numbers(path, name, actions)
    slack = TOLERANCE * np.maximum(1, np.maximum(np.abs(low), np.abs(high)))
    outside = (actions < low - slack) | (actions > high + slack)
    if outside.any():
        step, part = np.argwhere(outside)[0]
        raise UserError(
            f"{path}: {name}, step {step}: action {part} is {actions[step, part]:g}, out of the controller's "
            f"range [{low[part]:g}, {high[part]:g}] ({outside.mean():.1%} of the values are); choose {WAYS}"
        )


def check_numbers(path: Path, name: str, actions: Floats, size: int) -> None:
    """`UserError` for actions that are not (N,A), or not numbers; any range will do."""
    _check_shape(path, name, actions, size)
    _check_numbers(path, name, actions)


def _check_shape(path: Path, name: str, actions: Floats, size: int) -> None:
    if actions.ndim != 2 or actions.shape[1] != size or not actions.size:
        raise UserError(f"{path}: {name} has actions {actions.shape}, the first demo has {size} numbers each")


def _check_numbers(path: Path, name: str, actions: Floats) -> None:
    if not np.isfinite(actions).all():
        step, part = np.argwhere(~np.isfinite(actions))[0]
        raise UserError(f"{path}: {name}, step {step}: action {part} is {actions[step, part]:g}, no number")
