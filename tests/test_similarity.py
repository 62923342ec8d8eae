"""Row-wise formulas against scipy; weightings against replicated rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax

from distillens import similarity


@pytest.fixture
def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(40, 7))
    b = 0.5 * a + rng.normal(size=(40, 7))
    a[:10], b[:10] = np.round(a[:10]), np.round(b[:10])  # ties
    return a, b


@pytest.mark.parametrize(
    ("own", "peer"),
    [
        (similarity.pearson, stats.pearsonr),
        (similarity.spearman, stats.spearmanr),
        (similarity.kendall_tau_b, stats.kendalltau),
    ],
)
def test_row_correlations_equal_scipy(own, peer, pairs) -> None:
    expected = [peer(x, y)[0] for x, y in zip(*pairs, strict=True)]
    np.testing.assert_allclose(own(*pairs), expected, atol=1e-9)


def test_midranks_equal_scipy(pairs) -> None:
    np.testing.assert_array_equal(similarity.midranks(pairs[0]), stats.rankdata(pairs[0], axis=1))
    assert similarity.midranks(np.zeros((3, 0))).shape == (3, 0)


def test_cosine_by_hand() -> None:
    np.testing.assert_allclose(similarity.cosine(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])), 24 / 25)


@pytest.mark.parametrize("own", [similarity.pearson, similarity.spearman, similarity.kendall_tau_b])
def test_a_constant_row_is_nan_and_a_copy_is_one(own, pairs) -> None:
    constant = np.full((1, 7), 0.1)
    assert np.isnan(own(constant, pairs[1][:1])).all()
    np.testing.assert_allclose(own(pairs[0], pairs[0]), 1.0)
    np.testing.assert_allclose(own(pairs[0], -pairs[0]), -1.0)


def test_divergences_equal_scipy() -> None:
    rng = np.random.default_rng(1)
    log_p, log_q = log_softmax(rng.normal(size=(30, 4)), axis=1), log_softmax(rng.normal(size=(30, 4)), axis=1)
    p, q = np.exp(log_p), np.exp(log_q)
    np.testing.assert_allclose(similarity.kl_divergence(log_p, log_q), stats.entropy(p, q, axis=1), atol=1e-9)
    np.testing.assert_allclose(similarity.js_divergence(log_p, log_q), jensenshannon(p, q, axis=1) ** 2, atol=1e-9)
    np.testing.assert_allclose(similarity.total_variation(p, q), np.abs(p - q).sum(axis=1) / 2)
    for of in (similarity.kl_divergence, similarity.js_divergence):
        np.testing.assert_allclose(of(log_p, log_p), 0.0, atol=1e-12)


def test_divergence_of_a_certain_answer_is_finite() -> None:
    certain = np.array([[0.0, -np.inf]])
    np.testing.assert_allclose(similarity.kl_divergence(certain, np.log([[0.5, 0.5]])), np.log(2))
    np.testing.assert_allclose(similarity.js_divergence(certain, np.array([[-np.inf, 0.0]])), np.log(2))


def test_weights_equal_replicated_rows() -> None:
    rng = np.random.default_rng(2)
    x, y = np.round(rng.normal(size=25), 1), rng.normal(size=25)
    counts = rng.multinomial(25, np.full(25, 1 / 25), size=8).astype(float)
    for own, peer in ((similarity.weighted_pearson, stats.pearsonr), (similarity.weighted_spearman, stats.spearmanr)):
        expected = [peer(np.repeat(x, c.astype(int)), np.repeat(y, c.astype(int)))[0] for c in counts]
        np.testing.assert_allclose(own(x, y, counts), expected, atol=1e-9)
    assert np.isnan(similarity.weighted_spearman(np.full(25, 0.3), y, counts)).all()
    assert np.isnan(similarity.weighted_pearson(np.full(25, 0.3), y, counts)).all()
