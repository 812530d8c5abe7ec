"""Costs of predicted states, by hand."""

import pytest
import torch

from uwm.planning.cost import (
    CostConfig,
    MeasuredDistance,
    ReadOffDistance,
    StateDistance,
    Sum,
    changed_tokens,
    over_steps,
)

GOAL = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])  # 3 tokens of 2 numbers
PREDICTED = torch.stack([torch.stack([GOAL, GOAL + 1]), torch.stack([GOAL + 2, GOAL])])  # 2 plans, 2 steps


def test_states_are_compared_where_the_plan_ends():
    everything = torch.ones(3, dtype=torch.bool)
    assert StateDistance(GOAL, everything)(PREDICTED).tolist() == [1.0, 0.0]
    both = StateDistance(GOAL, everything, CostConfig(discount=0.5))(PREDICTED)
    assert both.tolist() == pytest.approx([1 / 1.5, 0.5 * 4 / 1.5])  # weights 1/3 and 2/3


def test_only_chosen_tokens_count():
    predicted = GOAL.expand(1, 1, -1, -1).clone()
    predicted[0, 0, 2] += 4
    assert StateDistance(GOAL, torch.tensor([True, True, False]))(predicted).tolist() == [0.0]
    assert StateDistance(GOAL, torch.tensor([False, False, True]))(predicted).tolist() == [16.0]
    with pytest.raises(ValueError, match="no token counts"):
        StateDistance(GOAL, torch.zeros(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="do not fit"):
        StateDistance(GOAL, torch.ones(2, dtype=torch.bool))


def test_the_tokens_that_change_most_are_kept():
    start = GOAL + torch.tensor([[0.0], [3.0], [1.0]])
    assert changed_tokens(start, GOAL, 0.6).tolist() == [False, True, False]
    assert changed_tokens(start, GOAL, 0.3).tolist() == [False, True, True]
    assert changed_tokens(start, GOAL, 0.99).sum() == 1  # at least one


def test_a_head_reads_states_and_goal():
    def first_token(states):
        return states[:, 0]

    cost = ReadOffDistance(first_token, first_token(GOAL[None])[0])
    assert cost(PREDICTED).tolist() == pytest.approx([2**0.5, 0.0])


def test_costs_are_added_as_shares_of_those_at_the_start():
    """Start at 8 and 2: a plan that ends at 4 and 3 costs 0.5 + 2 x 1.5."""

    def first(predicted):
        return predicted[:, -1, 0, 0]

    def second(predicted):
        return predicted[:, -1, 1, 0]

    cost = Sum([(1.0, first), (2.0, second)], torch.tensor([[8.0], [2.0]]))
    assert cost(torch.tensor([[4.0], [3.0]])[None, None]).tolist() == [3.5]
    assert cost(torch.tensor([[8.0], [2.0]])[None, None]).tolist() == [3.0]


def test_measured_distances_are_the_cost():
    measured = torch.tensor([[5.0, 7.0], [1.0, 2.0]])[..., None, None]
    assert MeasuredDistance()(measured).tolist() == [7.0, 2.0]


def test_steps_are_weighted_to_the_end():
    costs = torch.tensor([[4.0, 2.0, 1.0]])
    assert over_steps(costs, 0.0).tolist() == [1.0]
    assert over_steps(costs, 0.5).tolist() == pytest.approx([(1 + 1 + 1) / 1.75])
