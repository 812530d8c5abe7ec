"""Tasks for planners: a start, a goal that one picture shows, and a test of success; all drawn by a seed.

`reach` brings the hand to the place that the goal frame shows, `push` the block; `lift` is robosuite's own
task with its own test. Everything is seen by one fixed camera, and driven at the rate and scale of the
corpus `sim-panda` (`uwm.data.simulation.robot_corpus`), so that what was trained on that applies.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from uwm.data.simulation.policies import Workspace, workspace_around
from uwm.data.simulation.robot_scene import Array, Picture, RobotScene, SceneConfig
from uwm.data.simulation.snapshot import Snapshot, restore, save
from uwm.data.simulation.task_config import TaskConfig

Looked = TypeVar("Looked")
SCENE = "Lift"  # robosuite's: a table with one cube
TRANSLATION, METRES_PER_UNIT = 3, 0.05  # the first numbers of an action, and the controller's scale of them
MILLIMETRES = 1000.0
# Least and largest (x, y) in the picture where a whole hand is seen.
VIEW = np.array([[0.2, 0.3], [0.8, 0.8]])
OPEN, CLOSED = -1.0, 1.0


class Observation(NamedTuple):
    """What a policy sees: the present picture and the goal's, (size, size, 3) uint8 RGB each."""

    picture: Picture
    goal: Picture


