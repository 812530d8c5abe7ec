"""The robot's own actions between the two frames of each pair, and where its gripper is in them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from uwm.data.corpora import Corpus
from uwm.data.manifest import Manifest
from uwm.data.robomimic.hdf5 import demo_names, environment, open_demos
from uwm.errors import UserError

ACTIONS_FILE = "robot.hdf5"
"""Beside the videos of a corpus: their demos, each with the attribute `clip`."""

TOLERANCE = 1e-5  # beyond the controller's range, as 32-bit numbers round
PANDA_FINGERS = (0.0, 0.08)
"""Finger 0 less finger 1 of the Panda's own gripper, closed and open, metres: robosuite's model of it."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PairActions:
    """What a robot did in n pairs; T is the largest number of control steps between two frames.

    actions (n,T,A) float32, all of those between the frames, padded with 0; mask (n,T) bool, where there is
    one; low, high (A,) float32, the controller's range; hand (n,2,2) float32, the gripper's place (x, y) in
    frame t and t+1 as fractions of the picture's width and height from the top left; hand_position (n,2,3)
    float32 metres; gripper (n,2) float32, opening in [0, 1]. The last three are NaN where unknown.
    """

    actions: Floats
    mask: NDArray[np.bool_]
    low: Floats
    high: Floats
    hand: Floats
    hand_position: Floats
    gripper: Floats


@dataclass(frozen=True)
class _Demo:
    """One demo: actions (N,A), and per frame (F,...) steps, place, hand and opening."""

    actions: Floats
    steps: NDArray[np.int64]
    place: Floats
    hand: Floats
    opening: Floats


def pair_actions(corpus: Corpus, manifest: Manifest) -> PairActions:
    """The actions of a manifest's pairs, in its order.

    Raises:
        UserError: no actions for these videos; demos with actions of different sizes; an action that is not
            a number, or out of the controller's range.
    """
    path = _actions_path(corpus)
    status = path.stat()
    known = _demos(corpus, path, (status.st_size, status.st_mtime_ns))
    known.read(path, [str(video) for video in manifest.table["video"].unique()])
    rows: list[tuple[NDArray[np.intp], _Demo, NDArray[np.int64]]] = []
    for video, group in manifest.table.groupby("video", sort=False):
        frames = group[["frame0", "frame1"]].to_numpy(np.int64)  # (m, 2)
        rows.append((group.index.to_numpy(), known.demos[str(video)], frames))
    return _gather(rows, len(manifest.table), known.low, known.high)


@dataclass(frozen=True)
class _Demos:
    """The demos of a corpus: where each video's is, the controller's range, and those that were read."""

    places: Mapping[str, tuple[str, str | None]]
    low: Floats
    high: Floats
    demos: dict[str, _Demo] = field(default_factory=dict)

    def read(self, path: Path, videos: list[str]) -> None:
        """Read the demos of some videos, once. One that nobody asks for may be broken."""
        wanted = [video for video in videos if video not in self.demos]
        if not wanted:
            return
        with _opened(path) as file:
            for video in wanted:
                if video not in self.places:
                    raise UserError(f"{path}: no actions for the clip {video}")
                self.demos[video] = _read_demo(file, *self.places[video], self.low, self.high)


@functools.lru_cache(maxsize=2)
def _demos(corpus: Corpus, path: Path, stamp: tuple[int, int]) -> _Demos:
    """Another `stamp`, the file's size and time of change, is another file."""
    with _opened(path) as file:
        return _Demos(_demo_places(corpus, file), *action_limits(file))


def _gather(rows: list[Any], pairs: int, low: Floats, high: Floats) -> PairActions:
    longest = max(
        int(np.max(demo.steps[frames[:, 1]] - demo.steps[frames[:, 0]])) for _, demo, frames in rows
    )
    actions = np.zeros((pairs, longest, len(low)), np.float32)
    mask = np.zeros((pairs, longest), bool)
    hand, position, gripper = (np.full((pairs, 2, *s), np.nan, np.float32) for s in ((2,), (3,), ()))
    for index, demo, frames in rows:
        first, last = demo.steps[frames].T  # (m,) each
        steps = first[:, None] + np.arange(longest)  # (m, T)
        between = steps < last[:, None]
        actions[index] = np.where(between[..., None], demo.actions[np.where(between, steps, 0)], 0)
        mask[index] = between
        hand[index], position[index], gripper[index] = (
            demo.place[frames],
            demo.hand[frames],
            demo.opening[frames],
        )
    return PairActions(actions, mask, low, high, hand, position, gripper)


def actions_path(corpus: Corpus) -> Path:
    """Where a corpus keeps its actions, if it has some."""
    return corpus.folder if corpus.folder.is_file() else corpus.folder / ACTIONS_FILE


