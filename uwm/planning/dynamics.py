"""What a planner asks for the consequences of actions: a learned model, the simulator, or none."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from uwm.models.dynamics import DynamicsFunction


class Dynamics(Protocol):
    """Where actions lead from the present observation."""

    def roll_out(self, state: Tensor, actions: Tensor) -> Tensor:
        """`state` (1+N, D) of the present picture, `actions` (B, H, A), each held for a step of the planner,
        -> the states (B, H, 1+N, D) after each of them."""
        ...


class LearnedDynamics:
    """A model of one step, asked step by step; a planner's action is the control action of the whole step."""

    def __init__(self, predict: DynamicsFunction, control_steps: int, batch: int = 64) -> None:
        """`predict` gets each action `control_steps` times, `batch` plans at a time."""
        self.model, self.control_steps, self.batch = predict, control_steps, batch

    def predict(self, states: Tensor, actions: Tensor) -> Tensor:
        """`states` (B, 1+N, D), `actions` (B, A) -> the next states (B, 1+N, D)."""
        held = actions.to(states)[:, None].expand(-1, self.control_steps, -1)  # (B, T, A)
        mask = torch.ones(held.shape[:2], dtype=torch.bool, device=held.device)
        return self.model(states, held, mask)

    @torch.no_grad()
    def roll_out(self, state: Tensor, actions: Tensor) -> Tensor:
        """As `Dynamics.roll_out`."""
        parts = []
        for some in actions.split(self.batch):
            now, found = state.expand(len(some), -1, -1), []
            for k in range(some.shape[1]):
                now = self.predict(now, some[:, k])
                found.append(now)
            parts.append(torch.stack(found, dim=1))
        return torch.cat(parts)


def copied(s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
    """The copy: nothing ever moves. A planner that believes it has no reason to prefer any action."""
    return s_t


class ShuffledDynamics:
    """Another plan's consequences in place of each plan's own: the same predictions, of no use."""

    def __init__(self, inner: Dynamics) -> None:
        self.inner = inner

    def roll_out(self, state: Tensor, actions: Tensor) -> Tensor:
        """As `Dynamics.roll_out`. The plans are random, so that the next one's are any other's."""
        return self.inner.roll_out(state, actions).roll(1, 0)


class SimulatedDynamics:
    """The simulator itself: each plan is carried out from the present state, looked at, and undone."""

    def __init__(self, look_ahead: Callable[[Tensor], Tensor]) -> None:
        """`look_ahead` carries out actions (H, A) from where the simulator stands, gives the states
        (H, 1+N, D) of what is seen after each, and leaves the simulator as it was."""
        self.look_ahead = look_ahead

    def roll_out(self, state: Tensor, actions: Tensor) -> Tensor:
        """As `Dynamics.roll_out`; `state` is not asked, since the simulator knows where it stands."""
        return torch.stack([self.look_ahead(plan) for plan in actions])
