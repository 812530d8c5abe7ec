"""95% bootstrap intervals over clips, with NumPy alone.

Pairs of one clip share scene, camera and motion, so they are no independent observations: a resample draws
whole clips with replacement (the cluster bootstrap) and the interval holds the 2.5% and 97.5% quantiles of
the resampled estimates.

Where a training was repeated, values are a table (n, seeds) of the same rows, and a resample draws seeds with
replacement too, apart from the clips (Owen 2007, "The pigeonhole bootstrap"). Noise that is peculiar to one
row and seed counts up to three times, the safe side. A spread between two or three seeds counts too low:
where seeds differ by more than the clips' error explains, read the seeds' own means beside the interval.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

SAMPLES = 2000  # of a bootstrap
LEVEL = 0.95
NORMAL_QUANTILE = 1.959963984540054  # of 97.5%

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


def bootstrap_mean(
    values: ArrayLike, clusters: Clusters, *, samples: int = SAMPLES, seed: int = 0
) -> Interval:
    """Mean of values (n,) or (n, seeds), each row counting alike, with an interval over clusters (n,).

    Raises ValueError for no rows, lengths that differ, and values that are not finite.
    """
    rows = _column("values", values)
    return _bootstrap(rows, np.ones_like(rows), clusters, samples, seed)


def bootstrap_difference(
    a: ArrayLike, b: ArrayLike, clusters: Clusters, *, samples: int = SAMPLES, seed: int = 0
) -> Interval:
    """Mean of a - b over paired rows (n,) or (n, seeds), with an interval over clusters.

    Where one has seeds and the other none, that one stands beside each seed. Raises as `bootstrap_mean`.
    """
    first, second = _column("a", a), _column("b", b)
    if len(first) != len(second):
        raise ValueError(f"paired values differ in length: {len(first)} and {len(second)}")
    if {first.shape[1], second.shape[1]} - {1, max(first.shape[1], second.shape[1])}:
        raise ValueError(f"paired values differ in seeds: {first.shape[1]} and {second.shape[1]}")
    return bootstrap_mean(first - second, clusters, samples=samples, seed=seed)


def bootstrap_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    clusters: Clusters,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Interval:
    """Ratio of the means, mean(numerators) / mean(denominators), with an interval over clusters (n,).

    Both (n,) or (n, seeds).

    Not the mean of the ratios, which pairs with almost no motion would rule. Raises as `bootstrap_mean`, and
    where the denominators of a cluster do not sum to more than 0.
    """
    return _bootstrap(*_parts(numerators, denominators), clusters, samples, seed)


def bootstrap_ratio_difference(
    a: tuple[ArrayLike, ArrayLike],
    b: tuple[ArrayLike, ArrayLike],
    clusters: Clusters,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Interval:
    """The first ratio of means minus the second, with an interval over clusters: both ratios are taken of the
    same resamples of the same rows.

    Each is (numerators, denominators), (n,) or (n, seeds). Where one has seeds and the other none, that one
    stands beside each seed. Raises as `bootstrap_ratio`, and for numbers of rows or seeds that differ.
    """
    parts = [_parts(*a), _parts(*b)]
    lengths, seeds = ({top.shape[axis] for top, _ in parts} for axis in (0, 1))
    if len(lengths) > 1 or len(seeds - {1}) > 1:
        raise ValueError(f"paired ratios differ in rows {sorted(lengths)} or seeds {sorted(seeds)}")
    wide = (max(lengths), max(seeds))
    (first, of_first), (second, of_second) = (
        _resampled(np.broadcast_to(top, wide), np.broadcast_to(bottom, wide), clusters, samples, seed)
        for top, bottom in parts
    )
    low, high = _limits(of_first - of_second)
    return Interval(first - second, low, high, wide[0], len(np.unique(np.asarray(clusters))))


def _parts(numerators: ArrayLike, denominators: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as tables (n, seeds) of one shape."""
    top, bottom = _column("numerators", numerators), _column("denominators", denominators)
    if top.shape != bottom.shape:
        raise ValueError(f"numerators and denominators differ in shape: {top.shape} and {bottom.shape}")
    return top, bottom


def _bootstrap(
    numerators: NDArray[np.float64], weights: NDArray[np.float64], clusters: Clusters, samples: int, seed: int
) -> Interval:
    """Interval of sum(numerators) / sum(weights)."""
    estimate, estimates = _resampled(numerators, weights, clusters, samples, seed)
    count = len(np.unique(np.asarray(clusters)))
    return Interval(estimate, *_limits(estimates), len(numerators), count)


