"""The linear student against scikit-learn, closed forms and a teacher it can reproduce."""

import numpy as np
import pytest

from distillens.models.linear import LinearModel
from distillens.students.linear import LinearStudent, least_squares, soft_cross_entropy
from distillens.students.replication import replicate


@pytest.mark.parametrize("classes", [2, 3])
def test_soft_cross_entropy_is_weighted_replication(classes):
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 4))
    p = rng.dirichlet(np.ones(classes), size=150)
    weights = rng.random(150)
    weights /= weights.sum()
    l2 = 0.01
    coefficients, intercepts = soft_cross_entropy(x, p, weights, l2=l2, sign=np.zeros(4))
    rows, labels, w = replicate(p, weights)
    peer = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=5000).fit(x[rows], labels, sample_weight=w)
    np.testing.assert_allclose(coefficients, peer.coef_, atol=2e-5)
    # softmax intercepts are free up to a constant
    np.testing.assert_allclose(
        intercepts - intercepts.mean() * (classes > 2),
        peer.intercept_ - peer.intercept_.mean() * (classes > 2),
        atol=2e-5,
    )


def test_ridge_is_the_closed_form():
    rng = np.random.default_rng(1)
    x, y, w = rng.normal(size=(80, 3)), rng.normal(size=(80, 1)), rng.random(80)
    w /= w.sum()
    beta, intercept = least_squares(x, y, w, l2=0.3, sign=np.zeros(3))
    centred = x - w @ x
    expected = np.linalg.solve(
        centred.T @ (w[:, None] * centred) + 0.3 * np.eye(3), centred.T @ (w * (y[:, 0] - w @ y[:, 0]))
    )
    np.testing.assert_allclose(beta[0], expected, atol=1e-12)
    np.testing.assert_allclose(intercept, w @ y[:, 0] - (w @ x) @ expected, atol=1e-12)


def test_bounded_ridge_meets_the_optimality_conditions():
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(80, 3)), np.full(80, 1 / 80)
    y = x @ np.array([[1.0], [-1.0], [0.5]])
    beta, _ = least_squares(x, y, w, l2=0.0, sign=np.array([1, 1, 0]))
    assert beta[0, 1] == pytest.approx(0, abs=1e-12)
    slope = (w[:, None] * x).T @ ((x - x.mean(0)) @ beta[0] - (y[:, 0] - y.mean()))
    assert abs(slope[0]) < 1e-8
    assert abs(slope[2]) < 1e-8
    assert slope[1] > 0  # pushing the bounded coefficient up would only make it worse


def test_a_linear_teacher_is_reproduced(case):
    teacher = LinearStudent(l2=0.01).fit(case.from_labels, validation=case.validation, teacher=None, seed=0)
    targets = case.targets(case.table, teacher(case.table), teacher.output)
    student = LinearStudent(l2=0.0).fit(targets, validation=case.validation, teacher=teacher, seed=1)
    centre = (lambda z: z - z.mean(axis=1, keepdims=True)) if case.classes else (lambda z: z)
    # An unseen category is all zeros, which no training row is: without a penalty its answer is not determined.
    for table in (case.table, case.odd.take(case.odd.values[:, 2] != -1)):
        np.testing.assert_allclose(centre(student(table)), centre(teacher(table)), atol=2e-3)


def test_contributions_are_shapley_values_of_independent_features():
    """φ of a numeric feature is coefficient × (standardised value − its mean)."""
    from distillens.data.base import Column, Table
    from distillens.models.encoding import Encoding

    values = np.array([[1.0, 10.0], [3.0, 30.0], [5.0, 20.0]])
    table = Table(values, (Column("a"), Column("b")), np.arange(3))
    encoding = Encoding.fit(table)
    model = LinearModel(
        table.columns, (), "m", encoding, np.array([[2.0, -1.0]]), np.array([0.5]), encoding(values).mean(0)
    )
    parts, base = model.contributions(table)
    np.testing.assert_allclose(parts[:, 0, 0], 2.0 * (values[:, 0] - 3) / values[:, 0].std(), atol=1e-12)
    assert base == pytest.approx([0.5])
    per_unit = model.describe()["coefficients"][0]["per_unit"][0]
    assert per_unit == pytest.approx(2.0 / values[:, 0].std())


def test_two_classes_have_opposite_contributions(binary):
    model = LinearStudent().fit(binary.soft, validation=binary.validation, teacher=None, seed=0)
    parts, base = model.contributions(binary.table)
    np.testing.assert_array_equal(parts[..., 0], -parts[..., 1])
    assert base[0] == -base[1]
