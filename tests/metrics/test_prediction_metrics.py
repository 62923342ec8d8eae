"""Metrics of prediction, performance and calibration against scikit-learn; weights against replicated rows."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from distillens.metrics import calibration, performance, prediction
from distillens.metrics.base import METRICS
from distillens.named import load_object

N = 80


@pytest.fixture
def rows() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    positive = rng.random(N) < 0.4
    score = np.round(rng.normal(size=N) + positive, 1)  # ties
    counts = rng.multinomial(N, np.full(N, 1 / N), size=6).astype(float)
    return {"positive": positive, "score": score, "counts": counts, "other": np.round(score + rng.normal(size=N), 1)}


def repeated(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.repeat(values, counts.astype(int), axis=0)


@pytest.mark.parametrize(
    ("own", "peer"),
    [
        (performance.roc_auc, sk.roc_auc_score),
        (performance.average_precision, sk.average_precision_score),
        (performance.gini, lambda y, s: 2 * sk.roc_auc_score(y, s) - 1),
        (performance.kolmogorov_smirnov, lambda y, s: stats.ks_2samp(s[y], s[~y]).statistic),
    ],
)
def test_ranking_metrics_equal_peers_on_every_resample(own, peer, rows) -> None:
    made = own(rows["score"], rows["positive"])(rows["counts"])
    expected = [peer(repeated(rows["positive"], c), repeated(rows["score"], c)) for c in rows["counts"]]
    np.testing.assert_allclose(made, expected, atol=1e-9)


def test_fractional_weights_equal_scikit_learn(rows) -> None:
    weights = np.random.default_rng(1).random((1, N))
    auc = performance.roc_auc(rows["score"], rows["positive"])(weights)[0]
    assert auc == pytest.approx(sk.roc_auc_score(rows["positive"], rows["score"], sample_weight=weights[0]), abs=1e-9)


def test_ranking_metrics_without_both_classes_are_nan(rows) -> None:
    for of in (performance.roc_auc, performance.average_precision, performance.kolmogorov_smirnov):
        assert np.isnan(of(rows["score"], np.zeros(N, dtype=bool))(rows["counts"])).all()


def test_kappa_and_error_copies_equal_peers(rows) -> None:
    first, second = (rows["score"] > 0.3).astype(np.int64), (rows["other"] > 0.3).astype(np.int64)
    expected = [sk.cohen_kappa_score(repeated(first, c), repeated(second, c)) for c in rows["counts"]]
    np.testing.assert_allclose(prediction.cohen_kappa(first, second, rows["counts"]), expected, atol=1e-9)
    wrong_t, wrong_s = first != rows["positive"], second != rows["positive"]
    made = prediction.error_copy_ratio(wrong_t, wrong_s, rows["counts"])
    by_hand = [repeated(wrong_s[wrong_t], c[wrong_t]).mean() / repeated(wrong_s, c).mean() for c in rows["counts"]]
    np.testing.assert_allclose(made, by_hand, atol=1e-9)
    one_class = np.zeros(N, dtype=np.int64)
    assert np.isnan(prediction.cohen_kappa(one_class, one_class, rows["counts"])).all()
    np.testing.assert_allclose(prediction.cohen_kappa(first, one_class, rows["counts"]), 0.0, atol=1e-12)
    np.testing.assert_allclose(prediction.cohen_kappa(first, first, rows["counts"]), 1.0)


def test_regression_metrics_equal_scikit_learn(rows) -> None:
    truth, values = rows["score"], rows["other"]
    for c, r2, rmse in zip(rows["counts"], prediction.r2_to_teacher(truth, values, rows["counts"]),
                           prediction.rmse(truth, values, rows["counts"]), strict=True):  # fmt: skip
        y, p = repeated(truth, c), repeated(values, c)
        assert r2 == pytest.approx(sk.r2_score(y, p), abs=1e-9)
        assert rmse == pytest.approx(sk.root_mean_squared_error(y, p), abs=1e-9)
    assert np.isnan(prediction.r2_to_teacher(np.full(N, 3.3), values, rows["counts"])).all()
    np.testing.assert_array_equal(prediction.within(np.array([0.0, 1.0]), np.array([0.5, 1.6]), 0.5), [1.0, 0.0])


def test_flips_by_hand() -> None:
    good, bad = prediction.flips(np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))
    np.testing.assert_array_equal(good, [0, 1, 0, 0])
    np.testing.assert_array_equal(bad, [0, 0, 0, 1])


def test_agreement_outside_its_rows_is_nan() -> None:
    made = prediction.agrees(np.array([0, 1, 1]), np.array([0, 1, 0]), within=np.array([False, True, True]))
    np.testing.assert_array_equal(made, [np.nan, 1, 0])


def test_calibration_equals_logistic_regression_on_every_resample(rows) -> None:
    slope = calibration.calibration_slope(rows["score"], rows["positive"])(rows["counts"])
    for c, own in zip(rows["counts"], slope, strict=True):
        peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        peer.fit(repeated(rows["score"], c)[:, None], repeated(rows["positive"], c))
        assert own == pytest.approx(peer.coef_[0, 0], abs=1e-5)
    # calibration in the large: the mean probability after the shift is the observed frequency
    shift = calibration.calibration_intercept(rows["score"], rows["positive"])(rows["counts"])
    p = 1 / (1 + np.exp(-(rows["score"] + shift[:, None])))
    np.testing.assert_allclose((rows["counts"] * p).sum(axis=1), rows["counts"] @ rows["positive"], atol=1e-9)


def test_calibration_of_a_model_that_is_certain_and_often_wrong() -> None:
    """Leaves that say 0 or 1 have log-odds of ±13.8; Newton's method from a slope of 1 overshoots there."""
    rng = np.random.default_rng(5)
    score = np.where(rng.random(300) < 0.4, np.log(1e6 - 1) * rng.choice([-1, 1], 300), rng.normal(size=300))
    positive = rng.random(300) < 1 / (1 + np.exp(-0.1 * score))
    counts = np.concatenate([np.ones((1, 300)), rng.multinomial(300, np.full(300, 1 / 300), size=5)])
    slope = calibration.calibration_slope(score, positive)(counts)
    for c, own in zip(counts, slope, strict=True):
        peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        peer.fit(score[:, None], positive, sample_weight=c)
        assert own == pytest.approx(peer.coef_[0, 0], abs=1e-5)


