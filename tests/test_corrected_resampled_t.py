"""The corrected resampled t interval against scipy, and what it is for: coverage where splits share their rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from distillens.errors import InputError
from distillens.intervals import corrected_resampled_t


def test_without_a_test_share_it_is_students_interval() -> None:
    """n_test / n_train → 0 leaves the one-sample t interval, which scipy knows."""
    d = np.random.default_rng(0).normal(0.3, 1.0, size=25)
    expected = stats.ttest_1samp(d, 0.0).confidence_interval(0.9)
    found = corrected_resampled_t(d, train=10**15, test=1, level=0.9)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert (found.n, found.method, found.value) == (25, "corrected-resampled-t", pytest.approx(d.mean()))


def test_by_hand() -> None:
    """d = 1, 2, 3: mean 2, s² = 1, t(2, .975) = 4.302653; n_test / n_train = 1/2 → half width 4.302653 √(1/3 + 1/2)."""
    found = corrected_resampled_t(np.array([1.0, 2.0, 3.0]), train=70, test=35)
    assert found.high - 2 == pytest.approx(4.302652730 * math.sqrt(5 / 6))
    assert 2 - found.low == pytest.approx(found.high - 2)
    lower = corrected_resampled_t(np.array([1.0, 2.0, 3.0]), train=70, test=35, level=0.975, sided="lower")
    assert (lower.low, lower.high) == (pytest.approx(found.low), math.inf)


def test_one_split_has_no_interval_and_bad_input_is_named() -> None:
    assert corrected_resampled_t(np.array([0.1]), train=70, test=30).status == "insufficient"
    with pytest.raises(InputError, match="finite"):
        corrected_resampled_t(np.array([0.1, np.nan]), train=70, test=30)
    with pytest.raises(InputError, match="at least one row"):
        corrected_resampled_t(np.array([0.1, 0.2]), train=0, test=30)


def test_it_covers_where_the_usual_t_does_not() -> None:
    """Differences of two fixed models on random test halves of one sample of 100 rows: their mean is the sample's mean, whose
    error the spread over splits hides. 400 samples, 15 splits each: the corrected interval covers 0 at least 9 times in 10."""
    rng = np.random.default_rng(7)
    corrected = usual = 0
    for _ in range(400):
        sample = rng.normal(size=100)
        d = np.array([rng.permutation(sample)[:30].mean() for _ in range(15)])
        found = corrected_resampled_t(d, train=70, test=30)
        plain = corrected_resampled_t(d, train=10**12, test=1)
        corrected += found.low <= 0 <= found.high
        usual += plain.low <= 0 <= plain.high
    assert corrected / 400 > 0.9
    assert usual / 400 < 0.75
