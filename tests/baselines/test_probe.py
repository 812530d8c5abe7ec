"""Ridge probe: by hand, both closed forms alike, and the penalty chosen on held-out rows."""

import numpy as np
import pytest
import torch
from scipy.linalg import lstsq

from uwm.baselines.probe import fit_probe, fit_ridges, r_squared


def test_one_feature_by_hand() -> None:
    x, y = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [2.0], [6.0]])
    # Centred: x = (-1, 0, 1), y = (-2, -1, 3), sum x^2 = 2, sum xy = 5; the penalty is 0.25 * 2.
    (ridge,) = fit_ridges(x, y, [0.25])
    assert ridge.weights.item() == pytest.approx(5 / 2.5)
    assert ridge.bias.item() == pytest.approx(3.0)
    assert ridge(torch.tensor([[4.0]])).item() == pytest.approx(3 + 3 * 2.0)


@pytest.mark.parametrize(("rows", "features"), [(40, 7), (7, 40)])
def test_both_closed_forms_are_the_minimum(rows: int, features: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, features, generator=generator, dtype=torch.float64)
    y = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    centred = x - x.mean(0)
    penalties = (0.01, 0.1)
    for penalty, ridge in zip(penalties, fit_ridges(x, y, penalties), strict=True):
        gradient = centred.T @ (y - ridge(x)) - penalty * centred.square().sum() * ridge.weights
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("rows", "features"), [(40, 7), (7, 40)])
def test_scipys_least_squares_agree(rows: int, features: int) -> None:
    """The penalty as further rows: the square root of it times the identity, with targets of 0."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(rows, features)), generator.normal(size=(rows, 3))
    (ridge,) = fit_ridges(torch.from_numpy(x), torch.from_numpy(y), [0.05])
    centred = x - x.mean(0)
    weight = np.sqrt(0.05 * np.square(centred).sum())
    system = np.concatenate([centred, weight * np.eye(features)])
    expected = lstsq(system, np.concatenate([y - y.mean(0), np.zeros((features, 3))]))[0]
    np.testing.assert_allclose(ridge.weights.numpy(), expected, rtol=0, atol=1e-12)


def test_r_squared_by_hand() -> None:
    targets = torch.tensor([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    predicted = torch.tensor([[1.0, 4.0], [2.0, 5.0], [2.0, 6.0]])
    assert r_squared(predicted, targets).tolist() == [0.5, 0.0]  # 1 - 1 / 2; a constant target
    assert r_squared(targets, targets)[0] == 1


def test_held_out_rows_choose_the_penalty() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(30, 2, generator=generator)
    x = torch.randn(90, 30, generator=generator)
    y = x @ weights + 3 * torch.randn(90, 2, generator=generator)
    probe = fit_probe(x[:45], y[:45], (x[45:], y[45:]), penalties=(1e-8, 1e-2, 1e6))
    assert probe.penalty == 1e-2
    clean = fit_probe(x[:45], (x @ weights)[:45], (x[45:], (x @ weights)[45:]), penalties=(1e-8, 1e-2))
    assert clean.penalty == 1e-8
    assert clean.r2.min() > 0.999


def test_no_penalty_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        fit_ridges(torch.zeros(2, 1), torch.zeros(2, 1), [0.1, 0.0])
