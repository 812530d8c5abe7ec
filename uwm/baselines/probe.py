"""Probes: how much of a quantity can be read off features, by ridge regression or by a small MLP.

Not by scikit-learn, which nothing else here needs. The ridge is tested against SciPy's least squares; it
makes the features' products once for all penalties, where `Ridge` would make them for each. `MLPRegressor`
has neither layer norm nor dropout nor decoupled weight decay: it would be another measure.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from uwm.models.seeding import seeded_draws


@dataclass(frozen=True)
class Ridge:
    """y = (x - mean) @ weights + bias; float64."""

    mean: Tensor  # (F,)
    weights: Tensor  # (F, A)
    bias: Tensor  # (A,)

    def __call__(self, features: Tensor) -> Tensor:
        """Features (n, F) -> targets (n, A), float64."""
        return (features.double() - self.mean) @ self.weights + self.bias


def fit_ridges(features: Tensor, targets: Tensor, penalties: Sequence[float]) -> list[Ridge]:
    """For each penalty the minimum of |Y - XW - b|^2 + penalty * |X - mean|^2 |W|^2, over features (n, F) and
    targets (n, A). The products of the features, most of the work, are made once.

    The bias is free. The factor |X - mean|^2, summed over rows and features, makes the penalty a share:
    features in other units, or more rows of the same kind, want the same one. Raises ValueError for a
    penalty of 0 or less.
    """
    if min(penalties) <= 0:
        raise ValueError(f"penalty must be positive, not {min(penalties)}")
    x, y = features.double(), targets.double()
    mean, bias = x.mean(0), y.mean(0)
    x, y = x - mean, y - bias
    primal = len(x) > x.shape[1]
    gram = x.T @ x if primal else x @ x.T  # (F, F), or (n, n): the same minimum from a smaller system
    right = x.T @ y if primal else y
    scale = gram.diagonal().sum().clamp_min(1e-12)  # |X - mean|^2
    ridges = []
    for penalty in penalties:
        factor = torch.linalg.cholesky(gram + penalty * scale * torch.eye(len(gram), dtype=x.dtype))
        solved = torch.cholesky_solve(right, factor)
        ridges.append(Ridge(mean, solved if primal else x.T @ solved, bias))
    return ridges


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
    for penalty, ridge in zip(penalties, fit_ridges(features, targets, penalties), strict=True):
        tried.append(Probe(ridge, penalty, r_squared(ridge(held_out[0]), held_out[1])))
    return max(tried, key=lambda probe: float(probe.r2.mean()))


@torch.enable_grad()
def fit_mlp(
    features: Tensor,
    targets: Tensor,
    held_out: tuple[Tensor, Tensor],
    *,
    width: int = 128,
    epochs: int = 60,
    seed: int = 0,
) -> nn.Sequential:
    """A network of one hidden layer from features (n, F) to targets (n, A), as after the epoch that reads
    `held_out` (features, targets) best."""
    with seeded_draws(seed):
        network = nn.Sequential(
            nn.LayerNorm(features.shape[1]),
            nn.Dropout(0.2),
            nn.Linear(features.shape[1], width),
            nn.GELU(),
            nn.Linear(width, targets.shape[1]),
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
        best, kept = -torch.inf, copy.deepcopy(network)
        for _ in range(epochs):
            _epoch(network, optimizer, features.float(), targets.float())
            with torch.no_grad():
                r2 = float(r_squared(network.eval()(held_out[0].float()), held_out[1]).mean())
            if r2 > best:
                best, kept = r2, copy.deepcopy(network)
    return kept.eval().requires_grad_(False)


def _epoch(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    network.train()
    for rows in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        (network(x[rows]) - y[rows]).square().mean().backward()
        optimizer.step()
