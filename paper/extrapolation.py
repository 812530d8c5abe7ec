"""How a number would go on with longer training: a power law through the longest trainings measured."""

from collections.abc import Mapping

import numpy as np

from paper.store import Measured, Results
from uwm.methods.variations import BASE, LENGTH, VARIATIONS

FITTED = 3  # so many of the longest trainings are fitted, the fewest that show whether a line bends
FURTHER = 4.0  # drawn up to so many times the longest


def lengths(results: Results, scale: str, corpus: str, metric: str) -> dict[float, Measured]:
    """Pairs seen in the training -> the number of the variation that saw them, in ascending order.

    All have the same loss: what a perceptual loss adds does not come from length.
    """
    by_pairs: dict[float, Measured] = {}
    for name in (BASE.name, *(v.name for v in VARIATIONS.values() if v.topic == LENGTH)):
        cells = [cell for cell in results.find(scale, "ablations", name, corpus) if cell.status == "ok"]
        measured = results.measure(scale, "ablations", name, corpus, metric)
        if cells and measured and "perceptual" not in cells[0].record["config"]["pretrain"]:
            train = cells[0].record["config"]["pretrain"]["train"]
            by_pairs[float(train["steps"] * train["batch_size"])] = measured
    return dict(sorted(by_pairs.items()))


def power_law(line: Mapping[float, Measured]) -> tuple[float, float] | None:
    """a and b of log y = a + b log pairs by least squares; None with too few points or one at 0 or below."""
    last = sorted(line)[-FITTED:]
    values = [line[pairs].value for pairs in last]
    if len(last) < FITTED or min(values) <= 0:
        return None
    b, a = np.polyfit(np.log(last), np.log(values), 1)
    return float(a), float(b)


def trend(line: Mapping[float, Measured]) -> dict[float, float]:
    """Pairs -> value, from the longest training on."""
    law = power_law(line)
    if law is None:
        return {}
    return {pairs: float(np.exp(law[0]) * pairs ** law[1]) for pairs in (max(line), FURTHER * max(line))}


def pairs_until(line: Mapping[float, Measured], bound: float) -> float | None:
    """How many pairs the power law needs to come to `bound`; None where it doesn't lead there."""
    law = power_law(line)
    if law is None or law[1] == 0:
        return None
    exponent = (np.log(bound) - law[0]) / law[1]
    return float(np.exp(exponent)) if np.log(max(line)) < exponent < np.log(1e9) else None
