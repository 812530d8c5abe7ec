"""The cluster bootstrap: hand-computed, against a slow twin, and by what an interval must do."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from uwm.metrics import statistics
from uwm.metrics.statistics import (
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_ratio,
    bootstrap_ratio_difference,
    sign_test,
    wilson,
)


def clustered(seed: int, clusters: int = 12, rows: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Rows with an effect of their cluster (sd 1) and noise of their own (sd 0.3); true mean 0."""
    rng = np.random.default_rng(seed)
    names = np.repeat([f"clip-{i:02d}" for i in range(clusters)], rows)
    return np.repeat(rng.normal(size=clusters), rows) + 0.3 * rng.normal(size=clusters * rows), names


def test_importing_statistics_does_not_load_torch() -> None:
    code = "import sys, uwm.metrics.statistics; sys.exit(any(m in sys.modules for m in ('torch', 'lpips')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_mean_of_two_clusters_by_hand() -> None:
    # resamples: aa -> 0, ab and ba -> (0 + 0 + 3) / 3, bb -> 3; each pure one has probability 1/4 > 2.5%
    interval = bootstrap_mean([0.0, 0.0, 3.0], ["a", "a", "b"])
    assert (interval.estimate, interval.low, interval.high) == (1.0, 0.0, 3.0)
    assert (interval.n, interval.clusters, interval.ci) == (3, 2, [0.0, 3.0])


def test_ratio_of_two_clusters_by_hand() -> None:
    # aa -> 3/6, ab -> (3 + 8) / (6 + 4), bb -> 8/4: a ratio of means, not a mean of ratios
    interval = bootstrap_ratio([1.0, 2.0, 8.0], [2.0, 4.0, 4.0], [7, 7, 9])
    assert interval.estimate == pytest.approx(1.1)
    assert (interval.low, interval.high) == (pytest.approx(0.5), pytest.approx(2.0))


def test_difference_is_paired() -> None:
    values, names = clustered(0)
    interval = bootstrap_difference(values + 0.25, values, names)
    assert [interval.estimate, *interval.ci] == pytest.approx([0.25] * 3, abs=1e-12)


def test_agrees_with_a_slow_twin() -> None:
    values, names = clustered(1)
    keep = np.random.default_rng(3).permutation(len(values))[:41]  # clusters of unequal size
    values, names = values[keep], names[keep]
    unique = sorted(set(names))
    draws = np.random.default_rng(5).multinomial(len(unique), [1 / len(unique)] * len(unique), size=300)
    means = []
    for counts in draws:
        chosen = [name for name, count in zip(unique, counts, strict=True) for _ in range(count)]
        means.append(np.concatenate([values[names == name] for name in chosen]).mean())
    interval = bootstrap_mean(values, names, samples=300, seed=5)
    assert interval.ci == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist())


def test_two_seeds_by_hand() -> None:
    # one clip: only seeds are drawn; both 0 -> 0, one each -> 1, both 1 -> 2, and the pure ones are not rare
    interval = bootstrap_mean([[0.0, 2.0]], ["a"])
    assert (interval.estimate, interval.low, interval.high, interval.n) == (1.0, 0.0, 2.0, 1)


def test_seeds_that_agree_change_nothing() -> None:
    values, names = clustered(4)
    one, three = (bootstrap_mean(v, names) for v in (values, np.stack([values] * 3, axis=1)))
    assert [three.estimate, *three.ci] == pytest.approx([one.estimate, *one.ci])
    ratio = bootstrap_ratio(np.stack([values + 9, values + 9], axis=1), np.ones((len(values), 2)), names)
    assert ratio.ci == pytest.approx([9 + limit for limit in one.ci])


def test_seeds_that_differ_widen_the_interval() -> None:
    values, names = clustered(5)
    apart = values[:, None] + np.array([-1.0, 0.0, 1.0])
    one, three = bootstrap_mean(values, names), bootstrap_mean(apart, names)
    assert three.estimate == pytest.approx(one.estimate)
    assert three.high - three.low > 1.2 * (one.high - one.low)


def test_seeds_agree_with_a_slow_twin() -> None:
    values, names = clustered(6, clusters=4, rows=2)
    table = values[:, None] + np.array([0.0, 0.5, 2.0])
    clips = np.random.default_rng(5).multinomial(4, [1 / 4] * 4, size=200)
    seeds = np.random.default_rng(6).multinomial(3, [1 / 3] * 3, size=200)
    means = []
    for clip_counts, seed_counts in zip(clips, seeds, strict=True):
        rows = np.concatenate(
            [np.tile(table[names == n], (k, 1)) for n, k in zip(np.unique(names), clip_counts, strict=True)]
        )
        means.append(np.repeat(rows, seed_counts, axis=1).mean())
    interval = bootstrap_mean(table, names, samples=200, seed=5)
    assert interval.ci == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist())