def _actions_path(corpus: Corpus) -> Path:
    path = actions_path(corpus)
    if not path.is_file():
        raise UserError(f"corpus {corpus.name!r} in {corpus.folder} has no actions ({ACTIONS_FILE})")
    return path


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    with open_demos(path) as file:
        try:
            yield file
        except (OSError, KeyError, RuntimeError) as error:
            raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())[:120]})") from None


def _demo_places(corpus: Corpus, file: h5py.File) -> dict[str, tuple[str, str | None]]:
    """By video: its demo, and the camera that took it (None: the only one whose hand is known)."""
    if corpus.folder.is_file():
        parts = {clip.path: PurePosixPath(clip.path).parts for clip in corpus.clips}
        return {path: (part[1], part[3].removesuffix("_image")) for path, part in parts.items()}
    return {str(file[f"data/{name}"].attrs.get("clip")): (name, None) for name in demo_names(file)}


def action_limits(file: h5py.File) -> tuple[Floats, Floats]:
    """The controller's range (A,): as stored, or as in `controller_configs`, or robosuite's -1 to 1."""
    data = file["data"]
    size = data[f"{demo_names(file)[0]}/actions"].shape[-1]
    config = environment(file)["env_kwargs"].get("controller_configs") or {}
    config = config[0] if isinstance(config, list) else config
    low = data.attrs.get("action_low", config.get("input_min", -1))
    high = data.attrs.get("action_high", config.get("input_max", 1))
    try:
        low, high = (np.broadcast_to(np.asarray(limit, np.float32), (size,)).copy() for limit in (low, high))
    except ValueError:
        raise UserError(
            f"{file.filename}: the range of actions has not the {size} numbers of an action"
        ) from None
    return low, high


def _read_demo(file: h5py.File, name: str, camera: str | None, low: Floats, high: Floats) -> _Demo:
    demo = file[f"data/{name}"]
    actions = demo["actions"][()].astype(np.float32)
    check_actions(Path(file.filename), name, actions, low, high)
    frames = _frames(demo)
    steps = demo["frame_steps"][()].astype(np.int64) if "frame_steps" in demo else np.arange(frames)
    if len(steps) != frames or steps[-1] > len(actions):
        raise UserError(f"{file.filename}: {name} has {frames} frames, {len(steps)} frame_steps "
                        f"and {len(actions)} actions, which do not fit")  # fmt: skip
    obs = demo.get("obs", {})
    if camera is None:
        camera = next((key.removesuffix("_hand") for key in obs if key.endswith("_hand")), "")
    place = _known(obs, f"{camera}_hand", (frames, 2))
    hand = _known(obs, "robot0_eef_pos", (frames, 3))
    return _Demo(actions, steps, place, hand, _opening(file, obs, frames))


def _frames(demo: h5py.Group) -> int:
    obs = demo.get("obs", {})
    return len(demo["frame_steps"]) if "frame_steps" in demo else len(next(iter(obs.values())))


def _known(obs: Any, name: str, shape: tuple[int, ...]) -> Floats:
    if name in obs and obs[name].shape == shape:
        return np.asarray(obs[name][()], np.float32)
    return np.full(shape, np.nan, np.float32)


def _opening(file: h5py.File, obs: Any, frames: int) -> Floats:
    """How far a gripper of two sliding fingers is open (F,), in [0, 1]; NaN for others."""
    fingers = obs.get("robot0_gripper_qpos")
    if fingers is None or fingers.shape != (frames, 2):
        return np.full(frames, np.nan, np.float32)
    arguments = environment(file)["env_kwargs"]
    robots = arguments.get("robots")
    own = arguments.get("gripper_types", "default") in ("default", "PandaGripper", None)
    panda = PANDA_FINGERS if own and robots in ("Panda", ["Panda"]) else (np.nan, np.nan)
    closed, opened = fingers.attrs.get("closed_open", panda)
    apart = fingers[:, 0] - fingers[:, 1]
    return np.clip((apart - closed) / (opened - closed), 0, 1).astype(np.float32)


def check_actions(path: Path, name: str, actions: Floats, low: Floats, high: Floats) -> None:
    """`UserError` for actions that are not (N,A), not numbers, or beyond the range."""
    if actions.ndim != 2 or actions.shape[1] != len(low):
        raise UserError(
            f"{path}: {name} has actions {actions.shape}, the first demo has {len(low)} numbers each"
        )
    outside = ~((actions >= low - TOLERANCE) & (actions <= high + TOLERANCE))
    if outside.any():
        step, part = np.argwhere(outside)[0]
        value = actions[step, part]
        wrong = (
            f"out of the controller's range [{low[part]:g}, {high[part]:g}]"
            if np.isfinite(value)
            else "no number"
        )
        raise UserError(f"{path}: {name}, step {step}: action {part} is {value:g}, {wrong}")
