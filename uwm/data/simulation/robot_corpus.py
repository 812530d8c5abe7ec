"""The in-domain corpus `sim-panda`, made from seeds: a Panda arm on Lift, Stack and NutAssembly.

Pictures go into one H.264 file per clip, as in the other bundled corpora. Actions and measurements of all
clips go into `robot.hdf5` beside them (`uwm.data.robomimic.hdf5`), a demo per clip. A clip is a pure
function of its seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from numpy.typing import ArrayLike

from uwm.data.robomimic.actions import ACTIONS_FILE
from uwm.data.simulation.clips import (
    CLIPS_PER_SPLIT,
    MANIFEST,
    PANDA,
    ClipRow,
    SimulatedClip,
    all_clips,
    read_rows,
    write_rows,
)
from uwm.data.simulation.corpora import CRF, check_renderer, encode
from uwm.data.simulation.episode import RecordedEpisode, episode_generators, record, scripted
from uwm.data.simulation.jobs import in_processes
from uwm.data.simulation.robot_scene import WORKSPACE_CAMERA, RobotScene, SceneConfig
from uwm.data.simulation.scene import CONTROL_HZ, FPS, FRAMES, SIZE, STEPS_PER_FRAME
from uwm.data.simulation.write import join_parts, write_part
from uwm.errors import UserError
from uwm.files import remove_matching, replacing

PANDA_TASKS = ("Lift", "Stack", "NutAssembly")
ENV_ARGS = {
    "env_name": "/".join(PANDA_TASKS),  # each demo names its own
    "type": 1,  # robomimic's number of robosuite
    "env_kwargs": {"robots": ["Panda"], "control_freq": CONTROL_HZ, "camera_names": [WORKSPACE_CAMERA]},
}


def panda_clips() -> list[SimulatedClip]:
    """Every clip of the corpus."""
    return all_clips(0, [PANDA])


def clip_task(clip: SimulatedClip) -> str:
    """The tasks take turns."""
    return PANDA_TASKS[clip.index % len(PANDA_TASKS)]


def scene_of(task: str) -> SceneConfig:
    """How the corpus looks at a task: robosuite's default look, arm and controller, one fixed camera."""
    return SceneConfig(task=task, robots=("Panda",), camera=WORKSPACE_CAMERA, size=SIZE)


def play_clip(scene: RobotScene, clip: SimulatedClip) -> RecordedEpisode:
    """The episode of a clip."""
    generators = episode_generators([clip.seed])
    scene.reset(next(generators))
    return record(scene, scripted(scene, next(generators)), FRAMES * STEPS_PER_FRAME, STEPS_PER_FRAME)


def record_clip(scene: RobotScene, clip: SimulatedClip, out: Path) -> None:
    """Makes one clip in `out`/sim-panda, with its row and its demo in `.parts` until the corpus is whole."""
    episode = play_clip(scene, clip)
    path = out / PANDA / clip.file
    states = episode.states[episode.frame_steps].astype("<f8")
    with replacing(path) as temporary:  # renamed last: a clip that is there is whole, with its row and demo
        # One key frame: a clip is short, and these cost half of the bytes.
        encode(temporary, list(episode.images), CRF[PANDA], keyframe_every=FRAMES)
        row = ClipRow(
            file=clip.file,
            split=clip.split,
            seed=clip.seed,
            task=clip_task(clip),
            robot="Panda",
            camera=WORKSPACE_CAMERA,
            width=SIZE,
            height=SIZE,
            fps=FPS,
            frames=FRAMES,
            sha256=hashlib.sha256(temporary.read_bytes()).hexdigest(),
            states_sha256=hashlib.sha256(states.tobytes()).hexdigest(),
        )
        write_rows(part_file(out, clip, "csv"), [row])
        write_clip_demo(out, clip, episode, scene.env.action_spec)


def write_clip_demo(
    out: Path, clip: SimulatedClip, episode: RecordedEpisode, limits: tuple[ArrayLike, ArrayLike]
) -> None:
    """Keeps the actions and measurements of a clip until the corpus is whole."""
    attributes = {"clip": clip.file, "task": clip_task(clip), "seed": clip.seed}
    path = part_file(out, clip, "hdf5")
    write_part(path, episode, WORKSPACE_CAMERA, limits, attributes, pictures=False)


def part_file(out: Path, clip: SimulatedClip, suffix: str) -> Path:
    """Where a clip's row (csv) or demo (hdf5) lies until the corpus is whole."""
    return out / PANDA / ".parts" / f"{clip.split}-{clip.index:04d}.{suffix}"


def is_done(out: Path, clip: SimulatedClip) -> bool:
    """Whether the clip is there, from this seed."""
    rows = [*read_rows(out / PANDA / MANIFEST), *read_rows(part_file(out, clip, "csv"))]
    return (out / PANDA / clip.file).is_file() and (clip.file, clip.seed) in {(r.file, r.seed) for r in rows}


def join_clips(out: Path) -> int:
    """Writes the table and the actions of the clips that are there, and returns how many.

    Once all of them are there, their parts are removed.
    """
    folder = out / PANDA
    whole = not (folder / ".parts").is_dir()
    done = [clip for clip in panda_clips() if part_file(out, clip, "hdf5").is_file()]
    if whole or not done:
        return len(read_rows(folder / MANIFEST))
    done.sort(key=lambda clip: clip.file)
    demos = {clip: f"demo_{index}" for index, clip in enumerate(done)}
    splits = {
        split: [demos[clip] for clip in done if clip.split == split] for split in CLIPS_PER_SPLIT[PANDA]
    }
    parts = [part_file(out, clip, "hdf5") for clip in done]
    join_parts(folder / ACTIONS_FILE, parts, list(demos.values()), ENV_ARGS, splits, {})
    # Written last: a corpus with a table has its actions.
    write_rows(folder / MANIFEST, [row for clip in done for row in read_rows(part_file(out, clip, "csv"))])
    if len(done) == len(panda_clips()):
        remove_matching(folder / ".parts", "*.hdf5", "*.csv", ".*.tmp")
    return len(done)


def _render_unit(out: Path, unit: tuple[str, list[SimulatedClip]], done: Callable[[], None]) -> None:
    scene = RobotScene(scene_of(unit[0]))
    for clip in unit[1]:
        record_clip(scene, clip, out)
        done()
    scene.close()


def make_corpus(out: Path, only: str | None, jobs: int) -> tuple[int, int]:
    """Makes the clips that are not there, or the one called `only`; returns how many were made and kept.

    Raises:
        UserError: no such clip; robosuite or OpenGL is missing; a process failed.
    """
    clips = [clip for clip in panda_clips() if only in (None, Path(clip.file).stem)]
    if not clips:
        raise UserError(f"no clip {only!r}; names are such as test-0003")
    missing = [clip for clip in clips if not is_done(out, clip)]
    if missing:
        check_renderer()
        units = [
            (task, group) for task in PANDA_TASKS if (group := [c for c in missing if clip_task(c) == task])
        ]
        in_processes(partial(_render_unit, out), units, len(missing), min(jobs, len(units)), "clip")
    join_clips(out)
    return len(missing), len(clips) - len(missing)
