"""What a video codec makes of a transition with as many bytes as a latent action has: one x264 P-frame.

O_t is the reference, coded as well as the codec can; O_t+1 is one predicted frame of it. The codec knows
nothing of scenes or robots and reads both frames, as an action extractor does, so it is the row that a latent
action of the same rate must be compared with.
"""

import functools
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor

BEST, WORST = 0, 51  # x264's constant rate factors for 8 bits
REFERENCE_QUANTIZER = 1  # of O_t: 0 would need another profile
# Two frames, no reordering, O_t with a quantiser of its own whatever the rate factor of O_t+1.
SETTINGS = f"bframes=0:scenecut=0:keyint=infinite:rc-lookahead=0:zones=0,0,q={REFERENCE_QUANTIZER}"


class CodedFrame(NamedTuple):
    """O_t+1 as a decoder shows it after `size` bytes; no frame is sent where `crf` is None: it shows O_t."""

    frame: Tensor  # (3, H, W) in [0, 1]
    size: int  # bytes of the P-frame
    crf: int | None


def code_next(o_t: Tensor, o_next: Tensor, crf: int, pixel_format: str = "yuv420p") -> CodedFrame:
    """`o_next` as one P-frame after `o_t`, both uint8 (3, H, W), at a constant rate factor.

    Colours at half the resolution by default: at small budgets that shows O_t+1 better than "yuv444p" does.
    """
    packets = _encode([o_t, o_next], crf, pixel_format)
    decoder = av.CodecContext.create("h264", "r")
    decoded = [frame for packet in (*packets, None) for frame in decoder.decode(packet)]
    pixels = torch.from_numpy(decoded[1].to_ndarray(format="rgb24").copy())
    return CodedFrame(pixels.permute(2, 0, 1).float() / 255, packets[1].size, crf)


def code_within(o_t: Tensor, o_next: Tensor, budget: int, pixel_format: str = "yuv420p") -> CodedFrame:
    """The P-frame with the most bytes that are not above `budget`, or none where even the coarsest is.

    Frames uint8 (3, H, W). Found by bisection: finer rate factors take more bytes.
    """

    @functools.cache
    def coded(crf: int) -> CodedFrame:
        return code_next(o_t, o_next, crf, pixel_format)

    if coded(WORST).size > budget:
        return CodedFrame(o_t.float() / 255, 0, None)
    return coded(_finest(lambda crf: coded(crf).size <= budget))


def _finest(fits: Callable[[int], bool]) -> int:
    """The smallest rate factor that fits, where WORST does and each coarser one than a fitting one."""
    low, high = BEST - 1, WORST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _encode(frames: list[Tensor], crf: int, pixel_format: str) -> list[av.Packet]:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = frames[0].shape[1:]
    encoder.pix_fmt, encoder.time_base, encoder.framerate = pixel_format, Fraction(1, 5), Fraction(5)
    encoder.thread_count = 1
    encoder.options = {"crf": str(crf), "preset": "slow", "x264-params": SETTINGS}
    packets = []
    for time, pixels in enumerate(frames):
        array = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
        frame = av.VideoFrame.from_ndarray(array, format="rgb24").reformat(format=pixel_format)
        frame.pts = time
        packets += encoder.encode(frame)
    return [*packets, *encoder.encode(None)]
