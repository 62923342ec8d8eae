"""The influence self-test: a student that ignores its teacher fails, every other one passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from distillens.errors import DataError, InputError, NoInfluenceError
from distillens.models.base import Decision
from distillens.transfer.influence import THRESHOLD, Influence, check_influence, influence, permuted
from distillens.transfer.rows.queries import with_queries
from distillens.transfer.targets import Targets

CLASSES = ("no", "yes")


def test_permuting_deals_out_the_answers_and_nothing_else(splits: Any, honest: Any) -> None:
    train = splits(50, seed=1, classes=2)
    targets = with_queries(
        Targets.from_outputs(train, honest(train.inputs), output="probabilities", classes=CLASSES),
        honest,
        per_row=1,
        seed=0,
    )
    mixed = permuted(targets, 0)
    assert not np.array_equal(mixed.outputs, targets.outputs)
    np.testing.assert_array_equal(np.sort(mixed.outputs[:, 1]), np.sort(targets.outputs[:, 1]))
    crossed = ~np.isin(mixed.outputs[50:, 1], targets.outputs[50:, 1])
    assert crossed.any()  # queries got answers of training rows
    for name in ("inputs", "labels", "weights", "is_query"):
        assert getattr(mixed, name) is getattr(targets, name)
    np.testing.assert_array_equal(permuted(targets, 0).outputs, mixed.outputs)
    assert not np.array_equal(permuted(targets, 1).outputs, mixed.outputs)
    with pytest.raises(DataError, match="no teacher"):
        permuted(Targets.from_labels(train, CLASSES), 0)


def test_a_student_that_follows_its_teacher_passes(splits: Any, honest: Any, least_squares: Any) -> None:
    train, rows = splits(200, seed=1, classes=2), splits(100, seed=2, classes=2).inputs
    targets = Targets.from_outputs(train, honest(train.inputs), output="probabilities", classes=CLASSES)
    fits = [least_squares.fit(t, validation=train, teacher=honest, seed=0) for t in (targets, permuted(targets, 0))]
    measured = influence(*fits, honest, rows, Decision(1))
    check_influence(measured)
    assert measured.agreement > 0.97
    assert measured.permuted_agreement < 0.75
    assert measured.relative > 0.5
    p, q = (fit(rows)[:, 1] - fit(rows)[:, 0] for fit in fits)
    assert measured.change == pytest.approx(np.abs(1 / (1 + np.exp(-p)) - 1 / (1 + np.exp(-q))).mean())


def test_a_student_that_ignores_its_teacher_fails(splits: Any, honest: Any, least_squares: Any) -> None:
    train, rows = splits(200, seed=1, classes=2), splits(100, seed=2, classes=2).inputs

    class Deaf:
        def fit(self, targets: Targets, **rest: Any) -> Any:
            return least_squares.fit(Targets.from_labels(train, CLASSES), **rest)

    targets = Targets.from_outputs(train, honest(train.inputs), output="probabilities", classes=CLASSES)
    fits = [Deaf().fit(t, validation=train, teacher=honest, seed=0) for t in (targets, permuted(targets, 0))]
    measured = influence(*fits, honest, rows, Decision(1))
    assert measured.change == 0.0
    assert measured.agreement > 0.8  # agreeing alone proves nothing
    with pytest.raises(NoInfluenceError, match="'small' ignores its teacher"):
        check_influence(measured, student="small")


def test_a_network_with_all_its_weight_on_the_labels_fails_and_a_usual_one_passes(splits: Any, honest: Any) -> None:
    from distillens.students.network import NetworkStudent

    train, validation = splits(150, seed=1, classes=2), splits(60, seed=2, classes=2)
    targets = Targets.from_outputs(train, honest(train.inputs), output="probabilities", classes=CLASSES)

    def measure(task_weight: float, weight: float) -> Influence:
        student = NetworkStudent(task_weight=task_weight, objectives=({"kind": "kd", "weight": weight},), epochs=15)
        fits = [student.fit(t, validation=validation, teacher=honest, seed=0) for t in (targets, permuted(targets, 0))]
        return influence(*fits, honest, validation.inputs, Decision(1))

    deaf = measure(1.0, 0.0)
    assert deaf.change == 0.0
    with pytest.raises(NoInfluenceError):
        check_influence(deaf)
    usual = measure(0.5, 0.5)
    check_influence(usual)
    assert usual.relative > 8 * THRESHOLD
    whisper = measure(0.5, 1e-7)  # not 0: training amplifies the smallest difference
    with pytest.raises(NoInfluenceError):
        check_influence(whisper)


def test_regression_is_measured_in_the_teachers_standard_deviations(splits: Any, model_of: Any) -> None:
    rows = splits(400, seed=1, classes=0).inputs
    teacher = model_of(lambda v: 10 * v[:, :1] + 50, (), "values")
    student = model_of(lambda v: 10 * v[:, :1] + 52, (), "values")
    other = model_of(lambda v: 10 * v[:, :1] + 47, (), "values")
    measured = influence(student, other, teacher, rows, None)
    spread = teacher(rows).std()
    assert measured.change == pytest.approx(5 / spread)
    assert measured.agreement == pytest.approx(1 - (2 / spread) ** 2)
    assert measured.permuted_agreement == pytest.approx(1 - (3 / spread) ** 2)
    assert measured.answers_change == pytest.approx(np.sqrt(2), rel=0.1)  # of independent draws
    check_influence(measured)


def test_classes_are_decided_by_the_decision_or_the_top_class(splits: Any, model_of: Any) -> None:
    rows = splits(50, seed=1, classes=2).inputs

    def fixed(p: float) -> Any:
        return model_of(lambda v: np.column_stack([np.full(len(v), 1 - p), np.full(len(v), p)]), CLASSES)

    spread = model_of(lambda v: np.column_stack([1 - (v[:, 0] > 0), v[:, 0] > 0]).astype(float), CLASSES)
    low = influence(fixed(0.3), fixed(0.6), spread, rows, Decision(1, threshold=0.2))
    assert low.agreement == low.permuted_agreement  # both say yes at a threshold of 0.2
    top = influence(fixed(0.3), fixed(0.6), spread, rows, None)
    assert top.agreement == pytest.approx(1 - top.permuted_agreement)
    assert top.change == pytest.approx(0.3)


def test_a_teacher_without_an_opinion_is_named(splits: Any, model_of: Any) -> None:
    rows = splits(20, seed=1, classes=2).inputs
    even = model_of(lambda v: np.full((len(v), 2), 0.5), CLASSES)
    with pytest.raises(NoInfluenceError, match="same answer for every row"):
        check_influence(influence(even, even, even, rows, None))
    flat = model_of(lambda v: np.ones((len(v), 1)), (), "values")
    with pytest.raises(NoInfluenceError, match="same answer for every row"):
        check_influence(influence(flat, flat, flat, rows, None))
    with pytest.raises(InputError, match="two rows"):
        influence(even, even, even, rows.take(np.array([0])), None)


def test_threshold_is_a_share_of_what_the_answers_changed_by() -> None:
    check_influence(Influence(0.0031, 0.1, 0.9, 0.5))
    with pytest.raises(NoInfluenceError, match=r"2\.90%"):
        check_influence(Influence(0.0029, 0.1, 0.9, 0.5))


def test_influence_is_json() -> None:
    assert set(Influence(0.1, 0.4, 0.9, 0.5).to_json()) == {
        "change",
        "answers_change",
        "agreement",
        "permuted_agreement",
    }
