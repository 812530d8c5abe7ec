"""Whether a training has ended by itself: what its validation curve still gained at the end."""

import pandas as pd

VALIDATED = "val/state_mse/"  # begins the columns of a corpus's validation error
CONVERGED = 0.01  # a last gain below this share counts as converged


def last_gain(curve: pd.DataFrame) -> float | None:
    """The share of the validation error that the last quarter of the steps took away, by a training's curve.

    The mean over the corpora of `curve`, whose columns are `step` and `val/state_mse/<corpus>`. The error of
    three quarters of the way lies on the line between its neighbours. None where nothing was validated by
    then.
    """
    columns = [name for name in curve.columns if name.startswith(VALIDATED)]
    measured = curve[["step", *columns]].dropna()
    if not columns or len(measured) < 2:
        return None
    steps, errors = measured["step"].to_numpy(), measured[columns].mean(axis=1).to_numpy()
    at = 0.75 * steps[-1]
    if steps[0] > at:
        return None
    k = int((steps <= at).sum())  # the first one after it
    share = (at - steps[k - 1]) / (steps[k] - steps[k - 1])
    before = errors[k - 1] + share * (errors[k] - errors[k - 1])
    return float(1 - errors[-1] / before)
