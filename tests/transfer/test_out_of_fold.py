"""Out-of-fold targets: the model that answers a row has not seen it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from distillens.data.base import Split
from distillens.errors import DataError, ModelError
from distillens.progress import listening
from distillens.transfer.out_of_fold import fold_of_rows, out_of_fold
from distillens.transfer.targets import Targets

CLASSES = ("no", "yes")


def test_a_memorising_family_is_saturated_in_sample_and_honest_out_of_fold(splits: Any, memory: Any) -> None:
    train, validation = splits(200, seed=1, classes=2), splits(20, seed=2, classes=2)
    fitted = memory.fit(Targets.from_labels(train, CLASSES), validation=validation, teacher=None, seed=0)
    np.testing.assert_array_equal(fitted(train.inputs), np.eye(2)[train.labels])

    targets = out_of_fold(memory, train, validation=validation, classes=CLASSES, folds=5, seed=0)
    assert targets.origin == "out_of_fold"
    share = train.labels.mean()
    np.testing.assert_allclose(targets.outputs[:, 1], share, atol=0.02)  # nobody answered with the row's own label
    np.testing.assert_array_equal(targets.inputs.row_ids, train.inputs.row_ids)
    assert targets.labels is not None
    np.testing.assert_array_equal(targets.labels, train.labels)


def test_every_row_is_answered_by_the_fit_that_left_it_out(splits: Any, memory: Any) -> None:
    """The fits are done again by hand from the folds alone."""
    train = splits(60, seed=3, classes=2)
    fold = fold_of_rows(train, classes=CLASSES, folds=4, seed=9)
    targets = out_of_fold(memory, train, validation=train, classes=CLASSES, folds=4, seed=9)
    for k in range(4):
        model = memory.fit(Targets.from_labels(train.take(fold != k), CLASSES), validation=train, teacher=None, seed=0)
        np.testing.assert_array_equal(targets.outputs[fold == k], model(train.inputs.take(fold == k)))


def test_rows_weights_travel_to_the_fits_and_the_targets(splits: Any, memory: Any) -> None:
    train = replace(splits(40, seed=4, classes=2), weights=np.arange(1.0, 41.0))
    seen: list[float] = []

    class Spy:
        def fit(self, targets: Targets, **rest: Any) -> Any:
            seen.append(float(targets.weights.sum()))
            return memory.fit(targets, **rest)

    targets = out_of_fold(Spy(), train, validation=train, classes=CLASSES, folds=4, seed=0)
    np.testing.assert_array_equal(targets.weights, train.weights)
    assert sum(seen) == pytest.approx(3 * train.weights.sum())


@pytest.mark.parametrize("folds", [2, 5, 7])
def test_folds_keep_the_class_shares(splits: Any, folds: int) -> None:
    train = splits(203, seed=5, classes=3)
    fold = fold_of_rows(train, classes=("a", "b", "c"), folds=folds, seed=0)
    counts = np.array([np.bincount(train.labels[fold == k], minlength=3) for k in range(folds)])
    assert counts.sum() == 203
    assert (counts.max(axis=0) - counts.min(axis=0) <= 1).all()
    assert np.ptp(counts.sum(axis=1)) <= 3


def test_folds_of_values_cover_the_whole_range(splits: Any) -> None:
    train = splits(100, seed=6, classes=0)
    fold = fold_of_rows(train, classes=(), folds=5, seed=0)
    stratum = np.argsort(np.argsort(train.labels)) // 20
    counts = np.array([np.bincount(stratum[fold == k], minlength=5) for k in range(5)])
    np.testing.assert_array_equal(counts, np.full((5, 5), 4))


def test_groups_and_identical_rows_stay_together(splits: Any) -> None:
    train = splits(120, seed=7, classes=2)
    grouped = replace(train, groups=np.random.default_rng(0).integers(0, 30, 120))
    fold = fold_of_rows(grouped, classes=CLASSES, folds=5, seed=1)
    assert all(len(set(fold[grouped.groups == g])) == 1 for g in set(grouped.groups))
    assert np.bincount(fold).min() >= 12

    twice = Split(train.inputs.take(np.repeat(np.arange(60), 2)), np.repeat(train.labels[:60], 2))
    fold = fold_of_rows(twice, classes=CLASSES, folds=5, seed=1)
    np.testing.assert_array_equal(fold[::2], fold[1::2])

    zero = twice.inputs.values.copy()
    zero[:, 0] = 0.0
    zero[::2, 0] = -0.0  # equal to 0, though its bytes differ
    signed = Split(twice.inputs.with_values(zero), twice.labels)
    fold = fold_of_rows(signed, classes=CLASSES, folds=5, seed=1)
    np.testing.assert_array_equal(fold[::2], fold[1::2])


def test_folds_depend_on_the_seed(splits: Any) -> None:
    train = splits(50, seed=8, classes=2)
    first, again, other = (fold_of_rows(train, classes=CLASSES, folds=5, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_regression_and_conversion(splits: Any, least_squares: Any) -> None:
    train = splits(80, seed=9, classes=0)
    targets = out_of_fold(least_squares, train, validation=train, classes=(), folds=4, seed=0)
    assert (targets.output, targets.outputs.shape) == ("values", (80, 1))
    assert np.corrcoef(targets.outputs[:, 0], train.labels)[0, 1] > 0.6

    sorted_ = splits(80, seed=9, classes=2)
    probabilities = out_of_fold(
        least_squares, sorted_, validation=train, classes=CLASSES, folds=4, seed=0, output="probabilities"
    )
    logits = out_of_fold(least_squares, sorted_, validation=train, classes=CLASSES, folds=4, seed=0)
    assert (probabilities.output, logits.output) == ("probabilities", "logits")
    np.testing.assert_allclose(probabilities.outputs, logits.probabilities, rtol=1e-12)


def test_progress_counts_the_folds(splits: Any, memory: Any) -> None:
    seen: list[Any] = []

    class Listener:
        def start(self, label: str, total: int | None, unit: str) -> None:
            seen.append((total, unit))

        def advance(self, key: Any, amount: int) -> None:
            seen.append(amount)

        def stop(self, key: Any) -> None: ...

    with listening(Listener()):
        out_of_fold(
            memory,
            splits(30, seed=1, classes=2),
            validation=splits(5, seed=2, classes=2),
            classes=CLASSES,
            folds=3,
            seed=0,
        )
    assert seen == [(3, "folds"), 1, 1, 1]


def test_what_cannot_be_folded_says_why(splits: Any, memory: Any, model_of: Any) -> None:
    train = splits(30, seed=1, classes=2)
    rare = replace(train, labels=np.where(np.arange(30) == 4, 2, train.labels))
    with pytest.raises(DataError, match="class 'rare'"):
        fold_of_rows(rare, classes=("no", "yes", "rare"), folds=5, seed=0)
    with pytest.raises(DataError, match="there are 3"):
        fold_of_rows(train.take(np.arange(3)), classes=CLASSES, folds=5, seed=0)
    with pytest.raises(DataError, match="at least 2 folds"):
        fold_of_rows(train, classes=CLASSES, folds=1, seed=0)
    with pytest.raises(DataError, match="these rows have none"):
        out_of_fold(memory, replace(train, labels=None), validation=train, classes=CLASSES, seed=0)

    class Reversed:
        def fit(self, targets: Targets, **rest: Any) -> Any:
            return model_of(lambda v: np.full((len(v), 2), 0.5), ("yes", "no"))

    with pytest.raises(ModelError, match="instead of"):
        out_of_fold(Reversed(), train, validation=train, classes=CLASSES, seed=0)
