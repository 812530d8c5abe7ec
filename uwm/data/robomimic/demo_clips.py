"""HDF5 files of demonstrations as a corpus: each demonstration a clip, seen by one camera."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from uwm.data.assignment import Choices
from uwm.data.found import Found
from uwm.data.robomimic.hdf5 import (
    MASKS,
    UPSIDE_DOWN,
    control_rate,
    demo_names,
    is_compressed,
    open_demos,
    within,
)
from uwm.data.splits import HELD_OUT_SHARE, Clip, hash_unit, split_by_group
from uwm.errors import UserError

PICTURES = ("_image", "_rgb")  # how the names of pictures end: robomimic's, LIBERO's
ON_A_HAND = ("eye_in_hand", "wrist", "hand_camera", "gripper")


def read_demo_clips(name: str, path: Path, camera: str | None, upside_down: bool = False) -> Found:
    """Each demo as a clip, seen by `camera`: by default the first that is not on a hand.

    Split by `mask/train|valid|test` where the file has some of these (`completed`), else by the hash of the
    demo's name.
    """
    with open_demos(path) as file:
        control_rate(file)  # broken, it breaks each clip
        demos = demo_names(file)
        if not demos:
            raise UserError(f"--data {name}={path}: no demonstration in it")
        key = choose_camera(path, file, demos[0], camera)
        masked = _masks(file, set(demos))
    clips = {demo: f"data/{demo}/obs/{key}{UPSIDE_DOWN if upside_down else ''}" for demo in demos}
    note = f"camera {camera_name(key)}"
    if not masked:
        return Found(split_by_group({path: demo for demo, path in clips.items()}), "hdf5", note)
    splits, how = completed(masked)
    chosen = tuple(Clip(clips[demo], splits[demo]) for demo in demos if demo in splits)
    return Found(chosen, "hdf5", "; ".join(filter(None, [note, how])))


def read_folder_of_demos(name: str, root: Path, files: Sequence[str], choices: Choices) -> Found:
    """All HDF5 files below a folder, one task each or the like; each split as it would be alone."""
    if not files:
        raise UserError(f"--data {name}={root}: no .hdf5 or .h5 file in that folder or below it")
    camera, turned = choices.camera, choices.upside_down
    parts = {file: read_demo_clips(name, root / file, camera, turned) for file in files}
    clips = [Clip(f"{file}/{clip.path}", clip.split) for file, part in parts.items() for clip in part.clips]
    notes = sorted({part.note for part in parts.values()})
    note = f"{len(files)} files, {'; '.join(notes[:3])}"
    return Found(tuple(sorted(clips, key=lambda clip: clip.path)), "hdf5", note)


def _masks(file: h5py.File, demos: set[str]) -> dict[str, str]:
    """The split of each demo that a mask of robomimic's names; in two masks, the held-out one counts."""
    splits: dict[str, str] = {}
    group = within(file, "mask")
    if group is not None and not isinstance(group, h5py.Group):
        raise UserError(f"{file.filename}: mask is no group with lists of demonstrations (mask/train, ...)")
    for theirs, ours in MASKS.items():
        mask = within(file, f"mask/{theirs}")
        if mask is None:
            continue
        if not isinstance(mask, h5py.Dataset):
            raise UserError(f"{file.filename}: mask/{theirs} is no list of demonstrations")
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in np.ravel(mask[()])]
        if names and not demos.intersection(names):
            raise UserError(f"{file.filename}: mask/{theirs} names {names[0]!r} and no demo that is there")
        splits |= {name: ours for name in names if name in demos}
    return splits


def completed(splits: dict[str, str]) -> tuple[dict[str, str], str]:
    """Splits that lack none of the three, and what was done for it.

    robomimic's files have train and valid: the halves of valid, by the hash of the name, become validation
    and test. Else a tenth of train is held out, where that is one or more.
    """
    there = set(splits.values())
    by_hash = sorted(splits, key=hash_unit)
    made = dict(splits)
    valid = [name for name in by_hash if splits[name] == "validation"]
    if "test" not in there and len(valid) > 1:
        made |= dict.fromkeys(valid[: len(valid) // 2], "test")
        return made, "no mask/test: half of mask/valid is tested on"
    train = [name for name in by_hash if splits[name] == "train"]
    share = round(len(train) * HELD_OUT_SHARE)
    missing = [split for split in ("test", "validation") if split not in there]
    if not missing or not share:
        return made, ""
    for index, split in enumerate(missing):
        made |= dict.fromkeys(train[index * share : (index + 1) * share], split)
    return made, f"no mask of {' and '.join(missing)}: {share} demonstrations of train each"


def cameras_of(file: h5py.File, demo: str) -> list[str]:
    """The names of a demo's pictures in `obs`: by their ending, or what looks like pictures."""
    obs = within(file, f"data/{demo}/obs")
    return [key for key in obs if _is_camera(obs, key)] if isinstance(obs, h5py.Group) else []


def _is_camera(obs: h5py.Group, key: str) -> bool:
    item = within(obs, key)
    if not isinstance(item, h5py.Dataset):
        return False
    pictures = item.ndim == 4 and item.dtype == np.uint8 and item.shape[3] == 3
    return key.endswith(PICTURES) or pictures or is_compressed(item)


def camera_name(key: str) -> str:
    return next((key.removesuffix(ending) for ending in PICTURES if key.endswith(ending)), key)


def choose_camera(path: Path, file: h5py.File, demo: str, camera: str | None) -> str:
    """The key of the pictures in `obs` of the wanted camera, or of the first that is on no hand."""
    keys = cameras_of(file, demo)
    if not keys:
        raise UserError(
            f"{path}: {demo} has no pictures (obs/CAMERA_image); make them with "
            f"python -m uwm.data.robot render {path.name} --out FILE.hdf5"
        )
    named = {camera_name(key): key for key in keys} | {key: key for key in keys}
    if camera is not None and camera not in named:
        raise UserError(f"{path}: no camera {camera!r}; there is {', '.join(map(camera_name, keys))}")
    fixed = [key for key in keys if not any(word in key for word in ON_A_HAND)]
    return named[camera] if camera else (fixed or keys)[0]
