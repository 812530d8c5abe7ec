"""How far predicted states are from a goal: what a planner minimises.

A goal is a picture, as in VP2 (arXiv:2304.13723) and DINO-WM (arXiv:2411.04983); its state is the MAE's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from uwm.bounds import Bounded, Decay, NotNegative

TINY = 1e-9
ReadOff = Callable[[Tensor], Tensor]  # states (n, 1+N, D) -> quantities (n, Q), such as the hand's place


class Cost(Protocol):
    """Predicted states of B plans, (B, H, 1+N, D) -> costs (B,); lower is better."""

    def __call__(self, predicted: Tensor) -> Tensor: ...


MakeCost = Callable[[Tensor, Tensor], Cost]  # states (1+N, D) of start and goal -> what to minimise


@dataclass(frozen=True)
class CostConfig(Bounded):
    """How the predictions of a plan's H steps become one number."""

    discount: Decay = 0.0  # weight of a step over the one after it; 0: only where the plan ends counts
    # Of the states' distance beside what a head reads off, both as shares of those at the start: off pictures
    # that show no hand a head reads anything, and a planner finds them.
    state_weight: NotNegative = 0.3
    left_out: Decay = 0.7  # share of the tokens that `changed_tokens` leaves out


class StateDistance:
    """Mean squared error to the goal's state, over some of the tokens."""

    def __init__(self, goal: Tensor, tokens: Tensor, config: CostConfig = CostConfig()) -> None:
        """`goal` (1+N, D); `tokens` (1+N,) bool, those that count."""
        if goal.ndim != 2 or tokens.shape != goal.shape[:1] or tokens.dtype != torch.bool:
            raise ValueError(f"goal {tuple(goal.shape)} and tokens {tuple(tokens.shape)} do not fit")
        if not tokens.any():
            raise ValueError("no token counts, so every plan would cost nothing")
        self.goal, self.tokens, self.discount = goal[tokens], tokens, config.discount

    def __call__(self, predicted: Tensor) -> Tensor:
        """(B, H, 1+N, D) -> (B,)."""
        errors = (predicted[:, :, self.tokens] - self.goal).square().mean((2, 3))  # (B, H)
        return over_steps(errors, self.discount)


class ReadOffDistance:
    """Distance between what a learned head reads off the predicted states and what is wanted."""

    def __init__(self, read: ReadOff, target: Tensor, config: CostConfig = CostConfig()) -> None:
        """`target` (Q,), such as what the head reads off the goal's state."""
        self.read, self.goal, self.discount = read, target, config.discount

    def __call__(self, predicted: Tensor) -> Tensor:
        """(B, H, 1+N, D) -> (B,), in the head's unit."""
        outputs = self.read(predicted.flatten(0, 1)).unflatten(0, predicted.shape[:2])  # (B, H, Q)
        return over_steps((outputs - self.goal).norm(dim=2), self.discount)


class Sum:
    """Several costs, each as a share of what it is at the start, by their weights."""

    def __init__(self, parts: Sequence[tuple[float, Cost]], start: Tensor) -> None:
        """`start` (1+N, D)."""
        here = start[None, None]
        self.parts = [(weight / max(float(cost(here)[0]), TINY), cost) for weight, cost in parts]

    def __call__(self, predicted: Tensor) -> Tensor:
        """(B, H, 1+N, D) -> (B,); the sum of the weights where nothing has changed."""
        return torch.stack([scale * cost(predicted) for scale, cost in self.parts]).sum(0)


class MeasuredDistance:
    """What a simulator measured in place of states: (B, H, 1, 1) -> (B,)."""

    def __init__(self, config: CostConfig = CostConfig()) -> None:
        self.discount = config.discount

    def __call__(self, predicted: Tensor) -> Tensor:
        """The distances themselves."""
        return over_steps(predicted[:, :, 0, 0], self.discount)


def over_steps(costs: Tensor, discount: float) -> Tensor:
    """Costs of steps (B, H) -> of plans (B,): a mean in which the last step has the weight 1, the one before
    `discount`, and so on."""
    steps = costs.shape[1]
    weights = torch.tensor([discount**k for k in reversed(range(steps))], dtype=costs.dtype)
    return costs @ (weights / weights.sum()).to(costs.device)


def changed_tokens(start: Tensor, goal: Tensor, left_out: float) -> Tensor:
    """The tokens (1+N,) bool that differ most between two states (1+N, D): all but the share `left_out`."""
    change = (start - goal).square().mean(1)
    kept = max(1, round((1 - left_out) * len(change)))
    tokens = torch.zeros(len(change), dtype=torch.bool)
    tokens[change.argsort(descending=True, stable=True)[:kept].cpu()] = True
    return tokens.to(start.device)


def state_cost(config: CostConfig) -> MakeCost:
    """The distance of the states, over all tokens."""
    return lambda start, goal: StateDistance(goal, torch.ones(len(goal), dtype=torch.bool), config)


def changed_cost(config: CostConfig) -> MakeCost:
    """The distance of the states, over the tokens in which start and goal differ most."""
    return lambda start, goal: StateDistance(goal, changed_tokens(start, goal, config.left_out), config)


def read_cost(
    heads: Sequence[ReadOff], config: CostConfig, true_goal: Callable[[], Tensor] | None = None
) -> MakeCost:
    """What heads read off the states, and the distance of all tokens, each as a share of that at the start.

    `true_goal` gives what the first head is to read (Q,), in place of what it reads off the goal.
    """

    def both(start: Tensor, goal: Tensor) -> Cost:
        parts: list[tuple[float, Cost]] = [(config.state_weight, state_cost(config)(start, goal))]
        for index, read in enumerate(heads):
            reading = read(goal[None])[0]
            target = true_goal().to(reading) if true_goal is not None and index == 0 else reading
            parts.append((1.0, ReadOffDistance(read, target, config)))
        return Sum(parts, start)

    return both
