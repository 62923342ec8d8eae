"""scikit-learn estimators as teachers that can be refitted."""

import numpy as np
import pytest

from distillens.errors import DataError
from distillens.students.estimator import EstimatorFamily


def fit(estimator, targets, case, seed=0, frame=None):
    return EstimatorFamily(estimator, frame).fit(targets, validation=case.validation, teacher=None, seed=seed)


def forest(case, **settings):
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    return (RandomForestClassifier if case.classes else RandomForestRegressor)(n_estimators=20, **settings)


@pytest.mark.parametrize("targets", ["soft", "from_labels"])
def test_refits_by_clone_with_the_seed(case, targets):
    prototype = forest(case)
    one, same, other = (fit(prototype, getattr(case, targets), case, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one(case.table), same(case.table))
    assert np.abs(one(case.table) - other(case.table)).max() > 0
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert not hasattr(prototype, "estimators_")
    assert prototype.random_state is None
    assert one.classes == case.classes


def test_soft_targets_are_replicated(binary):
    from sklearn.tree import DecisionTreeClassifier

    p = binary.soft.probabilities
    model = fit(DecisionTreeClassifier(), binary.soft, binary)
    distinct = len(np.unique(binary.table.values, axis=0)) == len(binary.table)
    assert distinct
    np.testing.assert_allclose(model(binary.table), p, atol=1e-9)


def test_without_weights_soft_targets_are_refused(binary):
    from sklearn.impute import SimpleImputer
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(SimpleImputer(), KNeighborsClassifier())
    with pytest.raises(DataError, match="no sample weights"):
        fit(pipeline, binary.soft, binary)
    assert fit(pipeline, binary.from_labels, binary)(binary.table).shape == (len(binary.table), 2)


def test_weights_reach_the_last_step_of_a_pipeline(binary):
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression())
    model = fit(pipeline, binary.soft, binary)
    assert (model(binary.table).argmax(axis=1) == binary.soft.outputs.argmax(axis=1)).mean() > 0.8


def test_frames_with_hostile_names(binary):
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["目的", "owns 'phone'"]), remainder="passthrough"
    )
    pipeline = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=10))
    first = fit(pipeline, binary.from_labels, binary, frame=True)
    assert first.names == binary.table.names
    again = EstimatorFamily(first.estimator).fit(
        binary.soft, validation=binary.validation, teacher=None, seed=0
    )  # remembers to use frames
    for model in (first, again):
        assert np.isfinite(model(binary.odd)).all()


def test_classes_whose_names_are_numbers_in_another_order(binary):
    from distillens.data.base import Split
    from distillens.transfer.targets import Targets

    turned = Targets.from_labels(Split(binary.table, 1 - binary.train.labels), ("1", "0"))
    model = fit(forest(binary), turned, binary)
    assert model.classes == ("1", "0")
    assert (model(binary.table).argmax(axis=1) == 1 - binary.train.labels).mean() > 0.9
