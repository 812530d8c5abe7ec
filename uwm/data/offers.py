"""The pairs that one clip offers to a list, held in little memory: a list may be of 100,000 clips."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from uwm.data.video import VideoInfo


@dataclass(frozen=True)
class Offer:
    """Pairs of one clip: frames (n,2), and t0, t1 and the true gap as times (n,3) in s, to a microsecond."""

    video: str
    width: int
    height: int
    fps: float
    sha256: str
    frames: NDArray[np.int64]
    times: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frames)

    def part(self, start: int, stop: int | None = None) -> "Offer":
        """Pairs `start` to `stop`, or all from `start` on."""
        return replace(self, frames=self.frames[start:stop], times=self.times[start:stop])

    def dumped(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self) | {"frames": self.frames.tolist(), "times": self.times.tolist()}


def offer_of(video: str, info: VideoInfo, pairs: NDArray[np.int64], sha256: str) -> Offer:
    """The `pairs` (n,2) of a clip."""
    t0, t1 = info.timestamps[pairs[:, 0]], info.timestamps[pairs[:, 1]]
    times = np.stack([t0, t1, t1 - t0], axis=1).round(6)
    return Offer(video, info.width, info.height, round(info.fps, 6), sha256, pairs, times)


def loaded_offer(dumped: dict[str, Any]) -> Offer:
    """What `Offer.dumped` gave. ValueError, KeyError or TypeError for anything else."""
    frames = np.array(dumped["frames"], np.int64).reshape(-1, 2)
    times = np.array(dumped["times"], np.float64).reshape(len(frames), 3)
    return Offer(**dumped | {"frames": frames, "times": times})


def table_of(offers: Sequence[Offer]) -> pd.DataFrame:
    """One row per pair, by video and frame; columns as in `uwm.data.manifest`."""
    counts = [len(offer) for offer in offers]
    frames = np.concatenate([offer.frames for offer in offers])
    times = np.concatenate([offer.times for offer in offers])

    def repeated(name: str) -> Any:
        return np.repeat(np.array([getattr(offer, name) for offer in offers]), counts)

    columns = {
        "video": repeated("video").astype(object), "t0": times[:, 0], "t1": times[:, 1], "gap": times[:, 2],
        "frame0": frames[:, 0], "frame1": frames[:, 1],
        "width": repeated("width"), "height": repeated("height"), "fps": repeated("fps"),
        "sha256": repeated("sha256").astype(object),
    }  # fmt: skip
    return pd.DataFrame(columns).sort_values(["video", "frame0"], ignore_index=True)
