"""Linear probes by ridge regression in closed form: how much of a quantity can be read off features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ridge:
    """y = (x - mean) @ weights + bias; float64."""

    mean: Tensor  # (F,)
    weights: Tensor  # (F, A)
    bias: Tensor  # (A,)

    def __call__(self, features: Tensor) -> Tensor:
        """Features (n, F) -> targets (n, A), float64."""
        return (features.double() - self.mean) @ self.weights + self.bias


def fit_ridge(features: Tensor, targets: Tensor, penalty: float) -> Ridge:
    """The minimum of |Y - XW - b|^2 + penalty * |X - mean|^2 |W|^2 over features (n, F), targets (n, A).

    The bias is free. The factor |X - mean|^2, summed over rows and features, makes the penalty a share:
    features in other units, or more rows of the same kind, want the same one. Raises ValueError for a
    penalty of 0 or less.
    """
    if penalty <= 0:
        raise ValueError(f"penalty must be positive, not {penalty}")
    x, y = features.double(), targets.double()
    mean, bias = x.mean(0), y.mean(0)
    x, y = x - mean, y - bias
    scale = penalty * x.square().sum().clamp_min(1e-12)
    if len(x) > x.shape[1]:
        gram = x.T @ x + scale * torch.eye(x.shape[1], dtype=x.dtype)  # (F, F)
        return Ridge(mean, torch.linalg.solve(gram, x.T @ y), bias)
    gram = x @ x.T + scale * torch.eye(len(x), dtype=x.dtype)  # (n, n): the same minimum, a smaller system
    return Ridge(mean, x.T @ torch.linalg.solve(gram, y), bias)


def r_squared(predicted: Tensor, targets: Tensor) -> Tensor:
    """1 - residual / total sum of squares, (A,), of predictions (n, A); 0 for a target that never varies."""
    y = targets.double()
    residual = (y - predicted.double()).square().sum(0)
    total = (y - y.mean(0)).square().sum(0)
    return torch.where(total > 0, 1 - residual / total.clamp_min(1e-30), 0.0)


class Probe(NamedTuple):
    """A fitted probe and what was tried."""

    ridge: Ridge
    penalty: float
    r2: Tensor  # (A,), on the held-out rows that chose the penalty


def fit_probe(
    features: Tensor,
    targets: Tensor,
    held_out: tuple[Tensor, Tensor],
    penalties: Sequence[float] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2),
) -> Probe:
    """The ridge regression whose penalty gives the best mean R^2 on `held_out` (features, targets)."""
    tried = []
    for penalty in penalties:
        ridge = fit_ridge(features, targets, penalty)
        tried.append(Probe(ridge, penalty, r_squared(ridge(held_out[0]), held_out[1])))
    return max(tried, key=lambda probe: float(probe.r2.mean()))
