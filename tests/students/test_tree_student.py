"""The tree student against Gini on replicated rows, scikit-learn's own predictions, and a teacher it can reproduce."""

import numpy as np
import pytest

from distillens.data.base import Column, Split, Table
from distillens.models.encoding import Encoding
from distillens.models.tree import float32_floor
from distillens.students.replication import replicate
from distillens.students.tree import TreeStudent
from distillens.transfer.targets import Targets


def numeric(values, outputs, classes, output="probabilities"):
    columns = tuple(Column(f"x{j}") for j in range(values.shape[1]))
    table = Table(values, columns, np.arange(len(values)))
    return table, Targets.from_outputs(Split(table), outputs, output=output, classes=classes)


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")])
def test_equals_gini_on_weighted_replication(classes):
    from sklearn.tree import DecisionTreeClassifier

    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 3)).astype(np.float32).astype(float)
    p = rng.dirichlet(np.ones(len(classes)), size=200)
    p[:, 0] = np.clip(p[:, 0] + (values[:, 0] > 0.3) * 2 + (values[:, 1] > 0), 0, None)
    p /= p.sum(axis=1, keepdims=True)
    table, targets = numeric(values, p, classes)
    model = TreeStudent(max_leaves=6, min_rows=1).fit(targets, validation=Split(table), teacher=None, seed=0)
    rows, labels, weights = replicate(p, np.ones(200))
    peer = DecisionTreeClassifier(max_leaf_nodes=6, random_state=0).fit(values[rows], labels, sample_weight=weights)
    np.testing.assert_allclose(model(table), peer.predict_proba(values), atol=1e-9)
    assert model.leaves == 6


def test_predicts_what_scikit_learn_predicts_with_missing_numbers():
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(1)
    values = rng.normal(size=(300, 3))
    values[rng.random((300, 3)) < 0.1] = np.nan
    y = np.where(np.isnan(values[:, 0]), 2.0, values[:, 0]) + np.nan_to_num(values[:, 1]) ** 2
    table, targets = numeric(values, y[:, None], (), "values")
    model = TreeStudent(max_leaves=20).fit(targets, validation=Split(table), teacher=None, seed=0)
    peer = DecisionTreeRegressor(max_leaf_nodes=20, min_samples_leaf=5, random_state=0).fit(
        values.astype(np.float32), y
    )
    fresh = rng.normal(size=(2000, 3))
    fresh[rng.random((2000, 3)) < 0.2] = np.nan
    np.testing.assert_array_equal(model(table.with_values(fresh))[:, 0], peer.predict(fresh.astype(np.float32)))
    assert model.depth == peer.get_depth()


def test_rounded_thresholds_flip_no_row():
    rng = np.random.default_rng(2)
    thresholds = np.concatenate([rng.normal(size=500), rng.normal(size=500).astype(np.float32).astype(float)])
    floors = float32_floor(thresholds)
    np.testing.assert_array_equal(floors, floors.astype(np.float32))
    for nudge in (-np.inf, np.inf):
        x = np.nextafter(thresholds.astype(np.float32), np.float32(nudge)).astype(float)
        np.testing.assert_array_equal(x <= thresholds, x <= floors)
    near = thresholds.astype(np.float32).astype(float)
    np.testing.assert_array_equal(near <= thresholds, near <= floors)


def test_a_tree_teacher_is_reproduced(case):
    teacher = TreeStudent(max_leaves=6, min_rows=1).fit(
        case.from_labels, validation=case.validation, teacher=None, seed=0
    )
    targets = case.targets(case.table, teacher(case.table), teacher.output)
    student = TreeStudent(max_leaves=40, min_rows=1).fit(targets, validation=case.validation, teacher=teacher, seed=3)
    np.testing.assert_allclose(student(case.table), teacher(case.table), atol=1e-12)


def test_path_contributions_by_hand():
    values = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    table, targets = numeric(values, np.array([[0.0], [0.0], [2.0], [6.0]]), (), "values")
    model = TreeStudent(max_leaves=3, min_rows=1).fit(targets, validation=Split(table), teacher=None, seed=0)
    parts, base = model.contributions(table)
    assert base == pytest.approx([2.0])
    np.testing.assert_allclose(parts[:, :, 0], [[-2, 0], [-2, 0], [2, -2], [2, 2]], atol=1e-12)


def test_rules_are_readable_and_true(case):
    model = TreeStudent(max_leaves=10, min_rows=2).fit(
        case.from_labels, validation=case.validation, teacher=None, seed=0
    )
    names = [column.name for column in case.table.columns]

    def walk(node, row):
        if "condition" not in node:
            return node["value"]
        text = node["condition"]
        feature = node["feature"]
        column, x = case.table.columns[names.index(feature)], row[names.index(feature)]
        rest = text.removeprefix(feature).removesuffix(" or missing")
        missing_yes = text.endswith(" or missing")
        if column.kind == "boolean":
            assert rest == " = yes"
            yes = missing_yes if np.isnan(x) or x < 0 else x == 1
        elif rest == " is missing":
            yes = np.isnan(x)
        elif column.kind == "categorical":
            yes = not np.isnan(x) and x >= 0 and rest == f" = {column.categories[int(x)]}"
        else:
            assert rest.startswith(" ≤ ")
            yes = missing_yes if np.isnan(x) else np.float32(x) <= node["threshold"]
        return walk(node["yes"] if yes else node["no"], row)

    root = model.describe()["root"]
    for table in (case.table, case.odd):
        read = np.array([walk(root, row) for row in table.values])
        np.testing.assert_array_equal(read, model(table))


def test_missing_and_unseen_categories_can_differ(regression):
    j = 2
    missing = np.isnan(regression.table.values[:, j])
    targets = regression.targets(regression.table, np.where(missing, 5.0, 0.0)[:, None], "values")
    model = TreeStudent(max_leaves=2).fit(targets, validation=regression.validation, teacher=None, seed=0)
    probe = regression.table.values[:2].copy()
    probe[:, j] = [np.nan, -1]
    np.testing.assert_allclose(model(regression.table.with_values(probe))[:, 0], [5.0, 0.0])


def test_encoding_of_a_tree_keeps_numbers_as_they_are(regression):
    encoding = Encoding.fit(regression.table, standardize=False, fill_missing=False)
    encoded = encoding(regression.table.values)
    np.testing.assert_array_equal(encoded[:, 0], regression.table.values[:, 0].astype(np.float32))
