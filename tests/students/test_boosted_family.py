"""Boosted trees against scikit-learn itself, to the bit, and what a teacher must be able to do."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import expit, softmax

from distillens.data.base import Column, Split, Table
from distillens.errors import ArtefactError
from distillens.models.boosted import BoostedTrees, Preparation
from distillens.models.store import load_model, save_model
from distillens.students.boosted import BoostedTreesFamily, clearly_lower
from distillens.students.replication import replicate
from distillens.transfer.targets import Targets


def estimator_for(case, preparation, rounds=15):
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    family = HistGradientBoostingClassifier if case.classes else HistGradientBoostingRegressor
    mask = preparation.categorical if preparation.categorical.any() else None
    estimator = family(
        max_iter=rounds, min_samples_leaf=5, categorical_features=mask, early_stopping=False, random_state=0
    )
    return estimator.fit(preparation(case.table.values), case.train.labels)


@pytest.mark.parametrize("rounds", [None, 7])
def test_equals_scikit_learn_to_the_bit(case, rounds, tmp_path):
    preparation = Preparation.fit(case.table)
    estimator = estimator_for(case, preparation, rounds or 15)
    model = BoostedTrees.from_sklearn(
        estimator_for(case, preparation), preparation, classes=case.classes, label="b", rounds=rounds
    )
    save_model(model, tmp_path / "m.safetensors")
    for queried in (model, load_model(tmp_path / "m.safetensors")):
        for table in (case.table, case.odd):
            rows = preparation(table.values)
            if not case.classes:
                np.testing.assert_array_equal(queried(table)[:, 0], estimator.predict(rows))
                continue
            decision = estimator.decision_function(rows)
            np.testing.assert_array_equal(queried.scores(table), decision.reshape(len(table), -1))
            np.testing.assert_allclose(softmax(queried(table), axis=1), estimator.predict_proba(rows), atol=1e-15)
            if len(case.classes) == 2:
                np.testing.assert_array_equal(expit(queried(table)[:, 1] * 2), estimator.predict_proba(rows)[:, 1])


def test_preparation_equals_scikit_learns_own(case):
    """Fitting on raw codes, with scikit-learn's own reordering and remapping, gives the same answers."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    preparation = Preparation.fit(case.table)
    family = HistGradientBoostingClassifier if case.classes else HistGradientBoostingRegressor
    peer = family(max_iter=15, min_samples_leaf=5, categorical_features=[2], early_stopping=False, random_state=0)
    peer.fit(case.table.values, case.train.labels)
    model = BoostedTrees.from_sklearn(estimator_for(case, preparation), preparation, classes=case.classes, label="b")
    known = case.odd.values.copy()
    known[known[:, 3] < 0, 3] = np.nan  # scikit-learn would read −1 of a boolean as a number
    for values in (case.table.values, known):
        expected = peer.decision_function(values) if case.classes else peer.predict(values)
        np.testing.assert_array_equal(model.scores(case.table.with_values(values)), expected.reshape(len(values), -1))


def test_many_rows_in_many_chunks_are_the_same(binary):
    model = BoostedTreesFamily(max_rounds=10, tune=False).fit(
        binary.soft, validation=binary.validation, teacher=None, seed=0
    )
    few = model(binary.table)
    many = model(binary.table.with_values(np.tile(binary.table.values, (50, 1))))
    np.testing.assert_array_equal(many, np.tile(few, (50, 1)))


def test_missing_and_unseen_are_treated_alike(binary):
    model = BoostedTreesFamily(max_rounds=10).fit(binary.soft, validation=binary.validation, teacher=None, seed=0)
    values = np.repeat(binary.table.values[:5], 2, axis=0)
    values[::2, 2:], values[1::2, 2:] = np.nan, -1
    outputs = model(binary.table.with_values(values))
    np.testing.assert_array_equal(outputs[::2], outputs[1::2])


def test_more_categories_than_bins():
    rng = np.random.default_rng(0)
    codes = np.concatenate([np.arange(400), rng.integers(0, 50, 1600)]).astype(float)
    column = Column("city", "categorical", tuple(f"c{i}" for i in range(400)))
    table = Table(codes[:, None], (column,), np.arange(2000))
    y = (codes % 7)[:, None]
    targets = Targets.from_outputs(Split(table), y, output="values", classes=())
    model = BoostedTreesFamily(max_rounds=50, tune=False).fit(targets, validation=Split(table), teacher=None, seed=0)
    assert np.isfinite(model(table)).all()
    frequent = codes < 50
    assert np.corrcoef(model(table)[frequent, 0], y[frequent, 0])[0, 1] > 0.9


def test_another_seed_moves_it_and_all_features_do_not(binary):
    def fit(seed, **settings):
        return BoostedTreesFamily(max_rounds=20, **settings).fit(
            binary.from_labels, validation=binary.validation, teacher=None, seed=seed
        )

    assert fit(0).fingerprint != fit(1).fingerprint
    assert np.abs(fit(0)(binary.table) - fit(1)(binary.table)).max() > 0.01
    assert fit(0, max_features=1.0).fingerprint == fit(1, max_features=1.0).fingerprint


