"""Pictures of recorded demonstrations: each stored state is put into the simulator and looked at."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
from numpy.typing import NDArray

from uwm.data.robomimic.hdf5 import env_args, open_demos
from uwm.data.robomimic.limits import action_limits, check_actions, check_numbers
from uwm.data.simulation.episode import RecordedEpisode, frame_of, join_frames
from uwm.data.simulation.robot_scene import Array, RobotScene
from uwm.errors import UserError


@dataclass(frozen=True)
class Demonstration:
    """A recorded demo: states (N,S), actions (N,A) float32, and its MJCF model as text where it is there."""

    name: str
    states: Array
    actions: NDArray[np.float32]
    model: str | None


def robots_of(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """The robots in `env_kwargs`, which may be a name or a list."""
    robots = arguments.get("robots", "Panda")
    return (robots,) if isinstance(robots, str) else tuple(robots)


def read_environment(path: Path) -> tuple[str, tuple[str, ...], str | None]:
    """Task, robots and gripper (None: the default) of a file of demonstrations."""
    with open_demos(path) as file:
        environment = env_args(file)
    if not environment["env_name"]:
        raise UserError(f"{path}: the attribute env_args of `data` does not name the task (env_name)")
    gripper = environment["env_kwargs"].get("gripper_types", "default")
    return (
        environment["env_name"],
        robots_of(environment["env_kwargs"]),
        None if gripper == "default" else gripper,
    )


def read_demonstration(path: Path, name: str, *, acting: bool = False) -> Demonstration:
    """One demo of a file. `UserError` for missing states, broken actions or a broken model, and where it is
    to act again for actions out of the controller's range; else they are kept as they were recorded."""
    with open_demos(path) as file:
        demo = file[f"data/{name}"]
        for needed in ("states", "actions"):
            if not isinstance(demo.get(needed), h5py.Dataset):
                raise UserError(f"{path}: {name} has no {needed}; they are needed to render it")
        low, high = action_limits(file)
        actions = demo["actions"][()].astype(np.float32)
        check_numbers(path, name, actions, len(low))
        if acting:
            check_actions(path, name, actions, low, high)
        states = demo["states"][()].astype(np.float64)
        if states.ndim != 2 or len(states) < len(actions) or not np.isfinite(states).all():
            raise UserError(f"{path}: {name} needs a finite state for each of its {len(actions)} actions")
        return Demonstration(name, states[: len(actions)], actions, _model(path, name, demo.attrs))


def _model(path: Path, name: str, attributes: Mapping[str, Any]) -> str | None:
    """The MJCF text of a demo: in its attribute `model_file`, or the file that this names if it is there."""
    text = attributes.get("model_file")
    if text is None or str(text).lstrip().startswith("<"):
        return None if text is None else str(text)
    beside = path.parent / str(text)
    return beside.read_text(encoding="utf-8", errors="replace") if beside.is_file() else None


def fixtures(scene: RobotScene) -> list[str]:
    """The bodies of things that cannot move, such as a door's frame: no state tells where they are."""
    roots = [thing.root_body for thing in scene.env.model.mujoco_objects]
    return [name for name in roots if scene.model.body_jntnum[scene.env.sim.model.body_name2id(name)] == 0]


def place_fixtures(scene: RobotScene, model: str, origin: str) -> None:
    """Puts the fixtures where a demo's MJCF `model` has them; `origin` says in errors where this is from."""
    try:
        root = ElementTree.fromstring(model)
    except ElementTree.ParseError as error:
        raise UserError(f"{origin}: model_file is no MJCF model ({error})") from None
    if root.tag != "mujoco":
        raise UserError(f"{origin}: model_file is no MJCF model (its root is <{root.tag}>)")
    bodies = {body.get("name"): body for body in root.iter("body")}
    for name in set(fixtures(scene)) & set(bodies):
        body, index = bodies[name], scene.env.sim.model.body_name2id(name)
        for key, target in (("pos", scene.model.body_pos), ("quat", scene.model.body_quat)):
            try:
                values = np.array((body.get(key) or "").split(), np.float64)
            except ValueError:
                values = np.full(1, np.nan)
            if len(values) not in (0, target.shape[1]) or not np.isfinite(values).all():
                raise UserError(f"{origin}: model_file has a broken {key} of the body {name}")
            if len(values):
                target[index] = values


def start_at(scene: RobotScene, demo: Demonstration, path: Path) -> None:
    """Resets the scene to the start of a demo."""
    scene.reset(np.random.default_rng(0))
    origin = f"{path}: {demo.name}"
    if demo.model is not None:
        place_fixtures(scene, demo.model, origin)
    elif names := fixtures(scene):
        print(f"{origin}: no model_file tells the place of {', '.join(names)}", file=sys.stderr)
    size = len(scene.state())
    if demo.states.shape[1] != size:
        raise UserError(
            f"{path}: {demo.name} has states of {demo.states.shape[1]} numbers, {scene.config.task} with "
            f"{'+'.join(scene.config.robots)} has {size}; was it made with another task, robot or gripper?"
        )
    scene.set_state(demo.states[0])


def look_at_demo(scene: RobotScene, demo: Demonstration, path: Path, steps_per_frame: int) -> RecordedEpisode:
    """The demo's own states and actions, with pictures."""
    start_at(scene, demo, path)
    frames, rewards, success = [], [], []
    for step, state in enumerate(demo.states):
        scene.set_state(state)
        if step % steps_per_frame == 0:
            frames.append(frame_of(scene))
        rewards.append(float(scene.env.reward(None)))  # no task reads the action, Stack asks for one
        success.append(bool(scene.env._check_success()))
    # What an action brought is seen in the next state; the one after the last is not stored.
    rewards, success = [*rewards[1:], rewards[-1]], [*success[1:], success[-1]]
    return join_frames(scene, frames, demo.actions, demo.states, rewards, success, steps_per_frame)


def json_of(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`arguments` with arrays as lists, as JSON needs them."""
    text = json.dumps(arguments, default=lambda value: np.asarray(value).tolist())
    result: dict[str, Any] = json.loads(text)
    return result
