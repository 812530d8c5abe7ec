"""The robot's own actions between the two frames of each pair, and where its gripper is in them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from uwm.data.corpora import Corpus
from uwm.data.manifest import Manifest
from uwm.data.robomimic.demo_clips import camera_name
from uwm.data.robomimic.hdf5 import UPSIDE_DOWN, demo_names, env_args, open_demos, within
from uwm.data.robomimic.limits import ActionRange, Floats, action_range, fitted, read_actions
from uwm.errors import UserError

ACTIONS_FILE = "robot.hdf5"
"""Beside the videos of a corpus: their demos, each with the attribute `clip`."""

PANDA_FINGERS = (0.0, 0.08)
"""Finger 0 less finger 1 of the Panda's own gripper, closed and open, metres: robosuite's model of it."""


@dataclass(frozen=True)
class PairActions:
    """What a robot did in n pairs; T is the largest number of control steps between two frames.

    actions (n,T,A) float32, all of those between the frames, padded with 0; mask (n,T) bool, where there is
    one; low, high (A,) float32, the controller's range, or that of the training clips. In frame t and t+1,
    NaN where unknown: eef_in_picture (n,2,2) float32, the end effector (x, y) as fractions of the picture's
    width and height from the top left; eef_pos (n,2,3) float32 metres; gripper_opening (n,2) float32 in
    [0, 1]; block_pos (n,2,3) float32 metres, the position of the first thing where that is a cube.
    """

    actions: Floats
    mask: NDArray[np.bool_]
    low: Floats
    high: Floats
    eef_in_picture: Floats
    eef_pos: Floats
    gripper_opening: Floats
    block_pos: Floats


@dataclass(frozen=True)
class _Demo:
    """One demo: actions (n,A), the step of each of its F frames (F,), and the scene as in `PairActions`."""

    actions: Floats
    steps: NDArray[np.int64]
    eef_in_picture: Floats  # (F,2)
    eef_pos: Floats  # (F,3)
    gripper_opening: Floats  # (F,)
    block_pos: Floats  # (F,3)


_PER_FRAME = ("eef_in_picture", "eef_pos", "gripper_opening", "block_pos")  # fields of both


def pair_actions(corpus: Corpus, manifest: Manifest) -> PairActions:
    """The actions of a manifest's pairs, in its order, in the range that the corpus's `choices` ask for.

    Raises:
        UserError: no actions for these videos; demos with actions of different sizes; an action that is not
            a number, or out of the controller's range.
    """
    known, table = demos_of(corpus), manifest.table.reset_index(drop=True)
    known.read([str(video) for video in table["video"].unique()])
    frames = table[["frame0", "frame1"]].to_numpy(np.int64)  # (n, 2)
    of_video = table.groupby("video", sort=False).indices  # rows (m,) of each
    rows = [(index, known.demos[str(video)], frames[index]) for video, index in of_video.items()]
    return _gather(rows, len(table), known.range.low, known.range.high)


def check_corpus_actions(corpus: Corpus) -> None:
    """Read the actions of every clip: `UserError` as `pair_actions`, before anything is computed."""
    demos_of(corpus).read([clip.path for clip in corpus.clips])


@dataclass(frozen=True)
class _Source:
    """Where the actions of a video are: the camera is None where only one knows the end effector."""

    file: Path
    demo: str
    camera: str | None


@dataclass(frozen=True)
class _Demos:
    """The demos of a corpus: where each video's is, the range of actions, and those that were read."""

    where: Path
    sources: Mapping[str, _Source]
    range: ActionRange
    demos: dict[str, _Demo] = field(default_factory=dict)

    def read(self, videos: list[str]) -> None:
        """Read the demos of some videos, once. One that nobody asks for may be broken."""
        missing: dict[Path, list[str]] = {}
        for video in videos:
            if video not in self.sources:
                raise UserError(f"{self.where}: no actions for the clip {video}")
            if video not in self.demos:
                missing.setdefault(self.sources[video].file, []).append(video)
        for path, here in missing.items():
            with open_demos(path) as file:
                fingers = _known_fingers(file)
                for video in here:
                    source = self.sources[video]
                    self.demos[video] = _read_demo(file, source, self.range, fingers)


def demos_of(corpus: Corpus) -> _Demos:
    """The demos of a corpus, whose files are read again when they change.

    Of all its clips, where it is a part of one: a recipe on fewer clips has the same range of actions.
    """
    corpus = replace(corpus, clips=corpus.uncut or corpus.clips, uncut=())
    files = action_files(corpus)
    if not files:
        raise UserError(f"corpus {corpus.name!r} in {corpus.folder} has no actions ({ACTIONS_FILE})")
    stamps = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files)
    return _demos(corpus, stamps)


@functools.lru_cache(maxsize=4)
def _demos(corpus: Corpus, stamps: tuple[tuple[Path, int, int], ...]) -> _Demos:
    sources = _sources(corpus, [path for path, *_ in stamps])
    demos = {video: (source.file, source.demo) for video, source in sources.items()}
    trained = {demos[clip.path] for clip in corpus.clips if clip.split == "train" and clip.path in demos}
    where = corpus.folder if corpus.folder.is_file() or len(stamps) > 1 else stamps[0][0]
    chosen = action_range(corpus.choices.actions, sorted(set(demos.values())), sorted(trained))
    return _Demos(where, sources, chosen)