def test_can_fit_its_training_rows_perfectly(case):
    family = BoostedTreesFamily(tune=False, l2=0.0, min_rows=1, max_rounds=200, learning_rate=0.3, max_features=1.0)
    clean = Split(case.clean, case.train.labels)
    model = family.fit(Targets.from_labels(clean, case.classes), validation=case.validation, teacher=None, seed=0)
    outputs = model(case.clean)
    if not case.classes:
        assert np.abs(outputs[:, 0] - clean.labels).max() < 0.01
        return
    p = softmax(outputs, axis=1)
    np.testing.assert_array_equal(p.argmax(axis=1), clean.labels)
    assert p.max(axis=1).min() > 0.99


def test_soft_targets_pull_towards_the_teacher(binary):
    p = softmax(binary.soft.outputs, axis=1)
    model = BoostedTreesFamily(tune=False, max_rounds=150).fit(
        binary.soft, validation=binary.validation, teacher=None, seed=0
    )
    assert np.abs(softmax(model(binary.table), axis=1) - p).mean() < 0.05


def test_tuning_reads_the_validation_rows(binary):
    """Validation labels that contradict the training labels: the fewest rounds are best."""
    against = Split(binary.table, 1 - binary.train.labels)
    tuned = BoostedTreesFamily(max_rounds=40).fit(binary.from_labels, validation=against, teacher=None, seed=0)
    assert tuned.trees == 1
    free = BoostedTreesFamily(max_rounds=40).fit(binary.from_labels, validation=binary.train, teacher=None, seed=0)
    assert free.trees == 40
    assert (
        BoostedTreesFamily(max_rounds=40, tune=False)
        .fit(binary.from_labels, validation=against, teacher=None, seed=0)
        .trees
        == 40
    )


def test_a_larger_shape_must_be_clearly_better():
    base = np.array([1.0, 2.0, 3.0, 4.0])
    assert clearly_lower(base - [0.9, 1.0, 1.1, 1.0], base)
    assert not clearly_lower(base - [4.0, -3.0, 3.0, -3.5], base)
    assert not clearly_lower(base, base)


def test_a_class_without_rows_gets_no_probability(multiclass):
    keep = multiclass.train.labels != 1
    targets = Targets.from_labels(multiclass.train.take(keep), multiclass.classes)
    model = BoostedTreesFamily(max_rounds=20).fit(targets, validation=multiclass.validation, teacher=None, seed=0)
    p = softmax(model(multiclass.table), axis=1)
    assert p.shape == (len(multiclass.table), 3)
    assert p[:, 1].max() < 0.01


def test_replication():
    rows, labels, weights = replicate(np.array([[0.2, 0.8], [1.0, 0.0]]), np.array([1.0, 3.0]))
    np.testing.assert_array_equal(rows, [0, 0, 1, 1])
    np.testing.assert_array_equal(labels, [0, 1, 0, 1])
    np.testing.assert_allclose(weights, [0.2, 0.8, 3.0, 0.0])
    rows, labels, weights = replicate(np.eye(3)[[0, 2]], np.ones(2))
    np.testing.assert_array_equal(labels, [0, 2, 1])
    np.testing.assert_array_equal(weights, [1, 1, 0])


def test_nodes_of_another_version_are_an_error(binary):
    import dataclasses

    model = BoostedTreesFamily(max_rounds=3, tune=False).fit(
        binary.soft, validation=binary.validation, teacher=None, seed=0
    )
    fewer = dataclasses.replace(model, fields={k: v for k, v in model.fields.items() if k != "gain"})
    with pytest.raises(ArtefactError, match="node fields"):
        fewer(binary.table)
    other = dataclasses.replace(model, fields=model.fields | {"left": model.fields["left"].astype(np.float64)})
    with pytest.raises(ArtefactError, match="'left'"):
        other(binary.table)


@pytest.mark.slow
def test_german_credit_is_learnt_as_well_as_it_can_be():
    from sklearn.metrics import roc_auc_score

    from distillens.data.load import load_dataset

    scores = []
    for seed in range(4):
        data = load_dataset(source="german-credit", seed=seed)
        model = BoostedTreesFamily().fit(
            Targets.from_labels(data.train, data.classes), validation=data.validation, teacher=None, seed=0
        )
        scores.append(roc_auc_score(data.test.labels, model.scores(data.test.inputs)[:, 0]))
    assert np.mean(scores) > 0.75


def test_small_tables_are_fitted_with_one_thread_from_the_first_fit_on():
    """A limit that is set before scikit-learn is loaded reaches no OpenMP library: asked in a process of its own."""
    code = (
        "from distillens.students.boosted import SMALL, few_threads\n"
        "with few_threads(SMALL - 1):\n"
        "    from sklearn.utils._openmp_helpers import _openmp_effective_n_threads as threads\n"
        "    few = threads()\n"
        "print(few, threads())\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == ["1", "2"]
