"""A world model that is small enough to train in a test, and states for it."""

from typing import Any

import torch

from uwm.models import TokenConfig, WorldModelConfig
from uwm.models.action_extractor import ActionExtractorConfig
from uwm.models.dynamics import DynamicsConfig
from uwm.models.quantizer import QuantizerConfig

SIZES: dict[str, Any] = {"width": 32, "heads": 2, "depth": 1}
TINY = WorldModelConfig(
    TokenConfig(16, 5, num_action_tokens=3, action_width=8),
    ActionExtractorConfig(**SIZES),
    QuantizerConfig(codes=32, width=8, codebook_update="ema"),
    DynamicsConfig(**SIZES, output="state", residual=True),
)


def states(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pair = torch.randn(2, count, 5, 16, generator=generator)
    return pair[0], pair[1]
