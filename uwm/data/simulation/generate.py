"""Files of robot demonstrations, made by several processes and resumed after a stop.

Each demo is first a file of its own in the folder .FILE.parts beside FILE; when all are there, they are
joined.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from uwm.data.robomimic.hdf5 import MASKS, demo_names, open_demos
from uwm.data.simulation.episode import (
    RecordedEpisode,
    episode_generators,
    record,
    replayed,
    scripted,
    smooth_random,
)
from uwm.data.simulation.jobs import in_processes
from uwm.data.simulation.render import json_of, look_at_demo, read_demonstration, start_at
from uwm.data.simulation.robot_scene import RobotScene, SceneConfig, environment_arguments
from uwm.data.simulation.write import join_parts, write_part
from uwm.errors import UserError
from uwm.files import remove_matching, write_atomically

PolicyName = Literal["scripted", "random", "replay", "look"]
POLICIES = {"scripted": scripted, "random": smooth_random}


@dataclass(frozen=True)
class Recording:
    """All that the contents of a file depend on, but for how many demos it has."""

    scene: SceneConfig
    policy: PolicyName  # replay: acts as in `demos`; look: shows the very states of `demos`
    demos: str | None = None
    steps: int | None = None  # control steps per demo; None: as many as the demonstration has
    steps_per_frame: int = 2
    seed: int = 0
    jpeg: int | None = None  # quality; None: lossless


@dataclass(frozen=True)
class Take:
    """One demo to make: its name in the new file, its number, and the demonstration that it is made from."""

    name: str
    number: int
    source: str | None = None


def make_file(out: Path, recording: Recording, takes: Sequence[Take], jobs: int) -> int:
    """Makes the demos that are not there yet, joins all into `out`, and returns how many were made.

    Raises:
        UserError: `out`, or an unfinished one, was made with other settings; a demo cannot be made.
    """
    settings = json.dumps({**asdict(recording), "takes": [take.name for take in takes]}, sort_keys=True)
    if out.exists():
        check_same(out, settings)
        return 0
    folder = out.with_name(f".{out.name}.parts")
    claim(folder, json.dumps(asdict(recording), sort_keys=True))
    missing = [take for take in takes if not demo_file(folder, take).is_file()]
    if missing:
        jobs = min(jobs, len(missing))
        units = [missing[index::jobs] for index in range(jobs)]
        in_processes(partial(make_unit, recording, folder), units, len(missing), jobs, "demo")
    parts = [demo_file(folder, take) for take in takes]
    names = [take.name for take in takes]
    splits = _splits(recording, takes)
    join_parts(out, parts, names, environment_of(recording.scene), splits, {"settings": settings})
    remove_matching(folder, "*.hdf5", ".*.tmp", "settings.json")
    return len(missing)


def check_same(out: Path, settings: str) -> None:
    """`UserError` where the file was made with other settings."""
    with open_demos(out) as file:
        if file["data"].attrs.get("settings") != settings:
            raise UserError(f"{out} is there already, made with other settings: remove it or name another")


def claim(folder: Path, settings: str) -> None:
    """Makes the folder of the parts. `UserError` when it has parts of other settings."""
    note = folder / "settings.json"
    if note.is_file() and note.read_text() != settings:
        raise UserError(
            f"{folder} holds an unfinished file of other settings: remove it or name another file"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(note, settings)  # several machines may begin together


def demo_file(folder: Path, take: Take) -> Path:
    """Where a demo lies until the file is whole."""
    return folder / f"{take.name}.hdf5"


def environment_of(config: SceneConfig) -> dict[str, Any]:
    """`env_args` of a file: what robosuite builds the scene from."""
    arguments = environment_arguments(config)
    name = arguments.pop("env_name")
    views = {
        "camera_names": [config.camera],
        "camera_heights": config.size,
        "camera_widths": config.size,
    }
    return {"env_name": name, "type": 1, "env_kwargs": json_of({**arguments, **views})}


def _splits(recording: Recording, takes: Sequence[Take]) -> dict[str, list[str]]:
    """The splits that the demonstrations have in their own file, if any."""
    if recording.policy != "look" or recording.demos is None:
        return {}
    with open_demos(Path(recording.demos)) as file:
        masks = {
            ours: file[f"mask/{theirs}"][()] for theirs, ours in MASKS.items() if f"mask/{theirs}" in file
        }
    made = {take.name for take in takes}
    return {split: [n for n in map(bytes.decode, names) if n in made] for split, names in masks.items()}


def make_unit(recording: Recording, folder: Path, takes: Sequence[Take], done: Callable[[], None]) -> None:
    """Makes some demos of one scene in the folder of parts; calls `done` after each."""
    scene = RobotScene(recording.scene)
    for take in takes:
        episode = play(scene, recording, take)
        attributes = {
            "model_file": scene.model_text(),
            "number": take.number,
            "task": recording.scene.task,
        }
        write_part(
            demo_file(folder, take), episode, recording.scene.camera, scene.env.action_spec, attributes,
            jpeg=recording.jpeg,
        )  # fmt: skip
        done()
    scene.close()


def play(scene: RobotScene, recording: Recording, take: Take) -> RecordedEpisode:
    """One demo; it depends on the recording and the take alone, not on what the scene showed before."""
    if take.source is not None:
        path = Path(str(recording.demos))
        looking = recording.policy == "look"
        demo = read_demonstration(path, take.source, acting=not looking)
        if looking:
            return look_at_demo(scene, demo, path, recording.steps_per_frame)
        start_at(scene, demo, path)
        size = len(scene.env.action_spec[0])
        if demo.actions.shape[1] != size:
            raise UserError(
                f"{path}: {demo.name} has actions of {demo.actions.shape[1]} numbers, "
                f"the controller takes {size}"
            )
        steps = min(recording.steps or len(demo.actions), len(demo.actions))
        return record(scene, replayed(demo.actions), steps, recording.steps_per_frame)
    generators = episode_generators([recording.seed, take.number])
    scene.reset(next(generators))
    policy = POLICIES[recording.policy](scene, next(generators))
    assert recording.steps is not None
    return record(scene, policy, recording.steps, recording.steps_per_frame)


def demonstrations(path: Path) -> list[str]:
    """The demos of a file. `UserError` where there are none."""
    with open_demos(path) as file:
        if names := demo_names(file):
            return names
    raise UserError(f"{path}: no demonstration in it")