class TaskEnvironment:
    """A task as Gymnasium's loop wants it: `reset(seed)`, `step(action)`, `close()`.

    An episode is a pure function of its seed and the actions.

    Raises:
        ImportError: robosuite or an OpenGL library is missing.
    """

    def __init__(self, config: TaskConfig) -> None:
        self.config = config
        look: dict[str, Any] = {"camera": config.camera, "controller": config.controller, "size": config.size}
        self.scene = RobotScene(SceneConfig(SCENE, ("Panda",), **look))
        self.steps_done = 0
        self._goal_picture: Picture = np.zeros((config.size, config.size, 3), np.uint8)
        self.goal_place: Array = np.zeros(3)  # of hand or block, metres in the world

    def close(self) -> None:
        """Frees the simulator."""
        self.scene.close()

    @property
    def limits(self) -> tuple[Array, Array]:
        """Lowest and highest action (A,)."""
        low, high = self.scene.env.action_spec
        return np.asarray(low, np.float64), np.asarray(high, np.float64)

    @property
    def held(self) -> Array:
        """The action (A,) of standing still with the gripper as the task wants it at its start."""
        action = np.zeros(self.config.action_size)
        action[-1] = CLOSED if self.config.task == "push" else OPEN
        return action

    def reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        """Starts the episode of a seed."""
        layout, drawn = (np.random.default_rng([seed, part]) for part in (1, 2))
        self.scene.reset(layout)
        self.steps_done = 0
        draw = {"reach": self._draw_reach, "push": self._draw_push, "lift": self._draw_lift}
        restore(self.scene, draw[self.config.task](drawn))
        return self.observe(), self.info()

    def step(
        self, action: NDArray[np.floating[Any]]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Holds an action (A,) for a step: observation, reward (minus the distance, metres), whether the
        task is done, whether the time is up, and `info`."""
        self.hold(action)
        self.steps_done += 1
        info = self.info()
        done = bool(info["success"])
        reward = -float(info["distance_mm"]) / MILLIMETRES
        return self.observe(), reward, done, not done and self.steps_done >= self.config.steps, info

    def hold(self, action: NDArray[np.floating[Any]]) -> None:
        """Gives the action (A,) to the controller for every control step of a planner's step."""
        low, high = self.limits
        if action.shape != low.shape:
            raise ValueError(f"the action is {action.shape}, {self.config.controller} takes {low.shape}")
        given = np.clip(action, low, high).astype(np.float32).astype(np.float64)
        for _ in range(self.config.control_steps):
            self.scene.step(given)

    def pictures_ahead(self, actions: NDArray[np.floating[Any]], steps: Collection[int]) -> Picture:
        """What is seen after those of the actions (H, A) that `steps` names: (n, size, size, 3)."""
        return np.stack(self._ahead(actions, steps, self.scene.picture))

    def distances_ahead(self, actions: NDArray[np.floating[Any]], steps: Collection[int]) -> Array:
        """The distances (n,) to the goal, mm, after those of the actions (H, A) that `steps` names."""
        return np.array(self._ahead(actions, steps, self.distance_mm))

    def _ahead(
        self, actions: NDArray[np.floating[Any]], steps: Collection[int], look: Callable[[], Looked]
    ) -> list[Looked]:
        """Carries out actions, looks, and puts the simulator back to where it stood, bit for bit."""
        here, results = save(self.scene), []
        for index, action in enumerate(actions):
            self.hold(action)
            if index in steps:
                results.append(look())
        restore(self.scene, here)
        return results

    def observe(self) -> Observation:
        """What is seen now."""
        return Observation(self.scene.picture(), self._goal_picture)

    def info(self) -> dict[str, Any]:
        """`distance_mm` to the goal, and `success`."""
        distance = self.distance_mm()
        if self.config.task == "lift":
            return {"distance_mm": distance, "success": bool(self.scene.env._check_success())}
        return {"distance_mm": distance, "success": distance <= self.config.ranges.tolerance}

    def distance_mm(self) -> float:
        """Of the hand (reach) or the block (push, lift) from where the goal frame shows it."""
        return float(np.linalg.norm(self._place() - self.goal_place)) * MILLIMETRES

    # Starts and goals. Each is a place that the arm has reached, so that it can be reached.

    def _place(self) -> Array:
        return self.scene.eef_pos() if self.config.task == "reach" else self._cube()

    def _cube(self) -> Array:
        return np.array(self.scene.env.sim.data.body_xpos[self.scene.env.cube_body_id], np.float64)

    def _space(self) -> Workspace:
        base = np.array(self.scene.env.sim.data.get_body_xmat("robot0_base")).reshape(3, 3)
        return workspace_around(self.scene.eef_pos(), base, float(self.scene.env.table_offset[2]))

    def _move(self, target: Array, grip: float, most: int = 40, near: float = 0.01) -> None:
        """Drives the hand to a place (3,), in metres, in at most so many control steps."""
        base = np.array(self.scene.env.sim.data.get_body_xmat("robot0_base")).reshape(3, 3)
        action = np.zeros(self.config.action_size)
        action[-1] = grip
        for _ in range(most):
            offset = target - self.scene.eef_pos()
            if np.linalg.norm(offset) < near:
                break
            action[:TRANSLATION] = np.clip(base.T @ offset / METRES_PER_UNIT, -1, 1)
            self.scene.step(action)

    def _settle(self, grip: float, steps: int = 4) -> None:
        action = np.zeros(self.config.action_size)
        action[-1] = grip
        for _ in range(steps):
            self.scene.step(action)

    def _in_view(self, point: Array) -> bool:
        """Whether the camera sees the whole hand where its fingers are at a world point (3,)."""
        position = self.scene.in_picture(point)
        return bool(np.all((VIEW[0] <= position) & (position <= VIEW[1])))

    def _keep_goal(self) -> None:
        self._goal_picture, self.goal_place = self.scene.picture(), self._place()

    def _draw_reach(self, rng: np.random.Generator) -> Snapshot:
        """Two places of the workspace: the goal is where the hand came to, the start where it came from."""
        space = self._space()
        near, far = self.config.ranges.nearest / MILLIMETRES, self.config.ranges.farthest / MILLIMETRES
        while True:
            first = space.sample(rng)
            target = first + _direction(rng) * rng.uniform(near, far)
            inside = np.all((space.low <= target) & (target <= space.high))
            if not (inside and self._in_view(first) and self._in_view(target)):
                continue
            self._move(first, OPEN)
            self._settle(OPEN)
            start, eef_pos = save(self.scene), self._place()
            self._move(target, OPEN)
            self._settle(OPEN)
            if near <= np.linalg.norm(self._place() - eef_pos) <= far and self._in_view(self._place()):
                self._keep_goal()
                return start

    def _draw_push(self, rng: np.random.Generator) -> Snapshot:
        """The closed hand stands behind the block; the goal is where pushing straight on has brought it."""
        near, far = self.config.ranges.nearest / MILLIMETRES, self.config.ranges.farthest / MILLIMETRES
        self._settle(CLOSED)  # the block drops onto the table first
        before = save(self.scene)
        while True:
            restore(self.scene, before)
            cube = self._cube()
            along = _direction(rng) * np.array([1.0, 1.0, 0.0])
            along /= np.linalg.norm(along)
            behind = cube - 0.08 * along
            self._move(behind + np.array([0, 0, 0.12]), CLOSED)
            self._move(behind, CLOSED)
            self._settle(CLOSED)
            start, block_pos = save(self.scene), self._cube()
            self._move(self.scene.eef_pos() + along * (0.06 + rng.uniform(near, far)), CLOSED)
            self._settle(CLOSED)
            moved = float(np.linalg.norm(self._cube() - block_pos))
            on_table = abs(self._cube()[2] - block_pos[2]) < 0.01
            if np.linalg.norm(block_pos - cube) < 0.01 and near <= moved <= far and on_table:
                self._keep_goal()
                return start

    def _draw_lift(self, rng: np.random.Generator) -> Snapshot:
        """The open hand stands above the block; the goal shows it holding the block higher."""
        self._settle(OPEN)
        before = save(self.scene)
        while True:
            restore(self.scene, before)
            cube = self._cube()
            self._move(cube + np.array([*rng.uniform(-0.02, 0.02, 2), rng.uniform(0.04, 0.08)]), OPEN)
            self._settle(OPEN)
            start = save(self.scene)
            self._move(cube, OPEN)
            self._settle(CLOSED, 12)
            self._move(cube + np.array([0, 0, 0.12]), CLOSED)
            self._settle(CLOSED)
            if self.scene.env._check_success():
                self._keep_goal()
                return start


_kept: list[TaskEnvironment] = []


def kept_environment(config: TaskConfig) -> TaskEnvironment:
    """The environment of this process: kept for all that want the same, as an episode depends on nothing that
    was before. One of another config is closed first, for there is one OpenGL context at a time."""
    while _kept and _kept[-1].config != config:
        _kept.pop().close()
    if not _kept:
        _kept.append(TaskEnvironment(config))
    return _kept[-1]


def _direction(rng: np.random.Generator) -> Array:
    """A direction (3,), uniform on the sphere."""
    direction = rng.standard_normal(3)
    return direction / np.linalg.norm(direction)
