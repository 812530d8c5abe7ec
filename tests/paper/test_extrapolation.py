"""A power law through the longest trainings, against one that is known."""

import pytest

from paper.extrapolation import pairs_until, trend
from paper.store import Measured

LAW = {float(steps): Measured(4 * steps**-0.5, 0, 0, 1) for steps in (100, 200, 400, 800)}


def test_a_known_law_goes_on() -> None:
    bent = {**LAW, 50.0: Measured(9.0, 0, 0, 1)}  # short trainings are on no line
    for line in (LAW, bent):
        assert pairs_until(line, 0.04) == pytest.approx(10_000)
        assert trend(line) == pytest.approx({800: 4 * 800**-0.5, 3200: 4 * 3200**-0.5})


@pytest.mark.parametrize(
    ("line", "bound"),
    [
        (LAW, 1.0),  # the wrong way
        (LAW, 1e-9),  # beyond what a line can tell
        (dict(list(LAW.items())[:2]), 0.01),  # two points bend nowhere
        ({**LAW, 1600.0: Measured(0.0, 0, 0, 1)}, 0.01),
    ],
)
def test_a_line_that_does_not_lead_there_says_so(line: dict[float, Measured], bound: float) -> None:
    assert pairs_until(line, bound) is None
