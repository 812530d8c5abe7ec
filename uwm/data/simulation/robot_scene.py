"""One robosuite scene of any task, robot, gripper, controller and camera: steps, pictures and measurements.

Everything here needs robosuite and an OpenGL library at run time, but nothing at import time.
"""

from __future__ import annotations

import difflib
import gc
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from uwm.data.simulation.look import aim
from uwm.data.simulation.scene import CONTROL_HZ, import_robosuite, lighten, object_names, shrink
from uwm.errors import UserError

WORKSPACE_CAMERA = "workspace"
WORKSPACE_VIEW = ((0.55, 0.38, 1.26), (-0.055, 0.0, 0.935), 45.0)
"""Place and target (metres, world) and height (degrees) of the `workspace` camera, which the things fill."""

Array = NDArray[np.float64]
Picture = NDArray[np.uint8]
RenderQuality = Literal["fast", "full"]


@dataclass(frozen=True)
class SceneConfig:
    """What a scene is built from; names as robosuite's, None for its default."""

    task: str = "Lift"
    robots: tuple[str, ...] = ("Panda",)
    gripper: str | None = None
    controller: str | None = None  # of the arms
    camera: str = "agentview"  # or `workspace`, which looks at the table's middle
    size: int = 224  # side of the square pictures, pixels
    quality: RenderQuality = "fast"  # fast: no reflections, edges smoothed by drawing at twice the size


