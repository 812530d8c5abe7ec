"""Real video files for tests: every frame carries its number as big black and white blocks."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np

BITS = 10


def picture(number: int, width: int = 80, height: int = 48) -> np.ndarray:
    """(H,W,3): the number's bits as columns (highest left) in the upper half, its brightness below."""
    image = np.full((height, width, 3), 20 + (number * 7) % 200, np.uint8)
    edges = np.linspace(0, width, BITS + 1).round().astype(int)
    for bit in range(BITS):
        value = 235 if number >> (BITS - 1 - bit) & 1 else 15
        image[: height // 2, edges[bit] : edges[bit + 1]] = value
    return image


def read_number(image: np.ndarray) -> int:
    """The number in a picture (H,W,3); works after resizing, not after cropping."""
    height, width = image.shape[:2]
    row = image[height // 8 : height * 3 // 8].astype(float).mean(axis=(0, 2))
    edges = np.linspace(0, width, BITS + 1)
    middles = [int((a + b) / 2) for a, b in pairwise(edges)]
    return sum((row[middle] > 125) << (BITS - 1 - bit) for bit, middle in enumerate(middles))


def write_video(
    path: Path,
    frames: int = 30,
    *,
    fps: Fraction | float = 12,
    size: tuple[int, int] = (80, 48),
    codec: str | None = None,
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    ticks: Sequence[int] | None = None,
    gop: int = 12,
    first: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write frames numbered from `first`. `ticks` (in 1/fps) give a variable rate; `rotation` is a flag only:
    the stored pictures are turned the other way, so that the upright ones are readable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        vp9 = path.suffix == ".webm"
        stream = container.add_stream(codec or ("libvpx-vp9" if vp9 else "libx264"), rate=rate)
        turned = rotation % 180 == 90
        stream.width, stream.height = size[::-1] if turned else size
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = gop
        fast = {"cpu-used": "8", "deadline": "realtime"} if vp9 else {"preset": "ultrafast"}
        stream.options = options or fast
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(frames):
            image = np.ascontiguousarray(np.rot90(picture(first + i, *size), -rotation // 90))
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i if ticks is None else ticks[i]
            frame.time_base = 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def trim_with_edit_list(source: Path, target: Path, seconds: float) -> Path:
    """Copy the packets so that the mp4's edit list hides the first `seconds`."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        offset = round(seconds / stream.time_base)
        for packet in reader.demux(stream):
            if packet.dts is None:
                continue
            packet.pts -= offset
            packet.dts -= offset
            packet.stream = copy
            writer.mux(packet)
    return target


def set_display_matrix(path: Path, matrix: tuple[float, float, float, float]) -> None:
    """Write (a, b, c, d) into an MP4 in place of the one identity matrix that its track has."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # version and flags, times, track, duration, layer, volume
    row = struct.Struct(">9i")
    assert row.unpack_from(data, place) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    a, b, c, d = (round(number * 65536) for number in matrix)
    row.pack_into(data, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def truncate(path: Path, share: float) -> Path:
    """Cut the end of a file off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def damage_middle(path: Path) -> Path:
    """Zeros in the middle of an MP4's pictures: its list of frames is whole, and not all can be decoded."""
    data = bytearray(path.read_bytes())
    box = data.index(b"mdat") - 4
    size = int.from_bytes(data[box : box + 4], "big")
    data[box + size // 2 : box + size // 2 + size // 8] = bytes(size // 8)
    path.write_bytes(data)
    return path


def touch(folder: Path, *names: str) -> None:
    """Empty files, where nothing but their names is read."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