def _gather(rows: list[Any], pairs: int, low: Floats, high: Floats) -> PairActions:
    longest = max(
        int(np.max(demo.steps[frames[:, 1]] - demo.steps[frames[:, 0]])) for _, demo, frames in rows
    )
    actions = np.zeros((pairs, longest, len(low)), np.float32)
    mask = np.zeros((pairs, longest), bool)
    scene = {name: np.full((pairs, 2, *getattr(rows[0][1], name).shape[1:]), np.nan, np.float32)
             for name in _PER_FRAME}  # fmt: skip
    for index, demo, frames in rows:
        first, last = demo.steps[frames].T  # (m,) each
        steps = first[:, None] + np.arange(longest)  # (m, T)
        between = steps < last[:, None]
        actions[index] = np.where(between[..., None], demo.actions[np.where(between, steps, 0)], 0)
        mask[index] = between
        for name, values in scene.items():
            values[index] = getattr(demo, name)[frames]
    return PairActions(actions, mask, low, high, **scene)


def action_files(corpus: Corpus) -> list[Path]:
    """The HDF5 files that hold a corpus's actions; none for a corpus without."""
    if corpus.folder.is_file():
        return [corpus.folder]
    inside = sorted({path for clip in corpus.clips if (path := _file_of(clip.path))})
    if inside:
        return [corpus.folder / path for path in inside]
    beside = corpus.folder / ACTIONS_FILE
    return [beside] if beside.is_file() else []


def _file_of(clip: str) -> str | None:
    """DIR/x.hdf5 of the clip DIR/x.hdf5/data/demo_0/obs/CAMERA_image; None for a video file."""
    if ".hdf5/" not in clip and ".h5/" not in clip:  # quickly, of hundreds of thousands of videos
        return None
    file = "/".join(clip.split("/")[:-4])
    return file if file.endswith((".hdf5", ".h5")) else None


def _sources(corpus: Corpus, files: list[Path]) -> dict[str, _Source]:
    if not corpus.folder.is_file() and not (corpus.clips and _file_of(corpus.clips[0].path)):
        with open_demos(files[0]) as file:
            names = {str(file[f"data/{name}"].attrs.get("clip")): name for name in demo_names(file)}
        return {clip: _Source(files[0], name, None) for clip, name in names.items()}
    sources = {}
    for clip in corpus.clips:
        *_, demo, _, key = clip.path.split("/")
        file_name = _file_of(clip.path)
        path = corpus.folder / file_name if file_name else corpus.folder
        sources[clip.path] = _Source(path, demo, camera_name(key.removesuffix(UPSIDE_DOWN)))
    return sources


def _read_demo(file: h5py.File, source: _Source, chosen: ActionRange, fingers: tuple[float, float]) -> _Demo:
    name, camera = source.demo, source.camera
    demo = file[f"data/{name}"]
    actions = fitted(Path(file.filename), name, read_actions(file, name), chosen)
    obs = demo.get("obs", {})
    stored = within(demo, "frame_steps")
    frames = len(stored if stored is not None else next(iter(obs.values())))
    steps = np.arange(frames) if stored is None else stored[()].astype(np.int64)
    # Without a list, which steps far fewer frames are of would be a guess.
    every = stored is not None or abs(frames - len(actions)) <= 1
    if not (frames and every) or len(steps) != frames or steps[-1] > len(actions):
        raise UserError(f"{file.filename}: {name} has {frames} frames, {len(steps)} frame_steps "
                        f"and {len(actions)} actions, which do not fit")  # fmt: skip
    if camera is None:
        camera = next((key.removesuffix("_hand") for key in obs if key.endswith("_hand")), "")
    return _Demo(
        actions,
        steps,
        eef_in_picture=_known(obs, f"{camera}_hand", (frames, 2)),
        eef_pos=_known(obs, "robot0_eef_pos", (frames, 3)),
        gripper_opening=_gripper_opening(obs, frames, fingers),
        block_pos=_block_pos(obs, frames),
    )


def _known(obs: Any, name: str, shape: tuple[int, ...]) -> Floats:
    item = within(obs, name) if obs else None
    if isinstance(item, h5py.Dataset) and item.shape == shape:
        return np.asarray(item[()], np.float32)
    return np.full(shape, np.nan, np.float32)


def _block_pos(obs: Any, frames: int) -> Floats:
    """The position (F, 3) of the first thing where it is a cube; NaN for others."""
    things = obs.get("object_pos")
    named = things is not None and str(things.attrs.get("names", "")).startswith("cube")
    if named and things.ndim == 3 and things.shape[::2] == (frames, 3):
        return np.asarray(things[:, 0], np.float32)
    return np.full((frames, 3), np.nan, np.float32)


def _known_fingers(file: h5py.File) -> tuple[float, float]:
    """PANDA_FINGERS for a file of Pandas with grippers of their own; NaN for others."""
    arguments = env_args(file)["env_kwargs"]
    default_gripper = arguments.get("gripper_types", "default") in ("default", "PandaGripper", None)
    return (
        PANDA_FINGERS
        if default_gripper and arguments.get("robots") in ("Panda", ["Panda"])
        else (np.nan, np.nan)
    )


def _gripper_opening(obs: Any, frames: int, known: tuple[float, float]) -> Floats:
    """How far a gripper of two sliding fingers is open (F,), in [0, 1]; NaN for others. `known`: closed and
    open, where the file does not say."""
    fingers = obs.get("robot0_gripper_qpos")
    if fingers is None or fingers.shape != (frames, 2):
        return np.full(frames, np.nan, np.float32)
    closed, opened = fingers.attrs.get("closed_open", known)
    apart = fingers[:, 0] - fingers[:, 1]
    return np.clip((apart - closed) / (opened - closed), 0, 1).astype(np.float32)
