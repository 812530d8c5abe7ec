"""Scenes of the simulated corpora: tasks and robots, random looks, cameras, and their rendering.

Everything here needs robosuite and an OpenGL library at run time, but nothing at import time.
"""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator, Mapping
from ctypes.util import find_library
from dataclasses import dataclass
from typing import Any

import numpy as np

from uwm.data.simulation.clips import THIRD_PERSON
from uwm.data.simulation.look import Camera, camera_of, dress
from uwm.data.simulation.policies import ArmPolicy, Workspace, workspace_around

CONTROL_HZ = 20
STEPS_PER_FRAME = 2
FPS = CONTROL_HZ // STEPS_PER_FRAME
MAX_STEP = 0.07
"""Largest displacement that one control step may ask of an arm, metres (robosuite's default is 0.05)."""
SIZE = 128
FRAMES = 50

HELD_OUT_ROBOT = "Panda"
HELD_OUT_TASKS = ("Lift", "Stack", "NutAssembly")
"""The held-out robot never appears on these tasks (nor their variants), which in-domain experiments use."""


@dataclass(frozen=True)
class Scene:
    """A robosuite task with its robots; `weight` is how often it is chosen, relative to the others."""

    task: str
    robots: tuple[str, ...]
    weight: float = 1.0


def held_out(task: str, robots: tuple[str, ...]) -> bool:
    """Returns whether this task with these robots is kept for the in-domain experiments."""
    return HELD_OUT_ROBOT in robots and task.startswith(HELD_OUT_TASKS)


SCENES = (
    *(Scene("Lift", (robot,)) for robot in ("Sawyer", "IIWA", "UR5e", "Kinova3", "Jaco", "XArm7")),
    *(Scene("Stack", (robot,)) for robot in ("Sawyer", "IIWA", "UR5e", "Kinova3", "Jaco")),
    *(Scene("Door", (robot,)) for robot in ("Panda", "Sawyer", "IIWA", "UR5e")),
    *(Scene("PickPlaceCan", (robot,)) for robot in ("Panda", "UR5e", "Kinova3")),
    *(Scene("PickPlace", (robot,)) for robot in ("Panda", "IIWA", "XArm7")),
    *(Scene("NutAssemblySquare", (robot,)) for robot in ("IIWA", "Jaco", "UR5e")),
    *(Scene("NutAssembly", (robot,)) for robot in ("Kinova3", "XArm7")),
    Scene("Wipe", ("Panda",), 0.6),
    Scene("ToolHang", ("Panda",), 0.6),
    Scene("TwoArmLift", ("Panda", "UR5e"), 0.6),
    Scene("TwoArmHandover", ("Panda", "IIWA"), 0.6),
)
assert not any(held_out(scene.task, scene.robots) for scene in SCENES)


def draw_scene(corpus: str, seed: int) -> tuple[Scene, str]:
    """Returns the scene and the kind of camera of a clip, a pure function of corpus name and seed."""
    rng = np.random.default_rng([seed, 0])
    weights = np.array([scene.weight for scene in SCENES])
    scene = SCENES[rng.choice(len(SCENES), p=weights / weights.sum())]
    ego = "wrist" if rng.random() < 0.5 else "head"
    return scene, "fixed" if corpus == THIRD_PERSON else ego


