"""Files of demonstrations for tests, as robomimic and others lay them out."""

import json
from pathlib import Path

import h5py
import numpy as np


def grey(value: int, side: int) -> np.ndarray:
    """A picture whose brightness tells which it is."""
    return np.full((side, side, 3), value % 256, np.uint8)


def write_demos(
    path: Path,
    lengths: list[int],
    *,
    size: int = 7,
    side: int = 24,
    cameras: tuple[str, ...] = ("agentview",),
    env: dict | None = None,
    masks: dict[str, list[int]] | None = None,
) -> Path:
    """Demos as robomimic stores them, a frame at each step; frame i of demo d is grey(10 d + i)."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(lengths)
        data.attrs["env_args"] = json.dumps(env or {"env_name": "Lift", "type": 1, "env_kwargs": {}})
        for number, length in enumerate(lengths):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = length
            demo["actions"] = rng.uniform(-1, 1, (length, size))
            demo["states"] = rng.standard_normal((length, 5))
            for place, camera in enumerate(cameras):
                pictures = np.stack([grey(10 * number + i + 100 * place, side) for i in range(length)])
                demo[f"obs/{camera}_image"] = pictures
        for name, numbers in (masks or {}).items():
            file[f"mask/{name}"] = np.array([f"demo_{number}" for number in numbers], "S")
    return path


def libero(path: Path, upside_down: bool = True) -> Path:
    """Names of LIBERO; picture i of demo d is dark above and 10 d + i below, stored bottom row first."""
    write_demos(path, [8] * 10, cameras=())
    with h5py.File(path, "r+") as file:
        for number in range(10):
            pictures = np.zeros((8, 24, 24, 3), np.uint8)
            pictures[:, 12:] = (10 * number + np.arange(8) + 1)[:, None, None, None]
            stored = pictures[:, ::-1] if upside_down else pictures
            file[f"data/demo_{number}/obs/agentview_rgb"] = stored
            file[f"data/demo_{number}/obs/eye_in_hand_rgb"] = stored
    return path


def wild(path: Path, scale: float = 3.75, lengths: int = 8) -> Path:
    """Ten demos whose actions reach up to `scale`, where a range of [-1, 1] is assumed."""
    write_demos(path, [lengths] * 10)
    with h5py.File(path, "r+") as file:
        for number in range(10):
            file[f"data/demo_{number}/actions"][...] *= scale
    return path
