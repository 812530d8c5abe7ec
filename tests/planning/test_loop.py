"""Dynamics, policies and episodes on a toy: a point on a line, seen as a picture."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from uwm.planning.cost import CostConfig, StateDistance
from uwm.planning.dynamics import LearnedDynamics, ShuffledDynamics, SimulatedDynamics, copied
from uwm.planning.episodes import Episode, held_distances, run_episode
from uwm.planning.policies import (
    CloningPolicy,
    PlannerConfig,
    PlanningPolicy,
    RandomPolicy,
    space_of,
)
from uwm.planning.solvers import SamplingSolver, SolverConfig

SPACE = space_of((np.array([-1.0, -1.0]), np.array([1.0, 1.0])), np.array([0.0, 0.75]), (0,))


class Observation(NamedTuple):
    picture: np.ndarray
    goal: np.ndarray


class Line:
    """A point at 0 to 255 moves by ten times the first number of an action; the goal is 60 to the right."""

    def __init__(self) -> None:
        self.place, self.goal, self.count = 0.0, 0.0, 0
        self.actions: list[Any] = []

    def reset(self, seed: int) -> tuple[Observation, dict[str, Any]]:
        self.place, self.count = float(np.random.default_rng(seed).integers(20, 150)), 0
        self.goal = self.place + 60
        return self.shown()

    def shown(self) -> tuple[Observation, dict[str, Any]]:
        pictures = (np.full((1, 1, 3), round(place), np.uint8) for place in (self.place, self.goal))
        distance = abs(self.place - self.goal)
        return Observation(*pictures), {"distance_mm": distance, "success": distance <= 5}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place, self.count = self.place + 10 * float(action[0]), self.count + 1
        self.actions.append(action)
        seen, info = self.shown()
        return seen, -info["distance_mm"], info["success"], self.count >= 12, info


def encode(picture):
    return torch.tensor([[float(picture[0, 0, 0])]])  # one token of one number


def moved(s_t, actions, mask):
    """The line's own dynamics, as a model of control steps: 2 of them to a step."""
    assert mask.all()
    assert actions.shape[1] == 2
    return s_t + 5 * actions[..., 0].sum(1)[:, None, None]


def planner(dynamics, **changes):
    config = PlannerConfig(**{"hold": 2, "act": 1, **changes})
    solver = SamplingSolver(SolverConfig(samples=32, iterations=3, horizon=2, elites=4))
    hurry = CostConfig(discount=0.9)  # else a plan need not arrive before its last step, nor the next one

    def cost(start, goal):
        return StateDistance(goal, torch.ones(1, dtype=torch.bool), hurry)

    return PlanningPolicy(encode, dynamics, cost, solver, SPACE, config)


def test_a_model_is_asked_step_by_step():
    actions = torch.tensor([[[1.0, 0.0], [-0.5, 0.0]], [[0.0, 0.0], [0.2, 9.0]]])
    found = LearnedDynamics(moved, 2, batch=1).roll_out(torch.tensor([[7.0]]), actions)
    assert found[..., 0, 0].tolist() == [[17.0, 12.0], [7.0, 9.0]]
    last = LearnedDynamics(moved, 2).roll_out(torch.tensor([[7.0]]), actions, ends=True)
    assert torch.equal(last, found[:, 1:])
    assert LearnedDynamics(copied, 2).roll_out(torch.tensor([[7.0]]), actions).unique().tolist() == [7.0]


def test_shuffled_consequences_are_those_of_another_plan():
    inner = LearnedDynamics(moved, 2)
    actions = torch.rand(5, 3, 2)
    own, other = (d.roll_out(torch.zeros(1, 1), actions) for d in (inner, ShuffledDynamics(inner)))
    assert torch.equal(other.flatten(1).sort(0).values, own.flatten(1).sort(0).values)
    assert not (own == other).flatten(1).any()


def test_a_single_plan_gets_the_consequences_of_an_earlier_one():
    """As a solver asks last for the mean of its samples: the truth about it would be an answer."""
    inner = LearnedDynamics(moved, 2)
    shuffled, actions = ShuffledDynamics(inner), torch.rand(5, 3, 2)
    with pytest.raises(ValueError, match="no other was asked for"):
        shuffled.roll_out(torch.zeros(1, 1), actions[:1])
    shuffled.roll_out(torch.zeros(1, 1), actions)
    found = shuffled.roll_out(torch.zeros(1, 1), torch.rand(1, 3, 2))
    assert torch.equal(found, inner.roll_out(torch.zeros(1, 1), actions[2:3]))


