"""Writes episodes of robots into HDF5 files of robomimic's layout, see `uwm.data.robomimic.hdf5`."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from uwm.data.robomimic.hdf5 import MASKS
from uwm.data.simulation.episode import RecordedEpisode
from uwm.data.simulation.robot_scene import Picture
from uwm.files import replacing


def write_demo(
    demo: h5py.Group, episode: RecordedEpisode, camera: str, *, pictures: bool = True, jpeg: int | None = None
) -> None:
    """Writes an episode into its group.

    Args:
        demo: an empty group.
        episode: what was recorded.
        camera: whose pictures these are.
        pictures: False where they are kept in a video elsewhere; the states then stay out too, since a
            seed makes them again.
        jpeg: quality of JPEG files; None keeps the pixels as they are (gzip).
    """
    demo.attrs["num_samples"] = len(episode.actions)
    _put(demo, "actions", episode.actions)
    _put(demo, "frame_steps", episode.frame_steps.astype(np.int32))
    if pictures:
        _put(demo, "states", episode.states)
        _put(demo, "rewards", episode.rewards)
        _put(demo, "dones", np.arange(len(episode.actions)) == len(episode.actions) - 1, np.uint8)
        _put_pictures(demo, f"obs/{camera}_image", episode.images, jpeg)
    demo.attrs["success"] = bool(episode.success.any())
    _put(demo, "success", episode.success, np.uint8)
    _put(demo, f"obs/{camera}_hand", episode.eef_in_picture, np.float32)
    _put(demo, "obs/robot0_eef_pos", episode.eef_pos, np.float32)
    if episode.fingers.shape[1]:
        fingers = _put(demo, "obs/robot0_gripper_qpos", episode.fingers, np.float32)
        if episode.closed_open is not None:
            fingers.attrs["closed_open"] = np.asarray(episode.closed_open)
    if episode.object_names:
        objects = _put(demo, "obs/object_pos", episode.objects, np.float32)
        objects.attrs["names"] = ",".join(episode.object_names)


def _put(group: h5py.Group, name: str, values: ArrayLike, kind: Any = None) -> h5py.Dataset:
    array = np.asarray(values, kind)
    return group.create_dataset(
        name, data=array, chunks=array.shape, compression="gzip", compression_opts=9, shuffle=True
    )


def _put_pictures(group: h5py.Group, name: str, images: Picture, jpeg: int | None) -> None:
    if jpeg is None:
        group.create_dataset(name, data=images, chunks=(1, *images.shape[1:]), compression="gzip")
        return
    stored = group.create_dataset(name, (len(images),), h5py.vlen_dtype(np.uint8))
    stored.attrs["encoding"] = "jpeg"
    for index, image in enumerate(images):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "JPEG", quality=jpeg, subsampling=0)
        stored[index] = np.frombuffer(buffer.getvalue(), np.uint8)


def write_part(
    path: Path,
    episode: RecordedEpisode,
    camera: str,
    limits: tuple[ArrayLike, ArrayLike],
    attributes: Mapping[str, Any],
    **options: Any,
) -> None:
    """A file of its own with one demo `demo_0`, in one step.

    `limits` are the lowest and highest action (A,), `attributes` the demo's, `options` those of `write_demo`.
    """
    with replacing(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        demo = file.create_group("data/demo_0")
        low, high = (np.asarray(limit, np.float32) for limit in limits)
        file["data"].attrs.update(action_low=low, action_high=high)
        demo.attrs.update(attributes)
        write_demo(demo, episode, camera, **options)


def join_parts(
    path: Path,
    parts: Sequence[Path],
    names: Sequence[str],
    env_args: Mapping[str, Any],
    splits: Mapping[str, Iterable[str]],
    attributes: Mapping[str, Any],
) -> None:
    """Joins files of one demo each into `path`, in one step.

    Args:
        path: the new file; one that is there is replaced.
        parts: what `write_part` wrote.
        names: of the demos, such as demo_0.
        env_args: `env_name`, `type` and `env_kwargs` of robosuite.
        splits: the names of the demos of train, validation and test; empty where nothing is said of it.
        attributes: further ones of `data`.
    """
    total = 0
    with replacing(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        data = file.create_group("data")
        for name, part in zip(names, parts, strict=True):
            with h5py.File(part, "r", locking=False) as source:
                source.copy("data/demo_0", data, name=name)
                data.attrs.update(source["data"].attrs)
            total += int(data[name].attrs["num_samples"])
        data.attrs.update(total=total, env_args=json.dumps(env_args, sort_keys=True), **attributes)
        for theirs, ours in MASKS.items():
            if ours in splits:
                file[f"mask/{theirs}"] = np.array([name.encode() for name in splits[ours]], "S")
