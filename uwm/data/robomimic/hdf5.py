"""Demonstrations of robots in robomimic's HDF5 layout, written and read.

    data            attributes total, env_args (JSON: env_name, type, env_kwargs), action_low, action_high
    data/demo_K     attributes num_samples, model_file (or clip: its video); for N control steps:
      actions (N,A) float32, states (N,S), rewards (N,), dones (N,)
      frame_steps (F,)          control steps before each frame; without it there is a frame at each step
      obs/CAMERA_image (F,H,W,3) uint8, or (F,) JPEG files of uint8 where the attribute `encoding` is "jpeg"
      obs/CAMERA_hand (F,2)     the gripper's place, as fractions of the picture
      obs/robot0_eef_pos (F,3)  metres; obs/object_pos (F,n,3) metres, with the attribute names
      obs/robot0_gripper_qpos (F,J), with the attribute closed_open: what finger 0 less finger 1 is, metres
    mask/SPLIT      names of the demos of train, valid and test

With frames at every control step this is robomimic's own layout; else `obs` has rows for the frames only.
To the rest of the package such a file is a folder, and the pictures of a demo are the video
FILE.hdf5/data/demo_K/obs/CAMERA_image.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from PIL import Image

from uwm.data.decoders import BadVideo, Frames, Times
from uwm.data.splits import Clip, split_by_group
from uwm.errors import UserError

CONTROL_HZ = 20.0
"""Control steps per second where a file tells no `control_freq`: robosuite's and robomimic's default."""

MASKS = {"train": "train", "valid": "validation", "test": "test"}
"""robomimic's names of the splits, and ours."""

READ_AT_ONCE = 64  # frames


def split_path(path: Path | str) -> tuple[Path, str] | None:
    """The file and the name inside it, where `path` leads into one: a/b.hdf5/data/x -> (a/b.hdf5, data/x)."""
    path = Path(path)
    if path.exists():
        return None
    for parent in path.parents:
        if parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None


