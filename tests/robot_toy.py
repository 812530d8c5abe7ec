"""A toy robot in robomimic's layout: a bright square on a dim gradient, moved by its own actions."""

import json
from pathlib import Path

import h5py
import numpy as np

SIDE = 48  # pixels
REACH = 1.5  # pixels per control step at full action
POSITION = ("x", "y", "unused")


def write_toy(path: Path, demos: int = 12, steps: int = 40, *, size: int = 3, hand: bool = False) -> Path:
    """`demos` demos of `steps` frames at 20 Hz from camera `front`. Of the `size` numbers of an action the
    first two move the square. `hand` stores its place, as the robot's data tool does."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Toy", "type": 1, "env_kwargs": {}})
        for number in range(demos):
            write_demo(data.create_group(f"demo_{number}"), number, steps, size, hand)
    return path


def write_demo(demo: h5py.Group, seed: int, steps: int, size: int, hand: bool) -> None:
    rng = np.random.default_rng(seed)
    actions = np.repeat(rng.uniform(-1, 1, (-(-steps // 4), size)), 4, axis=0)[:steps]
    place, places = rng.uniform(14, 34, 2), []
    for action in actions:
        places.append(place.copy())
        place = np.clip(place + REACH * action[:2], 8, SIDE - 8)
    demo["actions"] = actions.astype(np.float32)
    demo["obs/front_image"] = np.stack([picture(x, y) for x, y in places])
    if hand:
        fractions = np.array(places) / SIDE
        demo["obs/front_hand"] = fractions.astype(np.float32)
        demo["obs/robot0_eef_pos"] = np.pad(fractions, ((0, 0), (0, 1))).astype(np.float32)


def picture(x: float, y: float) -> np.ndarray:
    """The square around (x, y)."""
    image = np.broadcast_to(np.linspace(20, 90, SIDE, dtype=np.uint8)[None, :, None], (SIDE, SIDE, 3)).copy()
    row, column = round(y), round(x)
    image[row - 6 : row + 6, column - 6 : column + 6] = (230, 210, 60)
    return image
