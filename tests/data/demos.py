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
