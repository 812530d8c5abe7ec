"""What chooses actions: planners, behaviour cloning, chance. Another's planner is a `Policy` too."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uwm.bounds import Bounded, Count
from uwm.planning.cost import MakeCost
from uwm.planning.dynamics import ForwardModel
from uwm.planning.solvers import Limits, Solver, shifted

Picture = NDArray[np.uint8]
Encode = Callable[[Picture], Tensor]  # a picture (H, W, 3) -> its state (1+N, D)


class Decision(NamedTuple):
    """An action (A,) for the next step; how many sequences were tried for it, and the states (H, 1+N, D) that
    are expected from now on, where something was planned."""

    action: NDArray[np.float64]
    calls: int = 0
    imagined: Tensor | None = None


class Policy(Protocol):
    """Acts from pictures. What it does depends on the seed and the pictures alone."""

    def reset(self, picture: Picture, goal: Picture, seed: int) -> None:
        """A new episode, from what is seen first."""
        ...

    def act(self, picture: Picture) -> Decision:
        """The next action."""
        ...


@dataclass(frozen=True)
class ActionSpace:
    """The numbers of an action that are chosen; all others stay as in `held` (A,)."""

    low: Tensor
    high: Tensor
    held: Tensor
    chosen: tuple[int, ...]

    @property
    def limits(self) -> Limits:
        """Of the chosen numbers."""
        index = list(self.chosen)
        return Limits(self.low[index], self.high[index])

    def whole(self, chosen: Tensor) -> Tensor:
        """Chosen numbers (..., C) -> actions (..., A)."""
        actions = self.held.expand(*chosen.shape[:-1], -1).clone()
        actions[..., list(self.chosen)] = chosen
        return actions


@dataclass(frozen=True)
class PlannerConfig(Bounded):
    """Model-predictive control: plan, act for a while, plan again."""

    hold: Count = 2  # steps that a planned action is repeated for
    act: Count = 1  # planned actions that are carried out before the next plan


@dataclass
class PlanningPolicy:
    """Model-predictive control with any dynamics, cost and solver."""

    encode: Encode
    dynamics: ForwardModel
    make_cost: MakeCost
    solver: Solver
    space: ActionSpace
    config: PlannerConfig = field(default_factory=PlannerConfig)
    ends: bool = False  # whether the cost looks at nothing but where a plan ends

    @torch.no_grad()
    def reset(self, picture: Picture, goal: Picture, seed: int) -> None:
        """As `Policy.reset`."""
        self.generator = torch.Generator().manual_seed(seed)
        self.cost = self.make_cost(self.encode(picture), self.encode(goal))
        self.ahead: deque[tuple[Tensor, Tensor]] = deque()  # actions (A,) to come, with the states after each
        self.last: Tensor | None = None

    @torch.no_grad()
    def act(self, picture: Picture) -> Decision:
        """As `Policy.act`."""
        calls = 0 if self.ahead else self._plan(self.encode(picture))
        imagined = torch.stack([state for _, state in self.ahead])
        action, _ = self.ahead.popleft()
        return Decision(action.double().numpy(), calls, imagined)

    def _plan(self, state: Tensor) -> int:
        start = None if self.last is None else shifted(self.last, self.config.act)

        def objective(chosen: Tensor) -> Tensor:
            states = self.dynamics.roll_out(state, self._held(chosen), ends=self.ends)
            return self.cost(states).float().cpu()

        solution = self.solver.solve(objective, self.space.limits, self.generator, start)
        self.last = solution.actions
        actions = self._held(solution.actions[None])  # (1, H * hold, A)
        states = self.dynamics.roll_out(state, actions)[0].cpu()
        count = self.config.act * self.config.hold
        self.ahead.extend(zip(actions[0, :count], states[:count], strict=True))
        return solution.calls

    def _held(self, chosen: Tensor) -> Tensor:
        """Plans (B, H, C) -> the actions of every step, (B, H * hold, A)."""
        return self.space.whole(chosen).repeat_interleave(self.config.hold, dim=1)


@dataclass
class CloningPolicy:
    """Behaviour cloning: the action that led from such a state to such a goal."""

    encode: Encode
    read: Callable[[Tensor], Tensor]  # states (1, 2, 1+N, D) of now and the goal -> actions (1, A)
    space: ActionSpace

    def reset(self, picture: Picture, goal: Picture, seed: int) -> None:
        """As `Policy.reset`."""
        self.goal = self.encode(goal)

    @torch.no_grad()
    def act(self, picture: Picture) -> Decision:
        """As `Policy.act`."""
        outputs = self.read(torch.stack([self.encode(picture), self.goal])[None])[0].cpu()
        action = self.space.whole(outputs[list(self.space.chosen)].to(self.space.held))
        return Decision(action.clamp(self.space.low, self.space.high).double().numpy(), 1)


@dataclass
class RandomPolicy:
    """Actions drawn evenly from the controller's range, each held as long as a planner's."""

    space: ActionSpace
    hold: int = 2

    def reset(self, picture: Picture, goal: Picture, seed: int) -> None:
        """As `Policy.reset`."""
        self.generator, self.left = torch.Generator().manual_seed(seed), 0

    def act(self, picture: Picture) -> Decision:
        """As `Policy.act`."""
        if self.left == 0:
            low, high = self.space.limits
            drawn = torch.rand(len(low), generator=self.generator, dtype=low.dtype)
            self.action, self.left = self.space.whole(low + drawn * (high - low)), self.hold
        self.left -= 1
        return Decision(self.action.double().numpy())


def space_of(limits: tuple[Any, Any], held: Any, chosen: tuple[int, ...]) -> ActionSpace:
    """From arrays (A,). ValueError for numbers that an action does not have."""
    low, high, rest = (torch.as_tensor(np.asarray(part), dtype=torch.float32) for part in (*limits, held))
    if not chosen or max(chosen) >= len(low):
        raise ValueError(f"an action has the numbers 0 to {len(low) - 1}, not {chosen}")
    return ActionSpace(low, high, rest, chosen)
