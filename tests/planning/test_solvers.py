"""Solvers on problems whose optimum is known."""

import pytest
import torch

from uwm.planning.solvers import Limits, SamplingSolver, SolverConfig, shifted

LIMITS = Limits(torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0]))
KINDS = ("cem", "mppi", "shooting")


def bowl(optimum):
    """A cost that is 0 at the optimum (H, A) and counts the numbers alike."""
    return lambda actions: (actions - optimum).square().sum((1, 2))


def solve(objective, start=None, seed=0, **changes):
    config = SolverConfig(**{"samples": 200, "iterations": 8, "elites": 20, **changes})
    return SamplingSolver(config).solve(objective, LIMITS, torch.Generator().manual_seed(seed), start)


@pytest.mark.parametrize(("kind", "error"), [("cem", 0.1), ("mppi", 0.15), ("shooting", 0.6)])
def test_the_optimum_is_found(kind, error):
    optimum = torch.tensor([[0.5, -1.0], [-0.25, 1.5]])
    plan = solve(bowl(optimum), kind=kind)
    assert (plan.actions - optimum).abs().max() < error
    assert plan.cost == pytest.approx(float(bowl(optimum)(plan.actions[None])[0]))
    assert plan.calls == 8 * 200 + (kind != "shooting")


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_beyond_the_limits_is_approached_and_they_are_kept(kind):
    asked = []

    def objective(actions):
        asked.append(actions)
        return bowl(torch.tensor([[5.0, -9.0], [5.0, -9.0]]))(actions)

    plan = solve(objective, kind=kind)
    for actions in (*asked, plan.actions):
        assert (actions >= LIMITS.low).all()
        assert (actions <= LIMITS.high).all()
    assert torch.allclose(plan.actions, torch.tensor([1.0, -2.0]).expand(2, 2), atol=0.3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_plan(kind):
    objective = bowl(torch.full((2, 2), 0.3))
    first, again, other = (solve(objective, kind=kind, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.actions, again.actions)
    assert not torch.equal(first.actions, other.actions)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_warm_start_is_kept(kind):
    """With few samples in a narrow valley nothing better is found by chance."""
    optimum = torch.tensor([[0.9, 1.9], [-0.9, -1.9]])
    few = {"samples": 4, "iterations": 1, "elites": 1, "temperature": 1e-3, "kind": kind}
    assert torch.allclose(solve(bowl(optimum), optimum, **few).actions, optimum, atol=1e-4)
    assert solve(bowl(optimum), **few).cost > 0.1


def test_a_plan_that_costs_nothing_to_choose_stays_in_the_middle():
    """Of equal costs no action is better: the mean of all samples is near that of the range."""
    plan = solve(lambda actions: torch.zeros(len(actions)), kind="mppi", iterations=1, samples=4000)
    assert plan.actions.abs().max() < 0.1


@pytest.mark.parametrize("kind", ["cem", "mppi", "shooting"])
@pytest.mark.parametrize("noise", [0.0, 1e-6])
def test_of_equal_costs_the_start_stays(kind, noise):
    """Also where the last digits differ, as those of a network's outputs over one batch do."""
    config = SolverConfig(kind=kind, samples=32, iterations=3, horizon=1, elites=6)
    generator = torch.Generator().manual_seed(1)
    plan = SamplingSolver(config).solve(
        lambda plans: 0.7 + noise * torch.rand(len(plans), generator=generator),
        Limits(torch.full((3,), -1.0), torch.full((3,), 1.0)),
        torch.Generator().manual_seed(0),
    )
    assert torch.equal(plan.actions, torch.zeros(1, 3))


def test_the_rest_of_a_plan_is_the_next_start():
    plan = torch.arange(6.0).view(3, 2)
    assert shifted(plan, 1).tolist() == [[2, 3], [4, 5], [4, 5]]
    assert shifted(plan, 3).tolist() == [[4, 5]] * 3


def test_wrong_objectives_and_settings_are_named():
    with pytest.raises(ValueError, match="200 finite costs"):
        solve(lambda actions: torch.full((len(actions),), torch.nan))
    with pytest.raises(ValueError, match="finite costs"):
        solve(lambda actions: torch.zeros(1))
    with pytest.raises(ValueError, match=r"start is \(3, 2\)"):
        solve(bowl(torch.zeros(2, 2)), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="elites must be at most samples"):
        SolverConfig(samples=4, elites=5)
    with pytest.raises(ValueError, match="kind must be one of"):
        SolverConfig(kind="newton")
