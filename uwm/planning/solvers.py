"""Search for the action sequence of least cost: cross-entropy method, MPPI, random shooting.

All three sample sequences within the controller's limits, ask an objective for their costs, and move the
distribution that they sample from:

- `cem`: to mean and deviation of the best ones (Rubinstein and Kroese 2004);
- `mppi`: to the mean weighted by exp(-cost / temperature) (Williams et al. 2017, arXiv:1707.02342);
- `shooting`: not at all; the best sample is the plan.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from uwm.bounds import Bounded, Count, Positive, Range, check_bounds

Objective = Callable[[Tensor], Tensor]  # action sequences (B, H, A) -> costs (B,)


@dataclass(frozen=True)
class SolverConfig(Bounded):
    """A solver and its budget: `samples` x `iterations` sequences of `horizon` actions each."""

    kind: Literal["cem", "mppi", "shooting"] = "cem"
    samples: Annotated[int, Range(2)] = 64  # two of them are the start and the middle of the range
    iterations: Count = 3
    horizon: Count = 2  # actions of a plan
    elites: Count = 8  # of cem
    temperature: Positive = 0.1  # of mppi, as a share of the deviation of the samples' costs
    spread: Positive = 0.5  # of the first samples: their deviation as a share of the controller's range
    least_spread: Annotated[float, Range(0, below=1)] = 0.05  # the deviation never falls below this share

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.elites > self.samples:
            raise ValueError(f"elites must be at most samples ({self.samples}), not {self.elites}")


class Limits(NamedTuple):
    """The controller's range, (A,) each."""

    low: Tensor
    high: Tensor


# Costs that differ by less are the same: a network gives equal states of one batch other last digits.
EQUAL = 1e-5


class Plan(NamedTuple):
    """The actions (H, A) that a solver found, their cost, and for how many sequences it was asked."""

    actions: Tensor
    cost: float
    calls: int


class Solver(Protocol):
    """Finds actions of low cost. The same generator state gives the same plan."""

    def solve(
        self, objective: Objective, limits: Limits, generator: torch.Generator, start: Tensor | None = None
    ) -> Plan:
        """`start` (H, A): what is sampled around first, such as the rest of the plan before."""
        ...


@dataclass
class _Search:
    """A running search: the distribution (H, A) and the best sample so far."""

    mean: Tensor
    deviation: Tensor
    best: Tensor
    least: float = float("inf")
    calls: int = 0


@dataclass(frozen=True)
class SamplingSolver:
    """The three solvers, which differ in `_moved` alone."""

    config: SolverConfig = field(default_factory=SolverConfig)

    def solve(
        self, objective: Objective, limits: Limits, generator: torch.Generator, start: Tensor | None = None
    ) -> Plan:
        """As `Solver.solve`."""
        low, high = limits
        mean = ((low + high) / 2).expand(self.config.horizon, -1) if start is None else start
        if mean.shape != (self.config.horizon, len(low)):
            raise ValueError(f"start is {tuple(mean.shape)}, a plan is {(self.config.horizon, len(low))}")
        deviation = (self.config.spread * (high - low)).expand_as(mean)
        search = _Search(mean.clone(), deviation.clone(), mean.clone())
        for _ in range(self.config.iterations):
            self._iterate(search, objective, limits, generator)
        if self.config.kind == "shooting":
            return Plan(search.best, search.least, search.calls)
        # Good samples on both sides of an obstacle have a bad mean; of equal costs the start stays.
        cost = float(objective(search.mean[None])[0])
        if cost >= search.least - EQUAL:
            return Plan(search.best, search.least, search.calls + 1)
        return Plan(search.mean, cost, search.calls + 1)

    def _iterate(
        self, search: _Search, objective: Objective, limits: Limits, generator: torch.Generator
    ) -> None:
        config, (low, high) = self.config, limits
        noise = torch.randn(config.samples, *search.mean.shape, generator=generator, dtype=search.mean.dtype)
        samples = (search.mean + search.deviation * noise).clamp(low, high)  # (B, H, A)
        # A warm start is never lost, and no plan is chosen that seems worse than the middle: to stand still.
        samples[0] = search.mean.clamp(low, high)
        samples[-1] = (low + high) / 2
        costs = objective(samples)
        if costs.shape != (config.samples,) or not torch.isfinite(costs).all():
            raise ValueError(f"an objective must give {config.samples} finite costs, not {costs}")
        search.calls += config.samples
        index = int((costs <= costs.min() + EQUAL).nonzero()[0])
        if float(costs[index]) < search.least - EQUAL:
            search.best, search.least = samples[index], float(costs[index])
        self._moved(search, samples, costs)
        floor = config.least_spread * (high - low)
        search.deviation = torch.maximum(search.deviation, floor)

    def _moved(self, search: _Search, samples: Tensor, costs: Tensor) -> None:
        """Moves the distribution by what the samples (B, H, A) cost (B,)."""
        if self.config.kind == "cem":
            elites = samples[costs.argsort(stable=True)[: self.config.elites]]
            search.mean, search.deviation = elites.mean(0), elites.std(0, unbiased=False)
        elif self.config.kind == "mppi":
            scale = self.config.temperature * float(costs.std(unbiased=False)) + 1e-12
            weights = torch.softmax(-(costs - costs.min()) / scale, 0)[:, None, None]
            search.mean = (weights * samples).sum(0)
            search.deviation = (weights * (samples - search.mean).square()).sum(0).sqrt()


def shifted(plan: Tensor, done: int) -> Tensor:
    """What is left of a plan (H, A) after its first `done` actions, its last one held: the warm start."""
    return torch.cat([plan[done:], plan[-1:].expand(min(done, len(plan)), -1)])
