"""Population stability: by hand, against scipy's divergences, identities, weights, and what it is when nothing shifted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy, ks_2samp
from sklearn.metrics import roc_auc_score

from distillens.metrics import performance
from distillens.metrics.stability import members, one_hot, psi, reference_cuts, score_psi, unshifted


def test_psi_is_the_sum_of_both_divergences() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.integers(1, 90, size=(2, 4, 7)).astype(float)
    for row, found in enumerate(psi(p, q)):
        first, second = ((x[row] + 0.5) / (x[row] + 0.5).sum() for x in (p, q))
        assert found == pytest.approx(entropy(first, second) + entropy(second, first), rel=1e-12)
    np.testing.assert_allclose(psi(p, q), psi(q, p), rtol=1e-12)


def test_psi_by_hand() -> None:
    # 3.5, 1.5 of 5 against 1.5, 3.5 of 5: 2 × 0.4 × ln(7/3)
    assert psi(np.array([[3.0, 1.0]]), np.array([[1.0, 3.0]]))[0] == pytest.approx(0.8 * np.log(7 / 3), rel=1e-12)
    # an empty bin stays finite; a bin that both leave empty changes nothing
    alone = psi(np.array([[4.0, 0.0]]), np.array([[2.0, 2.0]]))
    assert alone[0] == pytest.approx((0.9 - 0.5) * np.log(9 / 5) + (0.1 - 0.5) * np.log(1 / 5), rel=1e-12)
    assert psi(np.array([[4.0, 0.0, 0.0]]), np.array([[2.0, 0.0, 2.0]]))[0] == pytest.approx(alone[0], rel=1e-12)


def test_equal_samples_have_an_index_of_zero_and_none_has_no_index() -> None:
    assert psi(np.array([[3.0, 9.0]]), np.array([[3.0, 9.0]]))[0] == 0
    assert np.isnan(psi(np.array([[0.0, 0.0]]), np.array([[3.0, 9.0]])))[0]


def test_weights_are_relative_to_the_average_row_of_the_sample() -> None:
    p, q = np.array([[30.0, 0.0, 12.0]]), np.array([[5.0, 8.0, 1.0]])
    assert psi(1e6 * p, q, expected_row=1e6)[0] == pytest.approx(psi(p, q)[0], rel=1e-12)


def test_cuts_are_weighted_deciles_of_the_reference() -> None:
    values = np.arange(1.0, 101)
    np.testing.assert_array_equal(reference_cuts(values), [10, 20, 30, 40, 50, 60, 70, 80, 90])
    counts = np.bincount(members(values, reference_cuts(values)), minlength=10)
    np.testing.assert_array_equal(counts, np.full(10, 10))
    weights = np.random.default_rng(1).integers(0, 4, size=100)
    np.testing.assert_array_equal(
        reference_cuts(values, weights.astype(float)), reference_cuts(np.repeat(values, weights))
    )
    np.testing.assert_array_equal(reference_cuts(np.array([0.0] * 99 + [1.0])), [0.0])
    assert not len(reference_cuts(np.full(8, 3.0)))
    assert not len(reference_cuts(np.empty(0)))


def test_missing_values_have_a_bin_of_their_own() -> None:
    np.testing.assert_array_equal(members(np.array([0.5, 1.0, 1.5, np.nan]), np.array([1.0])), [0, 0, 1, 2])


def test_score_psi_on_integer_weights_equals_replicated_rows() -> None:
    rng = np.random.default_rng(2)
    first, second, counts = rng.normal(size=60), rng.normal(0.4, 1, 60), rng.integers(1, 4, size=60)
    cuts = reference_cuts(first)
    weighted = score_psi(first, second, counts[None].astype(float), cuts=cuts)[0]
    masses = [
        np.bincount(members(np.repeat(x, counts), cuts), minlength=len(cuts) + 1).astype(float) for x in (first, second)
    ]
    half = counts.sum() / 60 / 2
    p, q = ((m + half) / (m + half).sum() for m in masses)
    assert weighted == pytest.approx(((q - p) * np.log(q / p)).sum(), rel=1e-12)
    assert score_psi(first, first, counts[None].astype(float), cuts=cuts)[0] == 0


def test_without_a_shift_the_index_passes_the_stated_quantile_in_one_case_of_twenty() -> None:
    rng = np.random.default_rng(3)
    shares = rng.multinomial(400, np.full(10, 0.1), size=4000), rng.multinomial(300, np.full(10, 0.1), size=4000)
    found = psi(*(s.astype(float) for s in shares))
    passed = float((found > unshifted(10, 400, 300)).mean())
    assert 0.035 < passed < 0.065
    assert unshifted(1, 400, 300) == 0
    assert unshifted(10, 400, 300) == pytest.approx(16.918977604620448 * (1 / 400 + 1 / 300), rel=1e-9)


def test_one_hot_is_a_partition() -> None:
    assert (one_hot(np.array([2, 0, 1, 1]), 3).sum(axis=1) == 1).all()


def test_ks_and_gini_are_those_of_scipy_and_scikit_learn_also_with_ties_and_weights() -> None:
    rng = np.random.default_rng(4)
    positive = rng.random(150) < 0.3
    score = np.round(rng.normal(positive * 0.8, 1), 1)
    counts = rng.integers(1, 4, size=150)
    weights = np.stack([np.ones(150), counts.astype(float)])
    ks, gini = performance.kolmogorov_smirnov(score, positive)(weights), performance.gini(score, positive)(weights)
    again, those = np.repeat(score, counts), np.repeat(positive, counts)
    for place, (s, p) in enumerate(((score, positive), (again, those))):
        assert ks[place] == pytest.approx(ks_2samp(s[p], s[~p]).statistic, abs=1e-12)
        assert gini[place] == pytest.approx(2 * roc_auc_score(p, s) - 1, abs=1e-12)
    assert performance.kolmogorov_smirnov(positive.astype(float), positive)(weights)[0] == 1
