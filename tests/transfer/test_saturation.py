"""The saturation test: it fires for a teacher that knows its rows by heart, and stays silent for honest ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from distillens.data.base import Column, Split, Table
from distillens.errors import DataError, SaturationWarning
from distillens.transfer import saturation as module
from distillens.transfer.saturation import saturation, welch_difference
from distillens.transfer.targets import Targets

CLASSES = ("no", "yes")


@pytest.fixture(scope="session")
def breast_cancer() -> tuple[Split, Split]:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    order = np.random.default_rng(0).permutation(len(data.target))
    columns = tuple(Column(str(name)) for name in data.feature_names)
    rows = Split(Table(data.data[order], columns, order), data.target[order].astype(np.int64))
    return rows.take(np.arange(398)), rows.take(np.arange(398, len(order)))


def test_fires_for_a_boosted_teacher_that_fits_breast_cancer_perfectly(
    breast_cancer: tuple[Split, Split], model_of: Any
) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    train, held_out = breast_cancer
    with threadpool_limits(1):  # its threads wait for each other, for a minute when the cores are busy
        fitted = HistGradientBoostingClassifier(random_state=0).fit(train.inputs.values, train.labels)
    assert (fitted.predict(train.inputs.values) == train.labels).all()
    teacher = model_of(fitted.predict_proba, CLASSES, label="boosted trees")
    report = saturation(teacher, train, held_out, seed=0)
    assert report.saturated
    assert report.in_sample < 0.5 * report.held_out
    assert report.estimate.low > 0
    with pytest.warns(SaturationWarning, match="out_of_fold"):
        report.warn_if_saturated()


def test_a_little_surer_on_training_rows_is_not_saturated(splits: Any, model_of: Any) -> None:
    """With many rows any difference is significant; answers that keep more than half of their entropy still teach."""
    train, held_out = splits(4000, seed=1, classes=2), splits(4000, seed=2, classes=2)
    inside = {row.tobytes() for row in train.inputs.values}

    def surer(values: Any) -> Any:
        p = np.array([0.85 if row.tobytes() in inside else 0.75 for row in values])
        p = p + 0.01 * np.tanh(values[:, 0])
        return np.stack([1 - p, p], axis=1)

    report = saturation(model_of(surer, CLASSES), train, held_out, seed=0)
    assert report.estimate.low > 0.1
    assert 0.5 < report.in_sample / report.held_out < 0.8
    assert not report.saturated


def test_stays_silent_for_a_regularised_linear_teacher(breast_cancer: tuple[Split, Split], model_of: Any) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, held_out = breast_cancer
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(train.inputs.values, train.labels)
    report = saturation(model_of(fitted.predict_proba, CLASSES), train, held_out, seed=0)
    assert not report.saturated
    report.warn_if_saturated()  # warnings are errors here
    assert "usable" in report.text


def test_false_alarms_of_honest_teachers_are_rare(splits: Any, honest: Any, model_of: Any) -> None:
    """The true probabilities know nothing of any row: both sides are draws of one population.

    The full rule hardly ever fires; its first half, the interval above 0, in at most 2.5 % (plus sampling error) of 400.
    """

    def heavy_tailed(values: Any) -> Any:  # nearly always certain, rarely in doubt: the worst case for a mean
        p = np.where(np.abs(values[:, 0]) < 0.1, 0.5, 0.9999)
        return np.stack([1 - p, p], axis=1)

    for teacher in (honest, model_of(heavy_tailed)):
        reports = [
            saturation(teacher, splits(150, seed=2 * s, classes=2), splits(50, seed=2 * s + 1, classes=2), seed=0)
            for s in range(400)
        ]
        assert sum(r.saturated for r in reports) <= 0.05 * 400
        assert sum(r.estimate.low > 0 for r in reports) <= 0.05 * 400
    truly = [
        saturation(honest, splits(150, seed=2 * s, classes=2), splits(50, seed=2 * s + 1, classes=2), seed=0)
        for s in range(400)
    ]
    covered = np.mean([r.estimate.low <= 0 <= r.estimate.high for r in truly])
    assert 0.92 <= covered <= 0.98


def test_memory_of_values_is_seen_in_the_residuals(splits: Any, memory: Any, model_of: Any) -> None:
    train, held_out = splits(150, seed=1, classes=0), splits(60, seed=2, classes=0)
    by_heart = memory.fit(Targets.from_labels(train, ()), validation=train, teacher=None, seed=0)
    report = saturation(by_heart, train, held_out, seed=0)
    assert report.saturated
    assert report.in_sample == 0.0
    assert "residual" in report.text

    fair = model_of(lambda v: 2 * v[:, :1] - v[:, 1:2], (), "values")
    report = saturation(fair, train, held_out, seed=0)
    assert not report.saturated
    assert report.held_out == pytest.approx(
        np.abs(2 * held_out.inputs.values[:, 0] - held_out.inputs.values[:, 1] - held_out.labels).mean()
    )


def test_entropy_is_in_nats_and_knows_logits(splits: Any, model_of: Any) -> None:
    train = splits(40, seed=1, classes=2)
    even = model_of(lambda v: np.zeros((len(v), 2)), CLASSES, "logits")
    report = saturation(even, train, train, seed=0)
    assert report.in_sample == pytest.approx(np.log(2))
    assert (report.estimate.value, report.estimate.low, report.saturated) == (0.0, 0.0, False)


def test_interval_is_welchs() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.exponential(size=31), rng.normal(size=77)
    mine = welch_difference(a, None, b, None, level=0.9)
    peer = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
    assert (mine.low, mine.high) == pytest.approx((peer.low, peer.high), rel=1e-10)
    assert (mine.method, mine.n) == ("welch", 108)


def test_copies_of_rows_do_not_narrow_the_interval_of_groups() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=40), rng.normal(size=50)
    once = welch_difference(a, np.arange(40), b, np.arange(50), level=0.95)
    many = welch_difference(
        np.repeat(a, 5), np.repeat(np.arange(40), 5), np.repeat(b, 5), np.repeat(np.arange(50), 5), level=0.95
    )
    plain = welch_difference(a, None, b, None, level=0.95)
    assert (once.low, once.high) == pytest.approx((plain.low, plain.high))
    assert (many.low, many.high) == pytest.approx((plain.low, plain.high))
    assert (many.n_clusters, many.method) == (90, "welch-clusters")


def test_large_tables_are_sampled_by_the_seed(splits: Any, honest: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROWS", 50)
    train, held_out = splits(200, seed=1, classes=2), splits(200, seed=2, classes=2)
    first, again, other = (saturation(honest, train, held_out, seed=s) for s in (0, 0, 1))
    assert first.estimate == again.estimate
    assert first.estimate != other.estimate
    assert first.estimate.n == 100


def test_too_few_rows_and_missing_labels_are_errors(splits: Any, honest: Any, model_of: Any) -> None:
    train = splits(20, seed=1, classes=2)
    with pytest.raises(DataError, match="at least two"):
        saturation(honest, train, train.take(np.array([0])), seed=0)
    with pytest.raises(DataError, match="no labels"):
        saturation(model_of(lambda v: v[:, :1], (), "values"), replace(train, labels=None), train, seed=0)


def test_report_is_json(splits: Any, honest: Any) -> None:
    record = saturation(honest, splits(20, seed=1, classes=2), splits(20, seed=2, classes=2), seed=0).to_json()
    assert set(record) == {"saturation", "in_sample_entropy", "held_out_entropy", "saturated", "text"}
    assert record["saturated"] is False