def test_a_difference_pairs_seeds_with_seeds_or_with_one() -> None:
    values, names = clustered(7)
    table = values[:, None] + np.array([0.0, 1.0])
    same = bootstrap_difference(table + 0.25, table, names)
    assert [same.estimate, *same.ci] == pytest.approx([0.25] * 3)
    against_one = bootstrap_difference(table, values, names)
    assert (against_one.estimate, *against_one.ci) == pytest.approx((0.5, 0.0, 1.0))
    with pytest.raises(ValueError, match="seeds: 2 and 3"):
        bootstrap_difference(table, np.stack([values] * 3, axis=1), names)


def test_one_row_per_cluster_is_the_ordinary_bootstrap() -> None:
    values = np.random.default_rng(2).gamma(2.0, size=150)
    interval = bootstrap_mean(values, np.arange(150), samples=8000)
    ordinary = stats.bootstrap(
        (values,), np.mean, n_resamples=8000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    width = ordinary.high - ordinary.low
    assert interval.low == pytest.approx(ordinary.low, abs=0.04 * width)
    assert interval.high == pytest.approx(ordinary.high, abs=0.04 * width)


def test_coverage_of_clustered_data() -> None:
    covered = {"by clip": 0, "by row": 0}
    for seed in range(200):
        values, names = clustered(seed, clusters=30)
        for kind, groups in (("by clip", names), ("by row", np.arange(len(values)))):
            interval = bootstrap_mean(values, groups, samples=300, seed=seed)
            covered[kind] += interval.low <= 0 <= interval.high
    assert 0.88 <= covered["by clip"] / 200 <= 0.99
    assert covered["by row"] / 200 < 0.8  # why clips are resampled and not rows


@settings(deadline=None, max_examples=30)
@given(st.floats(-1e3, 1e3), st.integers(1, 20), st.integers(1, 6))
def test_constant_values_have_no_width(value: float, rows: int, clusters: int) -> None:
    interval = bootstrap_mean([value] * rows, [i % clusters for i in range(rows)], samples=50)
    assert [interval.estimate, *interval.ci] == pytest.approx([value] * 3)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.floats(0.1, 10), st.integers(0, 5)), min_size=2, max_size=30),
    st.integers(0, 1000),
)
def test_order_of_rows_and_scale_do_not_matter(rows: list[tuple[float, float, int]], seed: int) -> None:
    top, bottom, clip = (np.array(column) for column in zip(*rows, strict=True))
    first = bootstrap_ratio(top, bottom, clip, samples=60, seed=seed)
    order = np.random.default_rng(seed).permutation(len(rows))
    shuffled = bootstrap_ratio(3 * top[order], bottom[order], clip[order], samples=60, seed=seed)
    assert [shuffled.estimate, *shuffled.ci] == pytest.approx(
        [3 * first.estimate, 3 * first.low, 3 * first.high]
    )
    assert min(top / bottom) - 1e-9 <= first.low <= first.high <= max(top / bottom) + 1e-9


def test_seed_decides_the_draws() -> None:
    values, names = clustered(4)
    assert bootstrap_mean(values, names, seed=1) == bootstrap_mean(values, names, seed=1)
    assert bootstrap_mean(values, names, seed=1) != bootstrap_mean(values, names, seed=2)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="2 numbers that are not finite, the first in row 1"):
        bootstrap_mean([0.0, np.nan, np.inf], [0, 1, 2])
    with pytest.raises(ValueError, match="3 values but 2 cluster names"):
        bootstrap_mean([0.0, 1.0, 2.0], [0, 1])
    with pytest.raises(ValueError, match="at least one number"):
        bootstrap_mean([], [])
    with pytest.raises(ValueError, match="differ in length: 2 and 1"):
        bootstrap_difference([0.0, 1.0], [0.0], [0, 1])
    with pytest.raises(ValueError, match="positive denominators"):
        bootstrap_ratio([1.0, 1.0], [1.0, 0.0], [0, 1])


