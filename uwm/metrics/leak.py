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