def _limits(estimates: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(estimates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _resampled(
    numerators: NDArray[np.float64], weights: NDArray[np.float64], clusters: Clusters, samples: int, seed: int
) -> tuple[float, NDArray[np.float64]]:
    """sum(numerators) / sum(weights), and the same of each resample, (samples,): of each cluster only the
    sums matter."""
    if len(clusters) != len(numerators):
        raise ValueError(f"{len(numerators)} values but {len(clusters)} cluster names")
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    tops, bottoms = (
        np.stack([np.bincount(index, column) for column in table.T], axis=1)  # (clusters, seeds)
        for table in (numerators, weights)
    )
    if bottoms.min() <= 0:
        raise ValueError(f"a ratio needs positive denominators, a cluster's sum to {bottoms.min():g}")
    count, seeds = tops.shape
    draws, drawn_seeds = _draws(count, samples, seed), _draws(seeds, samples, seed + 1)
    estimates = ((draws @ tops) * drawn_seeds).sum(1) / ((draws @ bottoms) * drawn_seeds).sum(1)
    return float(tops.sum() / bottoms.sum()), estimates


@lru_cache(maxsize=4)
def _draws(clusters: int, samples: int, seed: int) -> NDArray[np.float64]:
    """How often each cluster is drawn in each resample, (samples, clusters): the costly part, shared by all
    metrics of a table."""
    shares = np.full(clusters, 1 / clusters)
    draws = np.random.default_rng(seed).multinomial(clusters, shares, size=samples).astype(np.float64)
    draws.setflags(write=False)
    return draws


def _column(name: str, values: ArrayLike) -> NDArray[np.float64]:
    column = np.asarray(values, dtype=np.float64)
    if column.ndim not in (1, 2) or column.size == 0:
        raise ValueError(f"{name} must be one row of at least one number, got shape {column.shape}")
    table = column.reshape(len(column), -1)  # (n, seeds)
    bad = np.flatnonzero(~np.isfinite(table).all(1))
    if len(bad):
        raise ValueError(f"{name} hold {len(bad)} numbers that are not finite, the first in row {bad[0]}")
    return table


def wilson(successes: int, n: int) -> Interval:
    """Share of successes in n independent trials, with Wilson's 95% score interval (1927), which is right for
    few trials and for shares of 0 and 1, where a bootstrap has no width. ValueError for impossible counts."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n} trials")
    share, z2 = successes / n, NORMAL_QUANTILE**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_QUANTILE / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At 0 and 1 the limits are exact, but for rounding.
    low = 0.0 if successes == 0 else middle - half
    high = 1.0 if successes == n else middle + half
    return Interval(share, low, high, n, n)


def sign_test(first: int, second: int) -> float:
    """The two-sided exact p of `first` against `second` of their sum, if each were as likely (McNemar's exact
    test where they count what one of two alone succeeds at). 1 where both are 0."""
    n, least = first + second, min(first, second)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(least + 1)) / 2**n)


def gain(ratio: Interval) -> Interval:
    """1 minus a ratio, with its interval."""
    return Interval(1 - ratio.estimate, 1 - ratio.high, 1 - ratio.low, ratio.n, ratio.clusters)


def perplexity(counts: NDArray[Any]) -> float:
    """exp of the entropy of the codes' distribution: 1 for one code in use, len(counts) for even use."""
    p = counts[counts > 0] / counts.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation of two rows (n,) of numbers, ties at their mean rank; NaN for a constant row."""
    rows = (np.asarray(values, dtype=np.float64)[None] for values in (a, b))
    return float(_spearman(*rows)[0])


def bootstrap_spearman(
    a: ArrayLike, b: ArrayLike, *, again: ArrayLike | None = None, seed: int = 0
) -> Interval:
    """`spearman`, with an interval over the pairs of numbers (n,) drawn with replacement.

    `again` (SAMPLES, n): what `b` might have been measured as, so that the interval has its noise too.
    Draws in which a row is constant have no correlation and are left out. For few pairs the interval is wide,
    and still too narrow a little. Raises ValueError for fewer than 4 pairs, lengths that differ, numbers that
    are not finite and constant rows.
    """
    first, second = _column("a", a)[:, 0], _column("b", b)[:, 0]
    if len(first) != len(second) or len(first) < 4:
        raise ValueError(f"{len(first)} and {len(second)} numbers: a rank correlation needs 4 pairs or more")
    correlation = spearman(first, second)
    if math.isnan(correlation):
        raise ValueError("a constant row has no rank correlation")
    rows = np.random.default_rng(seed).integers(len(first), size=(SAMPLES, len(first)))
    seconds = np.broadcast_to(second, rows.shape) if again is None else np.asarray(again, np.float64)
    drawn = _spearman(first[rows], np.take_along_axis(seconds, rows, axis=1))
    low, high = np.quantile(drawn[np.isfinite(drawn)], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(correlation, float(low), float(high), len(first), len(first))


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank correlations of the rows (m, n) of two tables, (m,); NaN for constant ones."""
    ranked = (pd.DataFrame(rows).rank(axis=1).to_numpy() for rows in (a, b))  # ties at their mean rank
    first, second = (ranks - ranks.mean(-1, keepdims=True) for ranks in ranked)
    length = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
    return np.divide((first * second).sum(-1), length, out=np.full_like(length, np.nan), where=length > 0)
