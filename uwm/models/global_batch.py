"""The batches of processes that train together, as the one batch that they make.

Where all have equally many samples, rank r of w has r, r + w and so on; otherwise they have them one after
the other.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def samples_of_all(latents: Tensor) -> list[int]:
    """How many samples each rank has."""
    if processes() == 1:
        return [latents.shape[0]]
    samples = torch.zeros(processes(), dtype=torch.int64, device=latents.device)
    samples[dist.get_rank()] = latents.shape[0]
    dist.all_reduce(samples)
    return samples.tolist()


def rows_of_all(latents: Tensor, samples: list[int], rows: Tensor) -> Tensor:
    """Rows (n,) int64 of the whole batch's vectors (n, W), of which each rank holds those of its samples."""
    world = processes()
    if world == 1:
        return latents.flatten(0, 1)[rows]
    indices, tokens = rows // latents.shape[1], rows % latents.shape[1]
    if len(set(samples)) == 1:
        held, indices = indices % world == dist.get_rank(), indices // world
    else:
        indices = indices - sum(samples[: dist.get_rank()])
        held = (indices >= 0) & (indices < len(latents))
    vectors = torch.where(held[:, None], latents[indices.clamp(0, len(latents) - 1), tokens], 0.0)
    dist.all_reduce(vectors)  # one rank's vector and zeros: exact
    return vectors