class RobotScene:
    """A robosuite environment with one camera.

    What happens after `reset(rng)` depends on the generator and the actions alone.

    Raises:
        ImportError: robosuite or an OpenGL library is missing.
    """

    def __init__(self, config: SceneConfig) -> None:
        import_robosuite()
        import robosuite

        self.config = config
        try:
            self.env = robosuite.make(**environment_arguments(config))
        except (AssertionError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            # robosuite's ways of saying that a task, a robot, a gripper and a controller do not go together.
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise UserError(f"robosuite cannot build {config.task} with {config.robots}: {reason}") from error
        self.model = self.env.sim.model._model
        try:
            check_known("camera", config.camera, (WORKSPACE_CAMERA, *self.env.sim.model.camera_names))
        except UserError:
            self.close()
            raise
        self.camera = "agentview" if config.camera == WORKSPACE_CAMERA else config.camera
        self._scale = 2 if config.quality == "fast" else 1
        if config.quality == "fast":
            lighten(self.env, 2 * config.size)
        self.observation: Mapping[str, Array] = {}

    def close(self) -> None:
        """Frees the environment and its OpenGL context at once: a later one would make another current."""
        self.env.close()
        del self.env, self.model
        gc.collect()

    def reset(self, rng: np.random.Generator) -> None:
        """Starts an episode; `rng` decides where everything lies."""
        self.env.rng.bit_generator.state = rng.bit_generator.state
        self.observation = self.env.reset()
        if self.config.camera == WORKSPACE_CAMERA:
            position, target, fovy = WORKSPACE_VIEW
            aim(self.model, self.camera, np.array(position), np.array(target), fovy)
        self.env.sim.forward()

    def step(self, action: Array) -> float:
        """Does one control step and returns its reward."""
        self.observation, reward, _, _ = self.env.step(action)
        # Without this, pictures and positions would lag one physics step behind the state. At each step, so
        # that the physics does not depend on which frames are looked at.
        self.env.sim.forward()
        return float(reward)

    def state(self) -> Array:
        """The simulator's state (n,): time, positions, velocities."""
        return np.asarray(self.env.sim.get_state().flatten(), dtype=np.float64)

    def set_state(self, state: Array) -> None:
        """Puts the simulator into a state (n,)."""
        self.env.sim.set_state_from_flattened(state)
        self.env.sim.forward()
        self.observation = self.env._get_observations(force_update=True)

    def picture(self) -> Picture:
        """What the camera sees: (size, size, 3) uint8 RGB."""
        # Freeing the context of another scene leaves none current, and pictures would be black.
        self.env.sim._render_context_offscreen.gl_ctx.make_current()
        side = self._scale * self.config.size
        large = self.env.sim.render(camera_name=self.camera, width=side, height=side)[::-1]
        return shrink(large) if self._scale == 2 else np.ascontiguousarray(large)

    def eef_pos(self, robot: int = 0) -> Array:
        """The place between the fingers (3,), metres in the world."""
        arm = self.env.robots[robot]
        site = arm.eef_site_id[arm.arms[0]]
        return np.array(self.env.sim.data.site_xpos[site], dtype=np.float64)

    def in_picture(self, point: Array) -> Array:
        """Where the camera sees a world point (3,): (x, y) as fractions of the picture, from its top left.

        NaN for a point behind the camera.
        """
        camera = self.env.sim.model.camera_name2id(self.camera)
        data = self.env.sim.data
        turn = np.asarray(data.cam_xmat[camera]).reshape(3, 3)
        right, up, back = turn.T @ (point - data.cam_xpos[camera])
        if back >= 0:
            return np.full(2, np.nan)
        slope = 2 * np.tan(np.radians(self.model.cam_fovy[camera]) / 2)
        return np.array([0.5 + right / (-back * slope), 0.5 - up / (-back * slope)])

    def object_names(self) -> tuple[str, ...]:
        """What the task's objects are called, sorted."""
        return object_names(self.observation)

    def objects(self) -> Array:
        """Positions (n, 3) of the task's objects, metres, in the order of `object_names`."""
        positions = [self.observation[f"{name}_pos"] for name in self.object_names()]
        return np.array(positions, np.float64).reshape(-1, 3)

    def fingers(self, robot: int = 0) -> Array:
        """Positions of the gripper's joints, metres or radians; empty without a gripper."""
        return np.asarray(self.observation.get(f"robot{robot}_gripper_qpos", ()), np.float64)

    def closed_open(self, robot: int = 0) -> tuple[float, float] | None:
        """What finger 0 less finger 1 is, metres, closed and open; None for a gripper of another kind."""
        import mujoco

        arm = self.env.robots[robot]
        joints = [self.env.sim.model.joint_name2id(name) for name in arm.gripper[arm.arms[0]].joints]
        if len(joints) != 2 or any(self.model.jnt_type[j] != mujoco.mjtJoint.mjJNT_SLIDE for j in joints):
            return None
        (low0, high0), (low1, high1) = self.model.jnt_range[joints]
        return float(low0 - high1), float(high0 - low1)

    def model_text(self) -> str:
        """The MJCF model, as it is now, with files named from robosuite's folder on."""
        text = str(self.env.sim.model.get_xml())
        return re.sub(r'"/[^"]*/(robosuite/[^"]*)"', r'"\1"', text)


def check_names(config: SceneConfig) -> None:
    """`UserError`, with the nearest name, for a task, robot, gripper or controller that does not exist."""
    import_robosuite()
    import robosuite

    check_known("task", config.task, robosuite.ALL_ENVIRONMENTS)
    for robot in config.robots:
        check_known("robot", robot, robosuite.ALL_ROBOTS)
    if config.gripper is not None:
        check_known("gripper", config.gripper, [name for name in robosuite.ALL_GRIPPERS if name])
    if config.controller is not None:
        check_known("controller", config.controller, robosuite.ALL_PART_CONTROLLERS)


def check_known(kind: str, name: str, known: Iterable[str]) -> None:
    """`UserError` with the nearest name where `name` is not `known`."""
    names = sorted(known)
    if name in names:
        return
    lower = {other.lower(): other for other in names}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.4)
    hint = f"did you mean {lower[near[0]]}?" if near else f"there are {', '.join(names)}"
    raise UserError(f"robosuite has no {kind} {name!r}; {hint}")


def environment_arguments(config: SceneConfig) -> dict[str, Any]:
    """Arguments of `robosuite.make`."""
    arguments: dict[str, Any] = {
        "env_name": config.task,
        "robots": list(config.robots),
        "controller_configs": [controller_of(robot, config.controller) for robot in config.robots],
        "has_renderer": False,
        "has_offscreen_renderer": True,
        "use_camera_obs": False,
        "use_object_obs": True,
        "hard_reset": False,
        "ignore_done": True,
        "control_freq": CONTROL_HZ,
        "seed": 0,
    }
    if config.gripper is not None:
        arguments["gripper_types"] = config.gripper
    return arguments


def controller_of(robot: str, name: str | None) -> dict[str, Any]:
    """The default controller of a robot, with the part controller `name` for its arms where one is given."""
    from robosuite.controllers import load_composite_controller_config, load_part_controller_config

    config: dict[str, Any] = load_composite_controller_config(controller=None, robot=robot)
    if name is not None:
        part = load_part_controller_config(default_controller=name)
        for side in ("right", "left"):
            if side in config["body_parts"]:
                kept = {key: config["body_parts"][side][key] for key in ("gripper",)}
                config["body_parts"][side] = {**part, **kept}
    return config
