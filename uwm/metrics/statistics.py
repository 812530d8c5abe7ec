"""95% bootstrap intervals over clips, with NumPy alone.

Pairs of one clip share scene, camera and motion, so they are no independent observations: a resample draws
whole clips with replacement (the cluster bootstrap) and the interval holds the 2.5% and 97.5% quantiles of
the resampled estimates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95

Clusters = Sequence[Any] | NDArray[Any]  # one clip name or number per row


@dataclass(frozen=True)
class Interval:
    """An estimate from `n` rows in `clusters` clips, and its 95% interval (of width 0 for a single clip)."""

    estimate: float
    low: float
    high: float
    n: int
    clusters: int

    @property
    def ci(self) -> list[float]:
        """[low, high], as a record holds it."""
        return [self.low, self.high]


def bootstrap_mean(values: ArrayLike, clusters: Clusters, *, samples: int = 2000, seed: int = 0) -> Interval:
    """Mean of values (n,), each row counting alike, with an interval over clusters (n,).

    Raises ValueError for no rows, lengths that differ, and values that are not finite.
    """
    rows = _column("values", values)
    return _bootstrap(rows, np.ones_like(rows), clusters, samples, seed)


def bootstrap_difference(
    a: ArrayLike, b: ArrayLike, clusters: Clusters, *, samples: int = 2000, seed: int = 0
) -> Interval:
    """Mean of a - b over paired rows (n,), with an interval over clusters. Raises as `bootstrap_mean`."""
    first, second = _column("a", a), _column("b", b)
    if len(first) != len(second):
        raise ValueError(f"paired values differ in length: {len(first)} and {len(second)}")
    return bootstrap_mean(first - second, clusters, samples=samples, seed=seed)


def bootstrap_ratio(
    numerators: ArrayLike, denominators: ArrayLike, clusters: Clusters, *, samples: int = 2000, seed: int = 0
) -> Interval:
    """Ratio of the means, mean(numerators) / mean(denominators), with an interval over clusters (n,).

    Not the mean of the ratios, which pairs with almost no motion would rule. Raises as `bootstrap_mean`, and
    where the denominators of a cluster do not sum to more than 0.
    """
    top, bottom = _column("numerators", numerators), _column("denominators", denominators)
    if len(top) != len(bottom):
        raise ValueError(f"numerators and denominators differ in length: {len(top)} and {len(bottom)}")
    return _bootstrap(top, bottom, clusters, samples, seed)


def _bootstrap(
    numerators: NDArray[np.float64], weights: NDArray[np.float64], clusters: Clusters, samples: int, seed: int
) -> Interval:
    """Interval of sum(numerators) / sum(weights); only their sums per cluster matter to it."""
    if len(clusters) != len(numerators):
        raise ValueError(f"{len(numerators)} values but {len(clusters)} cluster names")
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    tops, bottoms = np.bincount(index, numerators), np.bincount(index, weights)  # (clusters,)
    if bottoms.min() <= 0:
        raise ValueError(f"a ratio needs positive denominators, a cluster's sum to {bottoms.min():g}")
    count = len(tops)
    # how often each cluster is drawn in each resample, (samples, clusters)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)
    estimates = (draws @ tops) / (draws @ bottoms)
    low, high = np.quantile(estimates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(tops.sum() / bottoms.sum()), float(low), float(high), len(numerators), count)


def _column(name: str, values: ArrayLike) -> NDArray[np.float64]:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1 or len(column) == 0:
        raise ValueError(f"{name} must be one row of at least one number, got shape {column.shape}")
    bad = np.flatnonzero(~np.isfinite(column))
    if len(bad):
        raise ValueError(f"{name} hold {len(bad)} numbers that are not finite, the first in row {bad[0]}")
    return column