def test_wilson_by_hand():
    """5 of 10, 0 and all of 20: Brown, Cai and DasGupta (2001), formula (4), worked out by hand."""
    half = wilson(5, 10)
    assert (half.estimate, half.n) == (0.5, 10)
    assert half.ci == pytest.approx([0.236593, 0.763407], abs=1e-6)
    z2 = 1.959963984540054**2
    assert wilson(0, 20).ci == pytest.approx([0.0, z2 / (20 + z2)])
    assert wilson(20, 20).ci == pytest.approx([20 / (20 + z2), 1.0])
    for successes, n in ((-1, 3), (4, 3), (0, 0)):
        with pytest.raises(ValueError, match="trials"):
            wilson(successes, n)


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 400], 1.0),  # ranks alone count
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 1 - 6 * 4 / (5 * 24)),  # 1 - 6 sum d^2 / (n (n^2 - 1))
        ([1, 2, 2, 3], [1, 2, 3, 4], 4.5 / math.sqrt(4.5 * 5)),  # ranks 1, 2.5, 2.5, 4
    ],
)
def test_spearman_by_hand(a: list[float], b: list[float], wanted: float) -> None:
    assert statistics.spearman(a, b) == pytest.approx(wanted)
    assert math.isnan(statistics.spearman(a, [7] * len(a)))


def test_the_interval_of_a_rank_correlation_narrows_with_rows() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=200)
    y = x + generator.normal(size=200)
    few, many = (statistics.bootstrap_spearman(x[:n], y[:n]) for n in (10, 200))
    assert few.low < many.low < many.estimate < many.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    assert (few.n, many.n) == (10, 200)
    with pytest.raises(ValueError, match="needs 4 pairs"):
        statistics.bootstrap_spearman([1, 2, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="constant"):
        statistics.bootstrap_spearman([1, 1, 1, 1], [1, 2, 3, 4])


def ratio_tables(seed: int, n: int = 60, seeds: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numerators that follow their denominators, (n, seeds) each, and the clips (n,)."""
    draw = np.random.default_rng(seed)
    bottom = draw.uniform(0.5, 2, (n, 1)).repeat(seeds, axis=1)
    return bottom * draw.uniform(0.4, 0.6, (n, seeds)), bottom, np.arange(n) // 3


def test_a_difference_of_ratios_by_hand() -> None:
    found = bootstrap_ratio_difference(([1.0, 2.0, 8.0], [2.0, 4.0, 4.0]), ([1.0] * 3, [2.0] * 3), [7, 7, 9])
    assert found.estimate == pytest.approx(11 / 10 - 1 / 2)
    assert (found.n, found.clusters) == (3, 2)
    # Resamples of two clips: the first twice, one of each, the second twice.
    assert found.low == pytest.approx(3 / 6 - 1 / 2)
    assert found.high == pytest.approx(2 - 1 / 2)


def test_a_difference_of_ratios_with_one_denominator_is_that_of_means() -> None:
    (a, _, clips), (b, _, _) = ratio_tables(1), ratio_tables(2)
    ones = np.ones_like(a)
    ratios = bootstrap_ratio_difference((a, ones), (b, ones), clips)
    means = bootstrap_difference(a, b, clips)
    assert (ratios.estimate, *ratios.ci) == pytest.approx((means.estimate, *means.ci))


def test_pairing_narrows_a_difference_of_ratios() -> None:
    """The same rows with little added: the difference is far surer than either ratio."""
    top, bottom, clips = ratio_tables(3)
    found = bootstrap_ratio_difference((top + 0.01 * bottom, bottom), (top, bottom), clips)
    assert found.ci == pytest.approx([0.01, 0.01])
    alone = bootstrap_ratio(top, bottom, clips)
    assert alone.high - alone.low > 0.01


def test_one_seed_stands_beside_each_of_the_others() -> None:
    many, bottom, clips = ratio_tables(4, seeds=3)
    one, one_bottom, _ = ratio_tables(5)
    found = bootstrap_ratio_difference((many, bottom), (one, one_bottom), clips)
    repeated = (one.repeat(3, axis=1), one_bottom.repeat(3, axis=1))
    assert found == bootstrap_ratio_difference((many, bottom), repeated, clips)
    with pytest.raises(ValueError, match="seeds"):
        bootstrap_ratio_difference((many, bottom), ratio_tables(5, seeds=2)[:2], clips)
    with pytest.raises(ValueError, match="rows"):
        bootstrap_ratio_difference((many, bottom), ratio_tables(5, n=30)[:2], clips)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_is_the_exact_binomial_one(first: int, second: int) -> None:
    wanted = stats.binomtest(first, first + second).pvalue if first + second else 1
    assert sign_test(first, second) == pytest.approx(wanted)
