"""Arm policies for the simulated corpora: fast smooth exploration mixed with scripted handling of objects.

All positions are metres in the world frame, all policies act at the control rate (20 Hz). An action is a
(7,) array in [-1, 1]: displacement and rotation in the frame of the robot's base, then the gripper
(closed is positive). Arms without a gripper have 6 numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

RobosuiteObservation = Mapping[str, np.ndarray]

SPEED_FLOOR = 0.8
"""Smallest share of the full speed that a moving arm is asked for, so that hardly any frame repeats."""

RADIANS_PER_UNIT = 0.5


@dataclass(frozen=True)
class Workspace:
    """The axis-aligned box that keeps a gripper in front of the camera.

    Args:
        low: (3,) smallest coordinates, metres.
        high: (3,) largest coordinates, metres.
        table: height of the table top, metres.
    """

    low: np.ndarray
    high: np.ndarray
    table: float

    @property
    def centre(self) -> np.ndarray:
        """(3,) middle of the box, metres."""
        return (self.low + self.high) / 2

    def sample(self, rng: np.random.Generator) -> np.ndarray:
        """Returns (3,) a point uniform in the box, metres."""
        return rng.uniform(self.low, self.high)


def workspace_around(home: np.ndarray, base: np.ndarray, table: float) -> Workspace:
    """Returns the box of one arm.

    Args:
        home: (3,) gripper position after the reset, metres.
        base: (3, 3) orientation of the robot's base in the world; the first column points forward.
        table: height of the table top, metres.
    """
    middle = home + base @ np.array([0.07, 0.0, -0.02])
    half = np.abs(base) @ np.array([0.15, 0.22, 0.13])
    low, high = middle - half, middle + half
    low[2] = max(low[2], table + 0.02)
    high[2] = max(high[2], low[2] + 0.2)
    return Workspace(low, high, table)


class Explorer:
    """Ornstein-Uhlenbeck velocity in end-effector space, turned back at the walls of the workspace."""

    def __init__(self, rng: np.random.Generator, workspace: Workspace) -> None:
        self._rng = rng
        self._workspace = workspace
        self._velocity = rng.standard_normal(3)
        self._trail: list[np.ndarray] = []
        self.closed = False

    def velocity(self, eef_pos: np.ndarray) -> np.ndarray:
        """Returns (3,) the wished velocity in [-1, 1] of full speed, for a hand at `eef_pos`: (3,) metres."""
        self._velocity += -0.12 * self._velocity + 0.42 * self._rng.standard_normal(3)
        self._leave_dead_ends(eef_pos)
        beyond = np.clip((self._workspace.low - eef_pos) / 0.04, 0, 1) - np.clip(
            (eef_pos - self._workspace.high) / 0.04, 0, 1
        )
        self._velocity = np.where(beyond != 0, 0.8 * np.sign(beyond), self._velocity)
        if self._rng.random() < 0.03:
            self.closed = not self.closed
        wished = np.where(beyond != 0, beyond, self._velocity)
        return at_least(wished, SPEED_FLOOR)

    def _leave_dead_ends(self, eef_pos: np.ndarray) -> None:
        """Picks a new direction when a joint limit or a collision has held the hand for 0.2 s."""
        self._trail = [*self._trail[-3:], eef_pos.copy()]
        if len(self._trail) == 4 and np.linalg.norm(self._trail[-1] - self._trail[0]) < 0.02:
            towards = self._workspace.sample(self._rng) - eef_pos
            self._velocity = towards / (np.linalg.norm(towards) + 1e-6)
            self._trail = []


class Handler:
    """Reach, descend, grasp, lift, carry, lower, release and retreat, again and again.

    One time in five the reach misses on purpose, so that objects are also pushed.
    """

    _STEPS = (22, 12, 4, 10, 22, 10, 3, 8)
    _CLOSED = (False, False, True, True, True, True, False, False)

    def __init__(self, rng: np.random.Generator, workspace: Workspace, objects: tuple[str, ...]) -> None:
        self._rng = rng
        self._workspace = workspace
        self._objects = objects
        self.restart()

    def restart(self) -> None:
        """Chooses an object, a goal and an error, and starts with the reach."""
        self._name = self._rng.choice(self._objects) if self._objects else ""
        self._spot = self._workspace.sample(self._rng) * [1, 1, 0] + [0, 0, self._workspace.table + 0.02]
        misses = self._rng.random() < 0.2
        self._error = self._rng.normal(0, 0.05 if misses else 0.004, 3) * [1, 1, 0]
        self._goal = self._workspace.sample(self._rng)
        self._gain = self._rng.uniform(8, 14)
        self._phase, self._step, self._yaw = 0, 0, 0.0

    @property
    def closed(self) -> bool:
        """Whether the gripper is to be closed."""
        return self._CLOSED[self._phase]

    @property
    def yaw(self) -> float:
        """Turn about the vertical that lines the fingers up with the object, radians in [-pi/4, pi/4]."""
        return self._yaw

    def velocity(self, eef_pos: np.ndarray, observation: RobosuiteObservation) -> np.ndarray:
        """Returns (3,) the wished velocity in [-1, 1] of full speed, for a hand at `eef_pos`: (3,) metres."""
        target = self._target(eef_pos, observation)
        offset = target - eef_pos
        distance = float(np.linalg.norm(offset))
        self._step += 1
        arrived = distance < (0.015 if self._phase == 1 else 0.035) and self._phase not in (2, 6)
        if arrived or self._step >= self._STEPS[self._phase]:
            self._phase, self._step = self._phase + 1, 0
            if self._phase == len(self._STEPS):
                self.restart()
        wished = np.clip(self._gain * offset, -1, 1) + 0.15 * self._rng.standard_normal(3)
        return wished if distance < 0.03 else at_least(wished, SPEED_FLOOR)

    def _target(self, eef_pos: np.ndarray, observation: RobosuiteObservation) -> np.ndarray:
        thing = self._spot
        if self._name:
            thing = np.asarray(observation[f"{self._name}_pos"], dtype=np.float64)
            # An object that fell off the table must not drag the arm out of the picture.
            margin = np.array([0.08, 0.08, 0.3])
            thing = np.clip(thing, self._workspace.low - margin, self._workspace.high + margin)
            if self._phase < 2 and f"{self._name}_quat" in observation:
                turn = Rotation.from_quat(observation[f"{self._name}_quat"]).as_euler("zyx")[0]
                self._yaw = float((turn + np.pi / 4) % (np.pi / 2) - np.pi / 4)
        thing = thing + self._error
        lowered = np.array([*self._goal[:2], self._workspace.table + 0.05])
        approach, up = thing + np.array([0.0, 0.0, 0.1]), eef_pos + np.array([0.0, 0.0, 0.12])
        return (approach, thing, thing, up, self._goal, lowered, lowered, up)[self._phase]


class ArmPolicy:
    """Drives one arm: stretches of exploration alternate with stretches of handling.

    Args:
        rng: source of all randomness of this arm.
        prefix: name of the arm in observations, such as "robot0".
        base: (3, 3) orientation of the robot's base in the world.
        workspace: the box of the gripper.
        objects: names of the objects, each with "<name>_pos" in observations.
        size: numbers in an action, 6 or 7.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        prefix: str,
        base: np.ndarray,
        workspace: Workspace,
        objects: tuple[str, ...],
        size: int,
    ) -> None:
        self._rng = rng
        self._prefix = prefix
        self._base = base
        self._size = size
        self._explorer = Explorer(rng, workspace)
        self._handler = Handler(rng, workspace, objects)
        self._handling = bool(rng.random() < 0.5)
        self._left = 0
        self._spin = np.zeros(3)
        self._upright: Rotation | None = None

    def __call__(self, observation: RobosuiteObservation) -> np.ndarray:
        """Returns the next action: (size,) float64 in [-1, 1], rounded to float32."""
        eef_pos = np.asarray(observation[f"{self._prefix}_eef_pos"], dtype=np.float64)
        if self._left <= 0:
            self._handling = not self._handling
            self._left = int(self._rng.integers(35, 70) if self._handling else self._rng.integers(25, 55))
            self._handler.restart()
        self._left -= 1
        if self._handling:
            velocity, closed = self._handler.velocity(eef_pos, observation), self._handler.closed
        else:
            velocity, closed = self._explorer.velocity(eef_pos), self._explorer.closed
        turn = self._turn(observation)
        action = np.concatenate([self._base.T @ velocity, turn, [1.0 if closed else -1.0]])[: self._size]
        return np.clip(action, -1, 1).astype(np.float32).astype(np.float64)

    def _turn(self, observation: RobosuiteObservation) -> np.ndarray:
        """Returns (3,) rotation that wavers about the orientation at the reset, in the base frame."""
        now = Rotation.from_quat(np.asarray(observation[f"{self._prefix}_eef_quat_site"], dtype=np.float64))
        if self._upright is None:
            self._upright = now
        tilt = np.array([0.0, 0.0, self._handler.yaw]) if self._handling else np.zeros(3)
        error = (Rotation.from_rotvec(tilt) * self._upright * now.inv()).as_rotvec()
        self._spin += -0.15 * self._spin + (0.04 if self._handling else 0.13) * self._rng.standard_normal(3)
        gain = 0.4 if self._handling else 0.2
        return np.clip(self._spin + gain * (self._base.T @ error) / RADIANS_PER_UNIT, -1, 1)


def at_least(vector: np.ndarray, floor: float) -> np.ndarray:
    """Returns `vector`: (n,), lengthened to `floor` where it is shorter."""
    length = float(np.linalg.norm(vector))
    return vector if length >= floor else vector * (floor / max(length, 1e-6))
