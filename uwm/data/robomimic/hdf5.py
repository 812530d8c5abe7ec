"""Demonstrations of robots in robomimic's HDF5 layout, written and read.

    data            attributes total, env_args (JSON: env_name, type, env_kwargs), action_low, action_high;
                    or action_range, "measured" where no controller's is known
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

from uwm.data.decoders import BadVideo, Frames, Times, check_size
from uwm.errors import UserError

DEFAULT_CONTROL_HZ = 20.0
"""Control steps per second where a file tells no `control_freq`: robosuite's and robomimic's default."""

MASKS = {"train": "train", "valid": "validation", "test": "test"}
"""robomimic's names of the splits, and ours."""

READ_AT_ONCE = 64  # frames
MOST_FRAMES = 1_000_000  # of one demonstration, half a day of it
UPSIDE_DOWN = "@upside-down"
"""At the end of a name of pictures: they are stored bottom row first, as LIBERO stores them."""


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
    """An HDF5 file of demonstrations, for reading. `UserError` for anything else, and for what breaks later
    because the file is not what robomimic writes."""
    try:
        # Without locks, so that a read-only or network file system does.
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read as HDF5 ({_reason(error)})") from None
    with file:
        try:
            if not isinstance(within(file, "data"), h5py.Group):
                raise UserError(
                    f"{path}: no group `data` with demonstrations, as robomimic and robosuite write it"
                )
            yield file
        except (OSError, KeyError, ValueError, TypeError, IndexError, RuntimeError) as error:
            raise UserError(f"{path}: cannot be read as demonstrations ({_reason(error)})") from None


def within(file: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """What a name leads to, if it lies in this very file. `UserError` where it lies in another one."""
    item = file.get(name)
    if item is None:
        return None
    outside = h5py.h5f.get_name(item.id) != h5py.h5f.get_name(file.id)
    if isinstance(item, h5py.Dataset):
        outside = outside or bool(item.external) or item.is_virtual
    if outside:
        raise UserError(
            f"{file.file.filename}: {name} lies in another file, which is not read; copy it in (h5repack)"
        )
    return item


def demo_names(file: h5py.File) -> list[str]:
    """The demos, in the order of their numbers."""
    names = [name for name, group in file["data"].items() if isinstance(group, h5py.Group)]
    return sorted(names, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def env_args(file: h5py.File) -> dict[str, Any]:
    """`env_name` and `env_kwargs` of a file; robosuite v1.0 calls them `env` and `env_info`."""
    attributes = file["data"].attrs
    text = attributes.get("env_args", attributes.get("env_info", "{}"))
    try:
        stored = json.loads(text)
        arguments = stored.get("env_kwargs", stored)
        name = stored.get("env_name", attributes.get("env", ""))
        return {"env_name": str(name), "env_kwargs": dict(arguments)}
    except (ValueError, AttributeError, TypeError):
        raise UserError(
            f"{file.filename}: the attribute env_args of `data` is not JSON of an object"
        ) from None


def control_rate(file: h5py.File) -> float:
    """Control steps per second. `UserError` where the file gives none above 0."""
    value = env_args(file)["env_kwargs"].get("control_freq")
    value = DEFAULT_CONTROL_HZ if value is None else value
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = float("nan")
    if not 0 < rate < 1e5:
        raise UserError(f"{file.filename}: control_freq of env_args is {str(value)[:20]!r}, no rate above 0")
    return rate


class DemoReader:
    """The pictures of one demo, as a video."""

    def __init__(self, file: Path, name: str) -> None:
        """`name` is the data set's name inside `file`. `BadVideo` where there are no such pictures."""
        self.path = file / name
        self._file, self._name = file, name.removesuffix(UPSIDE_DOWN)
        self._upside_down = name.endswith(UPSIDE_DOWN)
        with self._open() as images:
            self.jpeg = is_compressed(images)
            _check_pictures(self.path, images, self.jpeg)
            demo = images.parent.parent
            rate = control_rate(images.file)
            stored = within(demo, "frame_steps")
            steps = np.arange(len(images)) if stored is None else np.asarray(stored[()])
        if len(steps) != len(images) or np.any(np.diff(steps) <= 0):
            raise BadVideo(self.path, f"frame_steps must ascend and be as many as the {len(images)} pictures")
        self._times: Times = (steps - steps[0]) / rate
        self.fps = float((len(steps) - 1) / self._times[-1]) if len(steps) > 1 else rate

    @contextmanager
    def _open(self) -> Iterator[h5py.Dataset]:
        try:
            with open_demos(self._file) as file:
                images = within(file, self._name)
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
            pictures = np.stack([self._picture(images[int(row)]) for row in rows])[inverse]
        return np.ascontiguousarray(pictures[:, ::-1]) if self._upside_down else pictures

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


def is_compressed(images: h5py.Dataset) -> bool:
    """Are these picture files (JPEG, PNG), one per row? By the attribute, else by how the first begins."""
    if images.attrs.get("encoding") == "jpeg":
        return True
    if images.ndim != 1 or not len(images) or h5py.check_vlen_dtype(images.dtype) != np.uint8:
        return False
    return np.asarray(images[0], np.uint8).tobytes().startswith((b"\xff\xd8\xff", b"\x89PNG"))


def _check_pictures(path: Path, images: h5py.Dataset, compressed: bool) -> None:
    shaped = images.ndim == 1 if compressed else images.ndim == 4 and images.shape[3] == 3
    if not shaped or not len(images) or not (compressed or images.dtype == np.uint8):
        raise BadVideo(path, f"pictures are {images.dtype} {images.shape}; write them as uint8 (F, H, W, 3)")
    if len(images) > MOST_FRAMES:
        raise BadVideo(path, f"claims {len(images)} pictures, more than {MOST_FRAMES}")
    if not compressed:
        check_size(path, images.shape[2], images.shape[1])


def _reason(error: BaseException) -> str:
    said = re.sub(r" object at 0x[0-9a-f]+", "", str(error))  # an address differs from run to run
    return " ".join(said.split())[:120] or type(error).__name__