def test_calibration_of_separated_classes_is_nan() -> None:
    score = np.array([-2.0, -1.0, 1.0, 2.0])
    assert np.isnan(calibration.calibration_slope(score, score > 0)(np.ones((1, 4)))[0])
    assert np.isnan(calibration.calibration_slope(np.full(4, 0.3), score > 0)(np.ones((1, 4)))[0])


def test_brier_and_log_loss_equal_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    p = rng.dirichlet([1, 2, 3], size=50)
    y = rng.integers(0, 3, 50)
    assert performance.log_loss(np.log(p), y).mean() == pytest.approx(sk.log_loss(y, p), abs=1e-9)
    assert calibration.brier(p, y).mean() == pytest.approx(((p - np.eye(3)[y]) ** 2).sum(axis=1).mean(), abs=1e-9)
    two = np.stack([1 - p[:, 0], p[:, 0]], axis=1)
    assert calibration.brier(two, y % 2).mean() == pytest.approx(sk.brier_score_loss(y % 2, p[:, 0]), abs=1e-9)


def test_net_benefit_by_hand() -> None:
    decided, positive = np.array([True, True, False, True]), np.array([True, False, True, True])
    assert calibration.net_benefit(decided, positive, 0.2).mean() == pytest.approx(2 / 4 - 1 / 4 * 0.25)


def test_reliability_bins_and_debiased_ece() -> None:
    rng = np.random.default_rng(4)
    values = []
    for _ in range(200):
        p = rng.random(300)
        bins = calibration.equal_mass_bins(p)
        assert bins.number == 10
        assert np.bincount(bins.members).tolist() == [30] * 10
        y = rng.random(300) < p
        values.append(calibration.ece(p, y, bins)(np.ones((1, 300)))[0] ** 2)
        plain = sum(
            b["n"] / 300 * (b["mean"] - b["observed"]) ** 2 for b in calibration.reliability(p, y, np.ones(300), bins)
        )
    assert plain > 0.002  # a calibrated model looks miscalibrated without the correction …
    assert np.mean(values) < 0.0025  # … and mostly not with it (the floor at 0 leaves a little)
    off = rng.random(20_000) < 0.5
    constant = np.full(20_000, 0.8)
    assert calibration.ece(constant, off, calibration.equal_mass_bins(constant))(np.ones((1, 20_000)))[
        0
    ] == pytest.approx(0.3, abs=0.02)


def test_every_metric_names_real_code() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name
        assert callable(load_object(metric.path))
        assert metric.text
        assert metric.tasks


def test_listing_metrics_and_gates_imports_nothing_heavy() -> None:
    code = (
        "import sys; from distillens.metrics.base import METRICS; from distillens.audit.gates import PROFILES, check_gates; "
        "print(sorted({'numpy', 'torch', 'sklearn', 'pandas', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
