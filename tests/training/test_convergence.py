"""The last gain of a training, by hand."""

import numpy as np
import pandas as pd
import pytest

from uwm.training.convergence import last_gain


def curve(errors: dict[float, float]) -> pd.DataFrame:
    """Validation rows with rows of training alone between them, as a thinned log has."""
    steps = np.array(sorted({*errors, *(step - 0.5 for step in errors)}))
    return pd.DataFrame({"step": steps, "val/state_mse/a": [errors.get(step, np.nan) for step in steps]})


def test_the_gain_is_that_of_the_last_quarter() -> None:
    assert last_gain(curve({50: 4.0, 75: 2.0, 100: 1.9})) == pytest.approx(0.05)


def test_three_quarters_lie_between_two_validations() -> None:
    assert last_gain(curve({50: 3.0, 100: 1.0})) == pytest.approx(1 - 1 / 2)


def test_corpora_count_alike() -> None:
    two = curve({75: 2.0, 100: 1.0})
    two["val/state_mse/b"] = [np.nan, 2.0, np.nan, 3.0]
    assert last_gain(two) == pytest.approx(1 - 4 / 4)


@pytest.mark.parametrize("errors", [{100: 1.0}, {80: 2.0, 100: 1.0}])
def test_a_curve_without_an_earlier_validation_has_none(errors: dict[float, float]) -> None:
    assert last_gain(curve(errors)) is None


def test_a_training_without_validation_has_none() -> None:
    assert last_gain(pd.DataFrame({"step": [1, 2], "loss": [1.0, 0.5]})) is None