class Simulator:
    """One robosuite environment that renders clip after clip.

    A clip depends on its seed only: the simulator's random state, its physics and all that the look
    changes are set anew at each start.

    Raises:
        ImportError: robosuite or an OpenGL library is missing.
    """

    _LOOK_FIELDS = (
        *("mat_rgba", "mat_texrepeat", "mat_specular", "mat_shininess", "mat_reflectance", "geom_rgba"),
        *("light_pos", "light_dir", "light_diffuse", "light_ambient", "light_specular"),
        *("cam_pos", "cam_quat", "cam_fovy"),
    )

    def __init__(self, scene: Scene) -> None:
        import_robosuite()
        import robosuite

        self.env = robosuite.make(
            scene.task,
            robots=list(scene.robots),
            controller_configs=[brisk_controller(robot) for robot in scene.robots],
            has_renderer=False,
            has_offscreen_renderer=True,
            use_camera_obs=False,
            use_object_obs=True,
            hard_reset=False,
            ignore_done=True,
            control_freq=CONTROL_HZ,
            seed=0,
        )
        self.model = self.env.sim.model._model
        lighten(self.env, 2 * SIZE)
        self._original = {name: getattr(self.model, name).copy() for name in self._LOOK_FIELDS}

    def close(self) -> None:
        """Frees the environment and its OpenGL context at once: a later one would make another current."""
        self.env.close()
        del self.env, self.model
        gc.collect()

    def frames(self, corpus: str, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the frames of the clip of this seed, 0.1 s apart.

        Returns:
            Pairs of an image (SIZE, SIZE, 3) uint8 RGB and the simulator's state (n,) float64 at that time.
        """
        _, kind = draw_scene(corpus, seed)
        generators = [np.random.default_rng([seed, part]) for part in range(1, 5)]
        for name, value in self._original.items():
            getattr(self.model, name)[:] = value
        self.env.rng.bit_generator.state = generators[0].bit_generator.state
        observation = self.env.reset()
        dress(self.env.sim, generators[1])
        arms = arm_policies(self.env, observation, generators[2])
        camera = camera_of(kind, self.env.sim, arms[0][1], generators[3], "Door" in type(self.env).__name__)
        for index in range(FRAMES):
            yield self._render(camera, index / FPS, observation), self._state()
            for _ in range(STEPS_PER_FRAME):
                action = np.concatenate([policy(observation) for policy, _ in arms])
                observation = self.env.step(action)[0]

    def _state(self) -> np.ndarray:
        return np.asarray(self.env.sim.get_state().flatten(), dtype=np.float64)

    def _render(self, camera: Camera, time: float, observation: dict[str, Any]) -> np.ndarray:
        camera.move(time, np.asarray(observation["robot0_eef_pos"], dtype=np.float64))
        # Without this the picture would lag one physics step behind the state.
        self.env.sim.forward()
        large = self.env.sim.render(camera_name=camera.name, width=2 * SIZE, height=2 * SIZE)
        return shrink(large[::-1])


def lighten(env: Any, side: int) -> None:
    """Makes the pictures of a robosuite environment cheap: no reflections, no multisampling, small shadows.

    Drawing at `side` pixels, twice the wished size, and taking means with `shrink` smooths edges at a fifth
    of the cost of multisampling on a CPU.
    """
    import mujoco

    model, context = env.sim.model._model, env.sim._render_context_offscreen
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 1024
    model.vis.global_.offwidth = model.vis.global_.offheight = side
    context.scn.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    context.gl_ctx.make_current()
    context.con.free()
    context._set_mujoco_context_and_buffers()


def shrink(large: np.ndarray) -> np.ndarray:
    """Returns the means of 2 x 2 pixels: (2H, 2W, 3) uint8 -> (H, W, 3) uint8, rounded."""
    rows = large[0::2].astype(np.uint16)
    rows += large[1::2]
    mean = rows[:, 0::2] + rows[:, 1::2] + 2
    return (mean // 4).astype(np.uint8)


def arm_policies(
    env: Any, observation: Mapping[str, np.ndarray], rng: np.random.Generator
) -> list[tuple[ArmPolicy, Workspace]]:
    """Returns the policy and the workspace of each arm, in the order of their actions."""
    corner = getattr(env, "table_offset", None)
    table = float((corner if corner is not None else env.bin1_pos)[2])
    objects = object_names(observation)
    arms = []
    for number, robot in enumerate(env.robots):
        base = np.array(env.sim.data.get_body_xmat(f"robot{number}_base")).reshape(3, 3)
        home = np.asarray(observation[f"robot{number}_eef_pos"], dtype=np.float64)
        space = workspace_around(home, base, table)
        generator = np.random.default_rng(rng.integers(2**63))
        arms.append((ArmPolicy(generator, f"robot{number}", base, space, objects, robot.action_dim), space))
    return arms


def brisk_controller(robot: str) -> dict[str, Any]:
    """Returns the default controller of a robot, allowed a longer step, so that 0.2 s of motion is seen."""
    from robosuite.controllers import load_composite_controller_config

    config: dict[str, Any] = load_composite_controller_config(controller=None, robot=robot)
    for part in config["body_parts"].values():
        if part.get("type") == "OSC_POSE":
            part["output_max"] = [MAX_STEP] * 3 + part["output_max"][3:]
            part["output_min"] = [-MAX_STEP] * 3 + part["output_min"][3:]
    return config


def object_names(observation: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the objects that an arm can reach for, sorted; empty where there are none."""
    names = (key.removesuffix("_pos") for key in observation if key.endswith("_pos"))
    return tuple(sorted(name for name in names if not name.startswith("robot") and "_to_" not in name))


def import_robosuite() -> None:
    """Imports robosuite quietly, for rendering without a display.

    Raises:
        ImportError: it is missing, or the OpenGL library that it renders with.
    """
    os.environ.setdefault("MUJOCO_GL", "egl" if find_library("EGL") else "osmesa")
    # One process renders on one core: the software rasteriser's own threads only get in the way.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    # robosuite reads this as a list of EGL devices, and fails where it is empty.
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    logging.disable(logging.WARNING)
    import robosuite.macros

    robosuite.macros.CONSOLE_LOGGING_LEVEL = "ERROR"
