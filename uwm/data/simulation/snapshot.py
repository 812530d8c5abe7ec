"""Keeping where a simulation stands, to go on from there later exactly as if nothing had happened between."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from uwm.data.simulation.robot_scene import Array, RobotScene

_PLAIN = (np.ndarray, float, int, bool, type(None))


@dataclass(frozen=True)
class Snapshot:
    """MuJoCo's integration state (n,), and what controllers, gripper and environment remember besides."""

    state: Array
    memory: list[dict[str, Any]]


def save(scene: RobotScene) -> Snapshot:
    """Where the scene stands after a reset or a step."""
    import mujoco

    data, kind = scene.env.sim.data._data, mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(scene.model, kind))
    mujoco.mj_getState(scene.model, data, state, kind)
    return Snapshot(state, [_plain_fields(part) for part in _remembering(scene)])


def restore(scene: RobotScene, snapshot: Snapshot) -> None:
    """Puts the scene back; what follows is bit-identical to what would have followed when it was saved."""
    import mujoco

    data, kind = scene.env.sim.data._data, mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(scene.model, data, snapshot.state, kind)
    scene.env.sim.forward()  # places and pictures of that state
    # Again: the solver of `forward` leaves a warm start of its own, which the next step would begin from.
    mujoco.mj_setState(scene.model, data, snapshot.state, kind)
    for part, fields in zip(_remembering(scene), snapshot.memory, strict=True):
        vars(part).update(copy.deepcopy(fields))


def _remembering(scene: RobotScene) -> Iterator[Any]:
    """The Python objects whose numbers change as an environment is stepped, and change its physics."""
    yield scene.env
    for robot in scene.env.robots:
        yield from robot.composite_controller.part_controllers.values()
        yield from robot.gripper.values()


def _plain_fields(part: Any) -> dict[str, Any]:
    return {name: copy.deepcopy(value) for name, value in vars(part).items() if isinstance(value, _PLAIN)}
