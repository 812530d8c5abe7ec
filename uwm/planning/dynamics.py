"""What a planner asks for the consequences of actions: a learned model, the simulator, or none."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from uwm.models.dynamics import DynamicsFunction

# Carries out actions (H, A) from where the simulator stands, gives an array of what is seen after those that
# are named, and leaves the simulator as it was.
LookAhead = Callable[[Any, Sequence[int]], Any]


class ForwardModel(Protocol):
    """Where actions lead from the present observation."""

    def roll_out(self, state: Tensor, actions: Tensor, *, ends: bool = False) -> Tensor:
        """`state` (1+N, D) of the present picture, `actions` (B, H, A), each held for a step of the planner,
        -> the states (B, H, 1+N, D) after each of them; with `ends` (B, 1, 1+N, D), after the last alone."""
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
    def roll_out(self, state: Tensor, actions: Tensor, *, ends: bool = False) -> Tensor:
        """As `ForwardModel.roll_out`."""
        parts = []
        for batch in actions.split(self.batch):
            now, states = state.expand(len(batch), -1, -1), []
            for k in range(batch.shape[1]):
                now = self.predict(now, batch[:, k])
                states.append(now)
            states = states[-1:] if ends else states
            parts.append(torch.stack(states, dim=1))
        return torch.cat(parts)


def copied(s_t: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
    """The copy: nothing ever moves. A planner that believes it has no reason to prefer any action."""
    return s_t


class ShuffledDynamics:
    """Another plan's consequences in place of each plan's own: the same predictions, of no use."""

    def __init__(self, inner: ForwardModel) -> None:
        self.inner = inner
        self.others: Tensor | None = None  # the plans (B, H, A) of the last call that asked for several

    def roll_out(self, state: Tensor, actions: Tensor, *, ends: bool = False) -> Tensor:
        """As `ForwardModel.roll_out`. A single plan is given the consequences of one of those asked for
        before; ValueError where there were none."""
        if len(actions) > 1:
            self.others = actions
            return self.inner.roll_out(state, actions[_exchanged(len(actions))], ends=ends)
        if self.others is None:
            raise ValueError("a single plan, and no other was asked for: there is no other's consequence")
        middle = len(self.others) // 2  # neither the first nor the last, which solvers choose for a reason
        return self.inner.roll_out(state, self.others[middle, None], ends=ends)


def _exchanged(count: int) -> Tensor:
    """Which plan each of `count` is taken for: one cycle through all in random order, always the same."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(count))
    taken = torch.empty(count, dtype=torch.long)
    taken[order] = order.roll(1)
    return taken


class SimulatedDynamics:
    """The simulator itself: each plan is carried out from where it stands, looked at, and undone."""

    def __init__(self, look_ahead: LookAhead, as_states: Callable[[Any], Tensor]) -> None:
        """`as_states` makes states (n, 1+N, D) of what `look_ahead` saw of n steps, put together."""
        self.look_ahead, self.as_states = look_ahead, as_states

    def roll_out(self, state: Tensor, actions: Tensor, *, ends: bool = False) -> Tensor:
        """As `ForwardModel.roll_out`; `state` is not asked, since the simulator knows where it stands."""
        steps = actions.shape[1]
        indices = range(steps - 1, steps) if ends else range(steps)
        pictures = [self.look_ahead(plan.double().numpy(), indices) for plan in actions]
        return self.as_states(np.concatenate(pictures)).unflatten(0, (len(actions), len(indices)))


def as_distances(measured: Any) -> Tensor:
    """Distances (n,) in the form of states (n, 1, 1), for `cost.MeasuredDistance`."""
    return torch.from_numpy(measured)[:, None, None]