@contextmanager
def open_demos(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file of demonstrations, for reading. `UserError` for anything else."""
    try:
        # Without locks, so that a read-only or network file system does.
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read as HDF5 ({_reason(error)})") from None
    with file:
        if not isinstance(file.get("data"), h5py.Group):
            raise UserError(
                f"{path}: no group `data` with demonstrations, as robomimic and robosuite write it"
            )
        yield file


def demo_names(file: h5py.File) -> list[str]:
    """The demos, in the order of their numbers."""
    names = [name for name, group in file["data"].items() if isinstance(group, h5py.Group)]
    return sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def environment(file: h5py.File) -> dict[str, Any]:
    """`env_name` and `env_kwargs` of a file; robosuite v1.0 calls them `env` and `env_info`."""
    attributes = file["data"].attrs
    text = attributes.get("env_args", attributes.get("env_info", "{}"))
    try:
        found = json.loads(text)
        arguments = found.get("env_kwargs", found)
        name = found.get("env_name", attributes.get("env", ""))
        return {"env_name": str(name), "env_kwargs": dict(arguments)}
    except (ValueError, AttributeError, TypeError):
        raise UserError(
            f"{file.filename}: the attribute env_args of `data` is not JSON of an object"
        ) from None


def control_rate(file: h5py.File) -> float:
    """Control steps per second."""
    return float(environment(file)["env_kwargs"].get("control_freq") or CONTROL_HZ)


# A file as a corpus


def read_demo_clips(name: str, path: Path, camera: str | None) -> tuple[Clip, ...]:
    """Each demo as a clip, seen by `camera`: by default the first that is not on a hand.

    Split by `mask/train|valid|test` where the file has some of these, else by the hash of the demo's name.
    """
    with open_demos(path) as file:
        environment(file)  # broken, it breaks each clip
        demos = demo_names(file)
        if not demos:
            raise UserError(f"--data {name}={path}: no demonstration in it")
        image = f"{_choose_camera(path, file, demos[0], camera)}_image"
        masks = {
            ours: file[f"mask/{theirs}"][()] for theirs, ours in MASKS.items() if f"mask/{theirs}" in file
        }
    paths = {demo: f"data/{demo}/obs/{image}" for demo in demos}
    if not masks:
        return split_by_group({path: demo for demo, path in paths.items()})
    splits = {demo.decode(): split for split, names in masks.items() for demo in names}
    return tuple(Clip(paths[demo], splits[demo]) for demo in demos if demo in splits)


def _choose_camera(path: Path, file: h5py.File, demo: str, wanted: str | None) -> str:
    names = list(file[f"data/{demo}"].get("obs", {}))
    cameras = [name.removesuffix("_image") for name in names if name.endswith("_image")]
    if not cameras:
        raise UserError(
            f"{path}: {demo} has no pictures (obs/CAMERA_image); make them with "
            f"python -m uwm.data.robot render {path.name} --out FILE.hdf5"
        )
    if wanted is not None and wanted not in cameras:
        raise UserError(f"{path}: no camera {wanted!r}; there is {', '.join(cameras)}")
    fixed = [camera for camera in cameras if "eye_in_hand" not in camera]
    return wanted or (fixed or cameras)[0]


class DemoReader:
    """The pictures of one demo, as a video."""

    def __init__(self, file: Path, name: str) -> None:
        """`name` is the data set's name inside `file`. `BadVideo` where there are no such pictures."""
        self.path = file / name
        self._file, self._name = file, name
        with self._open() as images:
            self.jpeg = images.attrs.get("encoding") == "jpeg"
            shaped = images.ndim == 1 if self.jpeg else images.ndim == 4 and images.shape[3] == 3
            if not shaped or not len(images) or not (self.jpeg or images.dtype == np.uint8):
                raise BadVideo(
                    self.path, f"pictures are {images.dtype} {images.shape}, not uint8 (F, H, W, 3)"
                )
            demo = images.parent.parent
            rate = control_rate(images.file)
            steps = demo["frame_steps"][()] if "frame_steps" in demo else np.arange(len(images))
        if len(steps) != len(images) or np.any(np.diff(steps) <= 0):
            raise BadVideo(self.path, f"frame_steps must ascend and be as many as the {len(images)} pictures")
        self._times: Times = (steps - steps[0]) / rate
        self.fps = float((len(steps) - 1) / self._times[-1]) if len(steps) > 1 else rate

    @contextmanager
    def _open(self) -> Iterator[h5py.Dataset]:
        try:
            with open_demos(self._file) as file:
                images = file.get(self._name)
                if not isinstance(images, h5py.Dataset):
                    raise BadVideo(self.path, "there are no such pictures in the file")
                yield images
        except BadVideo:
            raise
        except UserError as error:
            raise BadVideo(self.path, str(error).removeprefix(f"{self._file}: ")) from None
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise BadVideo(self.path, f"cannot be read ({_reason(error)})") from None

    def __len__(self) -> int:
        return len(self._times)

    def times(self) -> Times:
        """Seconds from the first frame (F,)."""
        return self._times

    def read(self, indices: Sequence[int]) -> Frames:
        """Frames (n,H,W,3) by place."""
        if max(indices) >= len(self):
            raise BadVideo(self.path, f"has {len(self)} frames, frame {max(indices)} was asked for")
        with self._open() as images:
            rows, inverse = np.unique(np.asarray(indices, np.int64), return_inverse=True)
            return np.stack([self._picture(images[int(row)]) for row in rows])[inverse]

    def _picture(self, stored: Any) -> Frames:
        if not self.jpeg:
            return np.asarray(stored, np.uint8)
        with Image.open(io.BytesIO(np.asarray(stored, np.uint8).tobytes())) as picture:
            return np.asarray(picture.convert("RGB"))

    def content_hash(self) -> str:
        """sha256 of the stored pictures."""
        digest = hashlib.sha256()
        with self._open() as images:
            for start in range(0, len(self), READ_AT_ONCE):
                for stored in images[start : start + READ_AT_ONCE]:
                    digest.update(np.ascontiguousarray(stored).tobytes())
        return digest.hexdigest()


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
