"""How a training optimises: its settings, its learning rate step by step, and which parameters decay."""

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from uwm.errors import UserError


@dataclass(frozen=True)
class TrainConfig:
    """How to optimise. `batch_size` is global: it and the learning rate hold for any number of processes."""

    steps: int
    batch_size: int
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    warmup_steps: int = 0
    min_lr_fraction: float = 0.0  # the cosine ends at this fraction of the learning rate
    clip_norm: float = 1.0  # largest gradient norm; infinity leaves gradients as they are
    accumulate: int = 1  # micro-batches per step
    precision: str = "fp32"  # "fp32" or "bf16" (autocast; weights and optimiser stay fp32)
    seed: int = 0
    checkpoint_every: int = 500  # steps
    validate_every: int = 0  # steps; 0: only after the last step

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "warmup_steps", "validate_every"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.precision not in ("fp32", "bf16"):
            raise UserError(f"precision must be fp32 or bf16, not {self.precision}")


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
