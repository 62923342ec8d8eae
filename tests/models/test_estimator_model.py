"""Fitted scikit-learn estimators as models."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from distillens.data.base import Column, Table
from distillens.errors import ModelError
from distillens.models.estimator import EstimatorModel, frame_of, is_fitted, text_of_class

COLUMNS = (Column("a"), Column("b"))
RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(60, 2))
TABLE = Table(VALUES, COLUMNS, np.arange(60))
CODES = (VALUES[:, 0] > 0).astype(int) + (VALUES[:, 1] > 0.5)
NAMES = np.array(["low", "mid", "high"])[CODES]


def test_is_fitted():
    assert not is_fitted(LinearRegression())
    assert is_fitted(LinearRegression().fit(VALUES, VALUES[:, 0]))
    with pytest.raises(ModelError, match="not fitted"):
        EstimatorModel(LinearRegression(), COLUMNS, (), "lr")


def test_classes_are_found_by_name():
    fitted = LogisticRegression().fit(VALUES, NAMES)
    model = EstimatorModel(fitted, COLUMNS, ("low", "mid", "high"), "lr")
    own = list(fitted.classes_)
    np.testing.assert_array_equal(model(TABLE), fitted.predict_proba(VALUES)[:, [own.index(c) for c in model.classes]])
    assert model.output == "probabilities"


def test_label_codes_are_classes_by_position():
    fitted = LogisticRegression().fit(VALUES, CODES)
    np.testing.assert_array_equal(
        EstimatorModel(fitted, COLUMNS, ("low", "mid", "high"), "lr")(TABLE), fitted.predict_proba(VALUES)
    )


def test_names_of_classes():
    assert [text_of_class(v) for v in (1.0, np.float64(0), True, "x", 2.5, np.int64(3))] == [
        "1",
        "0",
        "True",
        "x",
        "2.5",
        "3",
    ]


def test_regression():
    fitted = LinearRegression().fit(VALUES, VALUES[:, 0])
    model = EstimatorModel(fitted, COLUMNS, (), "lr")
    np.testing.assert_allclose(model(TABLE), VALUES[:, :1], atol=1e-12)
    assert model.output == "values"


def test_fitted_on_a_frame_it_gets_a_frame_in_its_own_order():
    columns = (
        Column("n"),
        Column("c", "categorical", ("x", "y")),
        Column("flag", "boolean", ("False", "True")),
        Column("bit", "boolean", ("0", "1")),
    )
    values = np.column_stack(
        [RNG.normal(size=80), RNG.integers(0, 2, 80), RNG.integers(0, 2, 80), RNG.integers(0, 2, 80)]
    ).astype(float)
    values[0, 2] = values[1, 3] = values[2, 0] = np.nan
    table = Table(values, columns, np.arange(80))
    frame = frame_of(table)[["c", "bit", "n", "flag"]].astype({"c": "category"})
    fitted = HistGradientBoostingClassifier(max_iter=5, categorical_features="from_dtype").fit(
        frame, values[:, 1].astype(int)
    )
    seen = []

    class Spy:
        """Stands for the estimator and keeps what it is asked."""

        def __getattr__(self, name):
            return getattr(fitted, name)

        def predict_proba(self, rows):
            seen.append(rows)
            return fitted.predict_proba(rows.astype({"c": "category"}))

    model = EstimatorModel(fitted, columns, ("p", "q"), "hgb")
    object.__setattr__(model, "estimator", Spy())
    np.testing.assert_array_equal(model(table), fitted.predict_proba(frame))
    assert list(seen[0].columns) == ["c", "bit", "n", "flag"]
    assert seen[0]["bit"].dtype == float  # numbers again, NaN where missing
    assert np.isnan(seen[0]["bit"].iloc[1])
    whole = frame_of(table.take(np.arange(5, 9)))
    assert whole["flag"].dtype == bool


@pytest.mark.parametrize(
    ("make", "classes", "message"),
    [
        (lambda: LogisticRegression().fit(VALUES, CODES), ("a", "b"), "knows 3 classes"),
        (lambda: LogisticRegression().fit(VALUES, NAMES), ("low", "mid", "hihg"), "Did you mean 'hihg'"),
        (lambda: LinearRegression().fit(VALUES, CODES), ("a", "b", "c"), "not a classifier"),
        (lambda: DummyClassifier().fit(VALUES, CODES), (), "not a regressor"),
        (lambda: LinearSVC().fit(VALUES, CODES), ("a", "b", "c"), "CalibratedClassifierCV"),
        (lambda: LogisticRegression().fit(VALUES[:, :1], CODES), ("a", "b", "c"), "fitted on 1 features"),
        (
            lambda: LogisticRegression().fit(pd.DataFrame(VALUES, columns=["a", "bb"]), CODES),
            ("x", "y", "z"),
            "feature 'bb'",
        ),
    ],
)
def test_what_does_not_fit_is_one_clear_error(make, classes, message):
    with pytest.raises(ModelError, match=message):
        EstimatorModel(make(), COLUMNS, classes, "given")


def test_a_query_that_fails_names_the_estimator():
    model = EstimatorModel(LogisticRegression().fit(VALUES, CODES), COLUMNS, ("x", "y", "z"), "given")
    with pytest.raises(ModelError, match="'given' could not be queried"):
        model(TABLE.with_values(np.full((2, 2), np.nan)))


def test_fingerprint_follows_the_state():
    one, same = (
        EstimatorModel(LogisticRegression().fit(VALUES, CODES), COLUMNS, ("x", "y", "z"), "given") for _ in range(2)
    )
    other = EstimatorModel(LogisticRegression(C=0.1).fit(VALUES, CODES), COLUMNS, ("x", "y", "z"), "given")
    assert one.fingerprint == same.fingerprint != other.fingerprint
    closure = LogisticRegression().fit(VALUES, CODES)
    closure.hook = lambda: None  # cannot be pickled, so cannot be hashed
    assert EstimatorModel(closure, COLUMNS, ("x", "y", "z"), "given").fingerprint is None
