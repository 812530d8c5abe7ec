"""How a training optimises: its settings, its learning rate step by step, and which parameters decay."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from torch import nn

from uwm.bounds import (
    Count,
    Decay,
    Natural,
    NotNegative,
    OutOfBounds,
    Positive,
    Range,
    Share,
    check_bounds,
    later,
)


@dataclass(frozen=True)
class TrainConfig:
    """How to optimise. `batch_size` is global: it and the learning rate hold for any number of processes."""

    steps: Count
    batch_size: Annotated[int, Range(1, 1_000_000)]
    learning_rate: Positive = 1e-4
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    weight_decay: NotNegative = 0.05
    warmup_steps: Natural = 0
    min_lr_fraction: Share = 0.0  # the cosine ends at this fraction of the learning rate
    clip_norm: Positive = 1.0  # largest gradient norm; infinity leaves gradients as they are
    accumulate: Annotated[int, Range(1, 100_000)] = 1  # micro-batches per step
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast; weights and optimiser stay fp32
    seed: Natural = 0
    checkpoint_every: Count = 500  # steps
    validate_every: Natural = 0  # steps; 0: only after the last step
    compiled: bool = later(False)  # the transformer blocks, by `torch.compile`, which rounds otherwise

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.warmup_steps > self.steps:
            raise OutOfBounds(f"warmup_steps must not exceed the {self.steps} steps, not {self.warmup_steps}")


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate of `step` (from 0): a linear warm-up whose last step has the full rate, then half a cosine."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return config.learning_rate * (config.min_lr_fraction + (1 - config.min_lr_fraction) * cosine)


def parameter_groups(objective: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: the matrices of linear layers and convolutions decay; biases,
    norms, learned tokens and tables, and codebooks don't."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in objective.named_parameters():
        if parameter.requires_grad:
            matrix = name.endswith("weight") and parameter.ndim >= 2 and "codebook" not in name
            (decayed if matrix else kept).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