def test_the_simulator_is_asked_for_each_plan():
    looks = []

    def look_ahead(plan, looked):
        looks.append(list(looked))
        return plan.cumsum(0)[list(looked)]

    ahead = SimulatedDynamics(look_ahead, lambda seen: torch.from_numpy(seen).float()[:, None])
    actions = torch.rand(4, 3, 2)
    everything = ahead.roll_out(torch.zeros(1, 1), actions)
    assert torch.allclose(everything, actions.cumsum(1)[:, :, None])
    last = ahead.roll_out(torch.zeros(1, 1), actions, ends=True)
    assert torch.equal(last, everything[:, -1:])
    assert looks == [[0, 1, 2]] * 4 + [[2]] * 4


def test_a_planner_with_the_true_model_reaches_the_goal_and_chance_does_not():
    planned = [run_episode(Line(), planner(LearnedDynamics(moved, 2)), seed) for seed in range(5)]
    assert all(episode.success for episode in planned)
    assert all(len(episode.actions) <= 8 for episode in planned)  # 60 at 10 a step
    by_chance = [run_episode(Line(), RandomPolicy(SPACE), seed) for seed in range(5)]
    assert not any(episode.success for episode in by_chance)
    blind = [run_episode(Line(), planner(LearnedDynamics(copied, 2)), seed) for seed in range(5)]
    assert not any(episode.success for episode in blind)


def test_actions_are_held_chosen_and_imagined():
    episode = run_episode(Line(), planner(LearnedDynamics(moved, 2)), 0)
    assert (episode.actions[:, 1] == 0.75).all()  # not chosen
    assert np.array_equal(episode.actions[0:6:2], episode.actions[1:6:2])  # each held for two steps
    assert (episode.calls[0::2] == 97).all()
    assert not episode.calls[1::2].any()
    places = episode.pictures[1:, 0, 0, 0].astype(float)
    assert np.abs(episode.imagined[:, 0, 0] - places).max() <= 1.5  # the picture is rounded
    own = run_episode(Line(), RandomPolicy(SPACE, hold=3), 0).actions[:, 0]
    assert own[0] == own[1] == own[2] != own[3]


def test_the_same_seed_gives_the_same_episode():
    first, again = (run_episode(Line(), planner(LearnedDynamics(moved, 2)), 3) for _ in range(2))
    assert first.actions.tobytes() == again.actions.tobytes()
    assert first.pictures.tobytes() == again.pictures.tobytes()


def test_another_policy_plugs_in():
    clone = CloningPolicy(encode, lambda pair: (pair[:, 1] - pair[:, 0]).view(1, 1).expand(1, 2) / 10, SPACE)
    episode = run_episode(Line(), clone, 1)
    assert episode.success
    assert np.abs(episode.actions).max() <= 1  # within the limits, whatever is read
    with pytest.raises(ValueError, match="numbers 0 to 1, not"):
        space_of((np.zeros(2), np.ones(2)), np.zeros(2), (2,))


def test_a_finished_episode_is_kept_and_found_again(tmp_path):
    path = tmp_path / "cell" / "3.npz"
    assert Episode.load(path, "a") is None
    episode = run_episode(Line(), planner(LearnedDynamics(moved, 2)), 3)
    episode.save(path, "a")
    assert [child.name for child in path.parent.iterdir()] == ["3.npz"]
    found = Episode.load(path, "a")
    for name, value in vars(episode).items():
        assert np.array_equal(getattr(found, name), value, equal_nan=name == "imagined")
    assert Episode.load(path, "b") is None  # of other settings
    path.write_bytes(path.read_bytes()[:200])
    assert Episode.load(path, "a") is None  # cut off


def test_distances_stay_where_an_episode_ended():
    def episode(*distances):
        return Episode(0, True, np.array(distances), *[np.zeros(0)] * 6)

    assert held_distances([episode(9.0, 4.0), episode(9.0, 8.0, 7.0)], 2).tolist() == [[9, 4, 4], [9, 8, 7]]
