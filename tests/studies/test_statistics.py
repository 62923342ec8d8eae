"""Differences over seeds and rows: against hand computation, against another derivation, and by simulation of what they promise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from distillens.errors import InputError
from distillens.studies.statistics import compare, crossed_t, holm, mean_squares

RNG = np.random.default_rng


def test_mean_squares_are_those_of_sums_of_squares_written_out() -> None:
    d = RNG(0).normal(size=(4, 7)) + np.arange(4)[:, None] + 0.3 * np.arange(7)
    total = ((d - d.mean()) ** 2).sum()
    seed = sum(7 * (d[s].mean() - d.mean()) ** 2 for s in range(4))
    row = sum(4 * (d[:, r].mean() - d.mean()) ** 2 for r in range(7))
    expected = (seed / 3, row / 6, (total - seed - row) / 18)
    np.testing.assert_allclose(mean_squares(d), expected, rtol=1e-12)


def test_a_table_worked_by_hand() -> None:
    # Means of seeds 2 and 4, of rows 2, 3, 4, mean 3: MS_seed = 3·(1 + 1)/1 = 6, MS_row = 2·(1 + 0 + 1)/2 = 2, errors 0, 0, 0.
    d = np.array([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])
    estimate, df, p = crossed_t(d)
    assert df == pytest.approx((6 + 2) ** 2 / (6**2 / 1))
    assert estimate.value == 3.0
    deviation = math.sqrt((6 + 2) / 6)
    quantile = stats.t.ppf(0.975, df)
    assert estimate.low == pytest.approx(3 - quantile * deviation)
    assert estimate.high == pytest.approx(3 + quantile * deviation)
    assert p == pytest.approx(2 * stats.t.sf(3 / deviation, df))


def test_without_variation_between_rows_it_is_the_paired_t_test_of_seeds() -> None:
    by_seed = RNG(1).normal(0.3, 1.0, size=6)
    d = np.repeat(by_seed[:, None], 50, axis=1)
    estimate, df, p = crossed_t(d)
    peer = stats.ttest_1samp(by_seed, 0.0)
    assert df == pytest.approx(5)
    assert p == pytest.approx(peer.pvalue)
    low, high = peer.confidence_interval(0.95)
    assert (estimate.low, estimate.high) == (pytest.approx(low), pytest.approx(high))


def test_seeds_that_do_not_differ_leave_the_t_test_of_rows() -> None:
    by_row = RNG(2).normal(0.1, 1.0, size=80)
    estimate, df, p = crossed_t(np.repeat(by_row[None], 3, axis=0))
    peer = stats.ttest_1samp(by_row, 0.0)
    assert df == pytest.approx(79)
    assert p == pytest.approx(peer.pvalue)
    assert estimate.low == pytest.approx(peer.confidence_interval(0.95).low)


def test_mechanisms_that_never_differ_and_tables_that_say_nothing() -> None:
    estimate, _, p = crossed_t(np.zeros((3, 5)))
    assert (estimate.value, estimate.low, estimate.high, p) == (0.0, 0.0, 0.0, 1.0)
    for table in (np.ones((3, 5)), RNG(0).normal(size=(1, 5)), RNG(0).normal(size=(3, 1)), np.zeros((0, 5))):
        estimate, df, p = crossed_t(table)
        assert estimate.status == "insufficient"
        assert math.isnan(df)
        assert math.isnan(p)
    for wrong in (np.array([[1.0, math.nan]]), np.ones(3), np.array([[math.inf, 1.0], [1.0, 1.0]])):
        with pytest.raises(InputError, match="finite numbers by seed and row"):
            crossed_t(wrong)


def classified(seeds: int, rows: int, *, gain: float, run: int, between: float = 0.25) -> Any:
    """(S, R) differences of correctness of two students: rows are easy or hard for both, a seed is good or bad for each on its own.

    gain: of the second student's log-odds. Their truth is the mean over seeds and rows drawn anew.
    """
    rng = RNG([run, 77])
    easy = rng.normal(1.5, 1.5, size=(1, rows))
    both = rng.normal(0, between, size=(seeds, 1))
    right = []
    for shift in (0.0, gain):
        own_seed, own_row = rng.normal(0, between, size=(seeds, 1)), rng.normal(0, 0.4, size=(1, rows))
        logit = easy + both + shift + own_seed + own_row
        right.append(rng.random((seeds, rows)) < 1 / (1 + np.exp(-logit)))
    return right[1].astype(float) - right[0].astype(float)


def truth(gain: float) -> float:
    """E[σ(1.5 + gain + z·sd) − σ(1.5 + z·sd)], all normal terms together, by quadrature."""
    deviation = math.sqrt(1.5**2 + 2 * 0.25**2 + 0.4**2)
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    worse, better = (1 / (1 + np.exp(-(1.5 + shift + deviation * points))) for shift in (0.0, gain))
    return float((weights / weights.sum()) @ (better - worse))


def test_false_alarms_and_coverage_are_as_promised_with_five_seeds() -> None:
    runs = 1500
    for gain, seeds in ((0.0, 5), (0.4, 5), (0.0, 3)):
        expected = truth(gain)
        covered = [e.low <= expected <= e.high for e, _, _ in (crossed_t(classified(seeds, 400, gain=gain, run=r)) for r in range(runs))]  # fmt: skip
        # Four standard errors of a share of 0.95 in 1,500 runs are 0.0225.
        assert abs(np.mean(covered) - 0.95) < 0.0225, (gain, seeds, np.mean(covered))


def test_tests_that_forget_seeds_or_rows_are_wrong_here() -> None:
    """Why neither shortcut is used: the trained models as the only ones there are, or the test rows as the only ones."""
    by_rows = [
        stats.ttest_1samp(classified(5, 400, gain=0.0, run=r).mean(axis=0), 0.0).pvalue < 0.05 for r in range(400)
    ]
    assert np.mean(by_rows) > 0.12
    rng = RNG(9)
    few_rows = [
        rng.normal(0, 0.1, (5, 1)) + rng.normal(0, 1, (1, 40)) + rng.normal(0, 0.2, (5, 40)) for _ in range(400)
    ]
    by_seeds = [stats.ttest_1samp(d.mean(axis=1), 0.0).pvalue < 0.05 for d in few_rows]
    both = [crossed_t(d)[2] < 0.05 for d in few_rows]
    assert np.mean(by_seeds) > 0.2
    assert np.mean(both) < 0.085


def test_power_grows_with_the_gain() -> None:
    found = [
        np.mean([crossed_t(classified(5, 400, gain=g, run=r))[2] < 0.05 for r in range(200)]) for g in (0.0, 0.5, 1.0)
    ]
    assert found[0] < 0.1 < 0.2 < found[1] < found[2]
    assert found[2] > 0.8


def test_holm_is_the_procedure_worked_by_hand() -> None:
    # Holm's steps for four: 4·0.005, 3·0.01, 2·0.03, 1·0.04 → 0.02, 0.03, 0.06, and never below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    got = holm([0.01, math.nan, 0.02])
    assert got[0] == pytest.approx(0.03)
    assert got[2] == pytest.approx(0.04)
    assert math.isnan(got[1])


def test_holm_rejects_what_stepping_down_rejects() -> None:
    def steps(p: Any, alpha: float) -> list[bool]:
        rejected = [False] * len(p)
        for k, index in enumerate(np.argsort(p)):
            if p[index] > alpha / (len(p) - k):
                break
            rejected[index] = True
        return rejected

    rng = RNG(4)
    for _ in range(200):
        p = rng.beta(0.3, 2, size=rng.integers(1, 9))
        for alpha in (0.01, 0.05, 0.2):
            assert [value <= alpha for value in holm(p)] == steps(p, alpha)


def test_holm_keeps_the_family_error() -> None:
    wrong = 0
    for run in range(300):
        tables = {"labels": RNG([run, 0]).normal(size=(5, 60)) + RNG([run, 50]).normal(size=(5, 1)) * 0.2}
        for k in range(1, 8):
            tables[f"m{k}"] = RNG([run, k]).normal(size=(5, 60)) + RNG([run, 50 + k]).normal(size=(5, 1)) * 0.2
        wrong += any(d.p_holm < 0.05 for d in compare(tables, "labels", "accuracy"))
    assert wrong / 300 < 0.09


def test_compare_says_who_is_ahead_and_leaves_out_rows_that_somebody_lacks() -> None:
    rng = RNG(3)
    base = rng.normal(size=(5, 60))
    better = base + 0.5 + 0.01 * rng.normal(size=(5, 60))
    better[:, 7] = math.nan
    same = base + 0.001 * rng.normal(size=(5, 60))
    found = {
        d.mechanism: d
        for d in compare({"labels": base, "a": better, "b": same}, "labels", "accuracy", equivalence=0.05)
    }
    assert set(found) == {"a", "b"}
    assert found["a"].estimate.value == pytest.approx(0.5, abs=0.01)
    assert found["a"].estimate.n == 5 * 59
    assert (found["a"].wins, found["a"].seeds, found["a"].equivalent, found["b"].equivalent) == (5, 5, False, True)
    assert found["a"].p_holm < 1e-6
    assert found["a"].p_holm == pytest.approx(2 * found["a"].p)
    flipped = compare({"a": better, "labels": base}, "a", "accuracy")[0]
    assert flipped.estimate.value == pytest.approx(-found["a"].estimate.value)
