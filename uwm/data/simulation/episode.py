"""Episodes of a robot: what moves it (policies), and what is recorded of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uwm.data.simulation.robot_scene import Array, Picture, RobotScene
from uwm.data.simulation.scene import arm_policies
from uwm.errors import UserError

NextAction = Callable[[], NDArray[np.float64]]
"""Gives the next action (A,), within the controller's range and rounded to float32."""


@dataclass(frozen=True)
class RecordedEpisode:
    """A recorded episode of N control steps and F frames.

    frame_steps (F,) int64: how many control steps came before each frame; images (F, size, size, 3) uint8;
    actions (N, A) float32; states (N, S) before each action; rewards (N,) and success (N,) bool after it;
    eef_pos (F, 3) metres; eef_in_picture (F, 2), as fractions of the picture; fingers (F, J), the gripper's
    joints, and what finger 0 less finger 1 is, closed and open; objects (F, n, 3) metres, and their names.
    """

    frame_steps: NDArray[np.int64]
    images: Picture
    actions: NDArray[np.float32]
    states: Array
    rewards: Array
    success: NDArray[np.bool_]
    eef_pos: Array
    eef_in_picture: Array
    fingers: Array
    closed_open: tuple[float, float] | None
    objects: Array
    object_names: tuple[str, ...]


def episode_generators(words: Sequence[int]) -> Iterator[np.random.Generator]:
    """Independent generators of the episode that these numbers name."""
    part = 0
    while True:
        part += 1
        yield np.random.default_rng([*words, part])


def scripted(scene: RobotScene, rng: np.random.Generator) -> NextAction:
    """Handling of objects alternating with fast exploration, for each arm.

    Raises:
        UserError: a scene without a table, or arms that are not driven by displacement and rotation.
    """
    table = hasattr(scene.env, "table_offset") or hasattr(scene.env, "bin1_pos")
    if not table or not all(_driven_by_pose(robot) for robot in scene.env.robots):
        raise UserError(
            "the scripted policy needs a table and arms with the controller OSC_POSE; "
            f"for {scene.config.task} with {'+'.join(scene.config.robots)} "
            f"and {scene.config.controller or 'its default controller'} take --policy random"
        )
    arms = [policy for policy, _ in arm_policies(scene.env, scene.observation, rng)]
    return lambda: np.concatenate([arm(_grasps(scene)) for arm in arms])


def _driven_by_pose(robot: Any) -> bool:
    parts = robot.composite_controller.part_controllers
    return len(robot.arms) == 1 and robot.action_dim in (6, 7) and parts[robot.arms[0]].name == "OSC_POSE"


def _grasps(scene: RobotScene) -> dict[str, Array]:
    """The observation, with a thing's handle for its position where it has one."""
    handles = {}
    for thing in getattr(scene.env, "nuts", ()):
        site = scene.env.sim.model.site_name2id(thing.important_sites["handle"])
        handles[f"{thing.name}_pos"] = np.array(scene.env.sim.data.site_xpos[site])
    return {**scene.observation, **handles}


def smooth_random(scene: RobotScene, rng: np.random.Generator) -> NextAction:
    """An Ornstein-Uhlenbeck process for each number of an action, over a second or so."""
    low, high = scene.env.action_spec
    wave = np.zeros(len(low))

    def act() -> NDArray[np.float64]:
        nonlocal wave
        wave = 0.85 * wave + 0.35 * rng.standard_normal(len(low))
        return np.clip((low + high) / 2 + wave * (high - low) / 2, low, high)

    return act


def replayed(actions: NDArray[np.float32]) -> NextAction:
    """These actions (N,A), one after the other."""
    rest = iter(actions.astype(np.float64))
    return lambda: next(rest)


Frame = tuple[Picture, Array, Array, Array, Array]


def frame_of(scene: RobotScene) -> Frame:
    """Picture, position of the hand in metres and in the picture, fingers and objects, now."""
    eef_pos = scene.eef_pos()
    return scene.picture(), eef_pos, scene.in_picture(eef_pos), scene.fingers(), scene.objects()


def record(scene: RobotScene, policy: NextAction, steps: int, steps_per_frame: int) -> RecordedEpisode:
    """Lets `policy` act for `steps` control steps after a reset; a frame comes before every k-th of them."""
    frames, actions, states, rewards, success = [], [], [], [], []
    for step in range(steps):
        if step % steps_per_frame == 0:
            frames.append(frame_of(scene))
        states.append(scene.state())
        actions.append(policy().astype(np.float32))
        rewards.append(scene.step(actions[-1].astype(np.float64)))
        success.append(bool(scene.env._check_success()))
    return join_frames(scene, frames, np.stack(actions), np.stack(states), rewards, success, steps_per_frame)


def join_frames(
    scene: RobotScene,
    frames: Sequence[Frame],
    actions: NDArray[np.float32],
    states: Array,
    rewards: Sequence[float],
    success: Sequence[bool],
    steps_per_frame: int,
) -> RecordedEpisode:
    """An episode of frames that were taken before every k-th step."""
    images, eef_pos, eef_in_picture, fingers, objects = (np.stack(part) for part in zip(*frames, strict=True))
    return RecordedEpisode(
        frame_steps=np.arange(0, len(actions), steps_per_frame),
        images=images,
        actions=actions,
        states=states,
        rewards=np.array(rewards),
        success=np.array(success),
        eef_pos=eef_pos,
        eef_in_picture=eef_in_picture,
        fingers=fingers,
        closed_open=scene.closed_open(),
        objects=objects,
        object_names=scene.object_names(),
    )
