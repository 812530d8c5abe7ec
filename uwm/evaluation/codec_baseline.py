"""A video codec at the rate of a latent action, per pair: the rival of any method (uwm/metrics/codec.py)."""

import numpy as np
import torch
from torch import Tensor

from uwm.evaluation.measure import in_batches
from uwm.metrics.codec import code_within
from uwm.metrics.perceptual import LPIPS
from uwm.models.world import World

BITS_OF_A_BYTE = 8


@torch.no_grad()
def codec_columns(world: World, network: LPIPS, images: Tensor, bits: float) -> dict[str, np.ndarray]:
    """LPIPS (n,) to R_t+1 of what one x264 P-frame after R_t shows of it in at most `bits` bits.

    `images`, uint8 (n, 2, 3, S, S), are shown by the world's MAE first, as the predictions are. Where even
    the coarsest P-frame is too large, the codec shows R_t.
    """

    def drawn(part: Tensor) -> Tensor:  # uint8 (b, 2, 3, S, S)
        frames = [world.mae.decode(states) for states in world.encode(part).unbind(1)]
        return torch.stack(frames, dim=1).mul(255).round().byte()

    blurred = in_batches(drawn, images)
    budget = int(bits) // BITS_OF_A_BYTE
    coded = torch.stack([code_within(r_t, r_next, budget).frame for r_t, r_next in blurred.cpu()])

    def distance(frames: Tensor, target: Tensor) -> Tensor:
        return network(frames.to(target.device), target.float() / 255)

    distances = in_batches(distance, coded, blurred[:, 1], size=32)
    return {"lpips_to_next_codec": distances.double().cpu().numpy()}
