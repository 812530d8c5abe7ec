"""Videos to train on, in which something moves."""

from pathlib import Path

import av
import numpy as np


def write_video(path: Path, seed: int, frames: int = 12, fps: int = 10) -> None:
    """A bright square that wanders over a dim gradient."""
    draw = np.random.default_rng(seed)
    y, x = draw.integers(0, 48, 2)
    base = np.broadcast_to(np.linspace(0, 120, 80, dtype=np.uint8)[None, :, None], (72, 80, 3))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 80, 72, "yuv420p"
        for _ in range(frames):
            picture = base.copy()
            picture[y : y + 20, x : x + 20] = (220, 200, 60)
            y, x = np.clip([y + draw.integers(-8, 9), x + draw.integers(-8, 9)], 0, (52, 60))
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
