"""decord, for comparison: only files of which it gives the right frames."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from uwm.data.containers import SEEKABLE, open_stream
from uwm.data.decoders import TIME_TOLERANCE, BadVideo, Frames, Times, reason_of
from uwm.data.orientation import HALF_TURN, UPRIGHT, orientation

try:
    import decord
except ImportError:  # no wheel for this platform
    decord = None
else:
    decord.logging.set_level(decord.logging.QUIET)


class DecordReader:
    """decord with one thread. Raises `BadVideo` where it cannot open, decode or be trusted with a file."""

    def __init__(self, path: Path | str) -> None:
        if decord is None:
            raise BadVideo(path, "decord is not installed")
        self.path = path
        _check_trust(path)
        try:
            self.video = decord.VideoReader(str(path), num_threads=1)
            self.start = float(self.video.get_frame_timestamp([0])[0, 0])
        except (RuntimeError, decord.DECORDError, IndexError) as error:
            raise BadVideo(path, reason_of(error)) from None

    def read(self, indices: Sequence[int], times: Times) -> Frames:
        """Frames (n,H,W,3) by place; `times` (s from the first frame) say which these are."""
        if max(indices) >= len(self.video):
            raise BadVideo(self.path, f"decord finds {len(self.video)} frames, not {max(indices) + 1}")
        timestamps = self.video.get_frame_timestamp(list(indices))[:, 0].astype(np.float64) - self.start
        if np.abs(timestamps - times).max() >= TIME_TOLERANCE:
            raise BadVideo(self.path, f"decord counts its frames otherwise than the file does; {_REMEDY}")
        try:
            frames: Frames = self.video.get_batch([int(i) for i in indices]).asnumpy()
        except (RuntimeError, decord.DECORDError, IndexError) as error:
            raise BadVideo(self.path, reason_of(error)) from None
        return frames


_REMEDY = "read it with PyAV, the default decoder"


def _check_trust(path: Path | str) -> None:
    """decord seeks to wrong frames in containers without a table of key frames (ASF, AVI), and where groups
    of pictures overlap, which only streams with B-frames do. It does not mirror, and breaks what it turns."""
    container, stream = open_stream(path)
    with container:
        if stream.codec_context.has_b_frames:
            raise BadVideo(path, f"decord may give wrong frames of a stream with B-frames; {_REMEDY}")
        if not container.format.name.startswith(SEEKABLE):
            kind = container.format.name
            raise BadVideo(path, f"decord may give wrong frames of the container {kind}; {_REMEDY}")
        try:
            first = next(container.decode(stream), None)
        except av.FFmpegError as error:
            raise BadVideo(path, reason_of(error)) from None
        if first is not None and orientation(first, path) not in (UPRIGHT, HALF_TURN):
            raise BadVideo(path, f"decord gives turned and mirrored pictures wrong; {_REMEDY}")
