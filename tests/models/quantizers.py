"""Small quantizers, and latents for them."""

from dataclasses import replace

import torch
from torch import Tensor

from uwm.models.quantizer import QuantizerConfig, VectorQuantizer

SMALL = QuantizerConfig(codes=16, width=4)
# Counts of an unused code: 1, 0.5, 0.25, 0.125: it restarts at its third step without use.
QUICK = replace(SMALL, ema_decay=0.5, restart_threshold=0.2)
UPDATES = ["gradient", "ema"]


def batch(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_codebook(config: QuantizerConfig, rows: Tensor) -> VectorQuantizer:
    quantizer = VectorQuantizer(replace(config, codes=len(rows), width=rows.shape[1], data_init=False))
    with torch.no_grad():
        quantizer.codebook.copy_(rows)
    return quantizer
