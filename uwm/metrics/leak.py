"""How much of a picture passes through the latent action that should not: stitched pairs.

The action is inferred from O_t to a frame of *another* clip, and the dynamics predict from O_t. An action
that says what moved can't draw a frame of another scene; a code of the next frame can. The leak is the error
to that foreign frame over the error of a copy of O_t: 1 = nothing passes, 0 = the foreign frame is drawn.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def pairs_of_other_clips(clips: Sequence[str]) -> Tensor:
    """For each pair one of another clip, (n,) int64: the first such from half the list further on.

    `clips` names the clip of each pair. Raises ValueError where all are of one.
    """
    if len(set(clips)) < 2:
        raise ValueError("stitched pairs need pairs of at least two clips")
    count = len(clips)
    others = []
    for i, clip in enumerate(clips):
        further = ((i + count // 2 + k) % count for k in range(count))
        others.append(next(j for j in further if clips[j] != clip))
    return torch.tensor(others)


def error_over_copy(predicted: Tensor, current: Tensor, target: Tensor) -> float:
    """Squared error of predictions over that of copying `current`, all (n, ...): a ratio of sums.

    For stitched pairs, with the foreign frames as `target`, this is the leak. NaN where a copy has no error.
    """
    error, copy = ((x.double() - target.double()).square().sum() for x in (predicted, current))
    return float(error / copy)


def recolored(current: Tensor, target: Tensor) -> Tensor:
    """Frames (B, 3, H, W) in [0, 1] with the mean colours of `target`: what 24 bits of the next frame give.

    Its error over the copy's is a bound: a leak above it is no more than what a mean colour tells.
    """
    shift = (target - current).mean((2, 3), keepdim=True)  # (B, 3, 1, 1)
    return (current + shift).clamp(0, 1)
