"""Intervals against closed forms, published examples, scipy and coverage simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t

from distillens.errors import InputError
from distillens.intervals import Resamples, clopper_pearson, expanded_tail, newcombe_paired, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (266, 300), (1, 1)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_exact_and_score_intervals_equal_scipy(k: int, n: int, level: float) -> None:
    exact = binomtest(k, n).proportion_ci(level, method="exact")
    score = binomtest(k, n).proportion_ci(level, method="wilson")
    assert (clopper_pearson(k, n, level).low, clopper_pearson(k, n, level).high) == pytest.approx(
        (exact.low, exact.high), abs=1e-9
    )
    assert (wilson(k, n, level).low, wilson(k, n, level).high) == pytest.approx((score.low, score.high), abs=1e-9)


def test_one_sided_bounds_have_one_end() -> None:
    lower = clopper_pearson(388, 400, 0.95, sided="lower")
    assert lower.low == pytest.approx(clopper_pearson(388, 400, 0.90).low)
    assert lower.high == math.inf
    assert lower.sided == "lower"
    assert wilson(3, 10, 0.95, sided="upper").low == -math.inf
    # the design's example: with a true .97, agreement of .95 can just be shown at n = 400
    assert lower.low > 0.95
    assert clopper_pearson(291, 300, 0.95, sided="lower").low < 0.95


def test_nothing_and_nonsense() -> None:
    assert clopper_pearson(0, 0).status == "insufficient"
    assert wilson(0, 0).status == "insufficient"
    assert newcombe_paired(0, 0, 0, 0).status == "insufficient"
    with pytest.raises(InputError, match="impossible"):
        clopper_pearson(5, 4)
    with pytest.raises(InputError, match="between 0 and 1"):
        wilson(1, 4, 95)


def test_paired_difference_reproduces_the_published_example() -> None:
    made = newcombe_paired(36, 12, 2, 0)  # Newcombe 1998 (Statistics in Medicine 17, 2635), method 10
    assert (made.low, made.high) == pytest.approx((0.0569, 0.3404), abs=6e-5)


@given(st.tuples(*[st.integers(0, 60)] * 4).filter(lambda cells: sum(cells) > 0))
def test_paired_difference_equals_method_10_written_out(cells: tuple[int, int, int, int]) -> None:
    """Newcombe 1998, method 10: score intervals joined by φ, whose numerator is moved towards 0 by n / 2 when positive."""
    a, b, c, d = cells
    n, z = a + b + c + d, norm.ppf(0.975)

    def score(x: int) -> tuple[float, float]:
        half = z * math.sqrt(z * z + 4 * x * (1 - x / n))
        return (2 * x + z * z - half) / (2 * (n + z * z)), (2 * x + z * z + half) / (2 * (n + z * z))

    p1, p2 = (a + b) / n, (a + c) / n
    (l1, u1), (l2, u2) = score(a + b), score(a + c)
    product = (a + b) * (c + d) * (a + c) * (b + d)
    numerator = a * d - b * c
    corrected = numerator if numerator <= 0 else max(0.0, numerator - n / 2)
    phi = 0.0 if product == 0 else corrected / math.sqrt(product)
    below = (p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    made = newcombe_paired(a, b, c, d)
    expected = (p1 - p2 - math.sqrt(max(below, 0)), p1 - p2 + math.sqrt(max(above, 0)))
    assert (made.low, made.high) == pytest.approx(expected, abs=1e-7)  # a root of rounding at the ends


def test_paired_difference_of_unrelated_proportions_is_the_hybrid_score_interval() -> None:
    # 12 × 12 − 6 × 24 = 0: φ = 0, and the interval is built from the two score intervals alone
    made = newcombe_paired(12, 6, 24, 12)
    one, two = wilson(18, 54), wilson(36, 54)
    expected_low = made.value - math.hypot(one.value - one.low, two.high - two.value)
    expected_high = made.value + math.hypot(one.high - one.value, two.value - two.low)
    assert (made.low, made.high) == pytest.approx((expected_low, expected_high), abs=1e-12)


@pytest.mark.parametrize("p", [(0.85, 0.05, 0.05, 0.05), (0.6, 0.2, 0.1, 0.1), (0.9, 0.06, 0.02, 0.02)])
def test_paired_difference_covers(p: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    truth = p[1] - p[2]
    made = [newcombe_paired(*cells) for cells in rng.multinomial(100, p, size=2000)]
    assert 0.94 <= np.mean([m.low <= truth <= m.high for m in made]) <= 0.985


@given(st.lists(st.integers(0, 60), min_size=4, max_size=4).filter(lambda c: sum(c) > 0))
def test_paired_difference_is_antisymmetric_and_inside_its_interval(cells: list[int]) -> None:
    a, b, c, d = cells
    made, swapped = newcombe_paired(a, b, c, d), newcombe_paired(a, c, b, d)
    assert made.low - 1e-12 <= made.value <= made.high + 1e-12
    assert (made.low, made.high) == pytest.approx((-swapped.high, -swapped.low), abs=1e-12)
    assert made.low >= -1
    assert made.high <= 1


def test_expanded_percentiles_widen_and_vanish() -> None:
    assert expanded_tail(0.025, 10) < expanded_tail(0.025, 100) < 0.025
    assert expanded_tail(0.025, 1e9) == pytest.approx(0.025, rel=1e-6)
    # of a mean of normal values the interval becomes the t interval: z at the widened level = t × sqrt(n / (n − 1))
    assert expanded_tail(0.025, 10) == pytest.approx(norm.cdf(math.sqrt(10 / 9) * t.ppf(0.025, 9)), rel=1e-9)


def test_resamples_are_shared_reproducible_and_count_rows() -> None:
    first, again, other = (Resamples(50, draws=200, seed=s) for s in (3, 3, 4))
    assert (first.counts == again.counts).all()
    assert (first.counts != other.counts).any()
    assert (first.counts.sum(axis=1) == 50).all()
    clustered = Resamples(6, clusters=np.array([7, 7, 7, 2, 2, 9]), draws=100)
    assert (clustered.counts[:, 0] == clustered.counts[:, 2]).all()
    assert (clustered.counts[:, 3] == clustered.counts[:, 4]).all()
    assert {int(c) for c in clustered.counts[:, [0, 3, 5]].sum(axis=1)} == {3}


def test_missing_values_are_counted_never_averaged() -> None:
    made = Resamples(5, draws=100).mean(np.array([1.0, np.nan, 3.0, np.nan, 5.0])).estimate()
    assert (made.value, made.n, made.n_missing) == (3.0, 3, 2)
    nothing = Resamples(3, draws=100).mean(np.full(3, np.nan)).estimate()
    assert nothing.status == "insufficient"
    assert math.isnan(nothing.value)


def test_one_row_has_an_infinite_interval() -> None:
    made = Resamples(1, draws=100).mean(np.array([2.0])).estimate()
    assert (made.value, made.low, made.high, made.status) == (2.0, -math.inf, math.inf, "insufficient")
    one_cluster = Resamples(4, clusters=np.zeros(4, dtype=np.int64), draws=100).mean(np.arange(4.0)).estimate()
    assert one_cluster.status == "insufficient"
    assert one_cluster.n_clusters == 1


def test_proportions_are_exact_unless_clustered_and_say_which() -> None:
    outcomes = np.array([1.0] * 30 + [0.0] * 10)
    exact = Resamples(40, draws=200).proportion(outcomes).estimate()
    assert exact.method == "clopper-pearson"
    assert (exact.low, exact.high) == (clopper_pearson(30, 40).low, clopper_pearson(30, 40).high)
    clusters = np.repeat(np.arange(10), 4)
    clustered = Resamples(40, clusters=clusters, draws=500).proportion(outcomes).estimate()
    assert clustered.method == "cluster-bootstrap-percentile"
    assert clustered.high - clustered.low > 1.5 * (exact.high - exact.low)
    # no variation at all: resampling would claim certainty
    perfect = Resamples(40, clusters=clusters, draws=200).proportion(np.ones(40)).estimate()
    assert perfect.low == pytest.approx(clopper_pearson(10, 10).low)
    # a cluster per row is no clustering
    assert Resamples(40, clusters=np.arange(40), draws=200).proportion(outcomes).estimate().method == "clopper-pearson"


def test_row_weights_widen_proportions_by_the_effective_number_of_rows() -> None:
    weights = np.where(np.arange(40) % 2, 1.0, 9.0)
    made = Resamples(40, weights=weights, draws=200).proportion(np.tile([1.0, 1.0, 0.0, 0.0], 10)).estimate()
    effective = weights.sum() ** 2 / (weights**2).sum()
    assert made.method == "clopper-pearson-effective-n"
    assert made.low == pytest.approx(clopper_pearson(0.5 * effective, effective).low)
    equal = Resamples(40, weights=np.full(40, 2.5), draws=200).proportion(np.tile([1.0, 0.0], 20)).estimate()
    assert equal.low == pytest.approx(clopper_pearson(20, 40).low)


def test_paired_differences_use_newcombe_and_shared_resamples() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.random(200) < 0.9).astype(float), (rng.random(200) < 0.8).astype(float)
    shared = Resamples(200, draws=400, seed=1)
    made = shared.proportion(first).difference(shared.proportion(second))
    cells = [float((x * y).sum()) for x in (first, 1 - first) for y in (second, 1 - second)]
    assert (made.low, made.high) == pytest.approx((newcombe_paired(*cells).low, newcombe_paired(*cells).high))
    base, noise = rng.normal(size=200), rng.normal(size=200)
    paired = shared.mean(base + 0.01 * noise).difference(shared.mean(base))
    alone = shared.mean(base).estimate()
    assert paired.high - paired.low < 0.05 * (alone.high - alone.low)
    ratio = shared.mean(np.full(200, 3.0)).relative_difference(shared.mean(np.full(200, 2.0)))
    assert (ratio.low, ratio.value, ratio.high) == pytest.approx((0.5, 0.5, 0.5))


def test_too_few_resamples_are_refused() -> None:
    with pytest.raises(InputError, match="100 resamples"):
        Resamples(10, draws=20)


def _coverage_of_exact(p: float, n: int, method: object) -> float:
    """Exact coverage by summing over all outcomes: no simulation error."""
    from scipy.stats import binom

    inside = [m.low <= p <= m.high for m in (method(k, n) for k in range(n + 1))]  # type: ignore[operator]
    return float(binom.pmf(np.arange(n + 1), n, p) @ np.array(inside, dtype=float))


@pytest.mark.parametrize("p", [0.5, 0.8, 0.9, 0.97])
@pytest.mark.parametrize("n", [30, 100, 300])
def test_exact_intervals_cover_at_least_their_level(p: float, n: int) -> None:
    assert _coverage_of_exact(p, n, clopper_pearson) >= 0.95
    if n * (1 - p) >= 3:  # elsewhere the score interval is known to dip
        assert 0.92 <= _coverage_of_exact(p, n, wilson) <= 0.98


def _bootstrap_coverage(n: int, trials: int, draws: int, *, clusters: int | None = None) -> tuple[float, float]:
    rng = np.random.default_rng(7)
    hits, plain = 0, 0
    for trial in range(trials):
        ids = None if clusters is None else np.repeat(np.arange(clusters), n // clusters)
        noise = (
            rng.normal(size=n) if ids is None else np.sqrt(0.5) * (rng.normal(size=clusters)[ids] + rng.normal(size=n))
        )
        quantity = Resamples(n, clusters=ids, draws=draws, seed=trial).mean(noise)
        made = quantity.estimate()
        hits += made.low <= 0 <= made.high
        half = 1.96 * noise.std() / np.sqrt(n)
        plain += abs(noise.mean()) <= half
    return hits / trials, plain / trials


def test_bootstrap_covers_small_samples_and_clusters() -> None:
    covered, _ = _bootstrap_coverage(15, 400, 300)
    assert 0.92 <= covered <= 0.98  # the binomial error of 400 trials is ± 2 %
    covered, ignoring = _bootstrap_coverage(120, 300, 300, clusters=30)
    assert 0.91 <= covered <= 0.98
    assert ignoring < 0.85  # the same rows taken as independent claim far too much


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100, 300])
def test_bootstrap_coverage_within_two_percent(n: int) -> None:
    covered, _ = _bootstrap_coverage(n, 4000, 1000)
    assert 0.93 <= covered <= 0.97
