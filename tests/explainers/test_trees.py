from __future__ import annotations

import math
import warnings
from itertools import combinations

import numpy as np
import pytest

from distillens.data.base import Column, Table
from distillens.errors import InputError, ModelError
from distillens.explainers.shapley import ExactShapley
from distillens.explainers.trees import Leaf, TreeShap, interventional, path_dependent
from distillens.models.boosted import BoostedTrees, Preparation
from distillens.models.encoding import Encoding
from distillens.models.tree import TreeModel, float32_floor

COLUMNS = (
    Column("a"),
    Column("b"),
    Column("colour", "categorical", ("red", "green", "blue", "grey")),
    Column("owns", "boolean", ("no", "yes")),
    Column("c"),
)
CLASSES = {"binary": ("good", "bad"), "multiclass": ("x", "y", "z"), "regression": ()}


def mixed(rng, n):
    values = np.column_stack(
        [rng.normal(size=n), rng.normal(size=n), rng.integers(0, 4, n), rng.integers(0, 2, n), rng.normal(size=n)]
    ).astype(float)
    values[rng.random((n, 5)) < 0.08] = np.nan
    return Table(np.asarray(np.float32(values), dtype=np.float64), COLUMNS, np.arange(n))


def truth(values):
    v = np.nan_to_num(values, nan=0.3)
    return v[:, 0] * (v[:, 2] == 1) + np.sin(2 * v[:, 1]) * v[:, 3] + v[:, 4] * (v[:, 2] == 3) + v[:, 0] * v[:, 4]


def single_tree(table, task, *, leaves=20):
    from sklearn.tree import DecisionTreeRegressor

    encoding = Encoding.fit(table, standardize=False, fill_missing=False)
    score = truth(table.values)
    y = score[:, None]
    if task != "regression":
        logits = np.column_stack([np.zeros_like(score), score] + ([np.sin(score)] if task == "multiclass" else []))
        y = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    tree = DecisionTreeRegressor(max_leaf_nodes=leaves, min_samples_leaf=5, random_state=0)
    tree = tree.fit(encoding(table.values).astype(np.float32), y).tree_
    inner = tree.feature >= 0
    return TreeModel(
        table.columns, CLASSES[task], "tree", encoding, np.where(inner, tree.feature, -1).astype(np.int64),
        np.where(inner, float32_floor(tree.threshold), 0.0), tree.children_left.astype(np.int64), tree.children_right.astype(np.int64),
        tree.missing_go_to_left.astype(bool) & inner, tree.value[:, :, 0].astype(np.float64),
    )  # fmt: skip


def boosted(table, task, *, rounds=12):
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    preparation = Preparation.fit(table)
    score = truth(table.values)
    family = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    edges = [0.0] if task == "binary" else [-0.5, 0.5]
    y = score if task == "regression" else np.digitize(score, edges)
    fitted = family(
        max_iter=rounds, max_leaf_nodes=12, min_samples_leaf=5, early_stopping=False,
        categorical_features=preparation.categorical, random_state=0,
    ).fit(preparation(table.values), y)  # fmt: skip
    return BoostedTrees.from_sklearn(fitted, preparation, classes=CLASSES[task], label="boosted"), fitted


MODELS = {f"{kind.__name__} {task}": (kind, task) for kind in (single_tree, boosted) for task in CLASSES}


@pytest.fixture(params=MODELS)
def case(request, rng):
    kind, task = MODELS[request.param]
    table = mixed(rng, 400)
    made = kind(table, task)
    model = made[0] if isinstance(made, tuple) else made
    odd = table.values[:9].copy()
    odd[0, 2] = -1
    odd[1, 3] = -1
    odd[2] = np.nan
    return (
        model,
        task,
        Table(odd, COLUMNS, np.arange(9)),
        table.take(np.arange(20, 50)),
        np.arange(9) % max(1, len(CLASSES[task])),
    )


def test_interventional_is_the_exact_shapley_value(case):
    model, task, rows, background, target = case
    scales = {"regression": ["value"], "binary": ["log_odds", "logit"], "multiclass": ["logit"]}[task]
    if isinstance(model, TreeModel) and task != "regression":
        scales = ["log_odds", "probability", "logit"]
    for scale in scales:
        e = TreeShap(scale=scale)(model, rows, target=target, background=background, seed=0)
        exact = ExactShapley(scale=scale)(model, rows, target=target, background=background, seed=0)
        np.testing.assert_allclose(e.values, exact.values, atol=1e-9)
        np.testing.assert_allclose(e.base, exact.base, atol=1e-9)
        np.testing.assert_allclose(e.residual, 0, atol=1e-9)
        assert e.exact
        assert e.stderr is None


def left(model, node, encoded):
    def goes(values):
        x = model.encoding(np.atleast_2d(values))[:, encoded]
        return np.where(np.isnan(x), model.missing_left[node], x <= model.threshold[node])

    return goes


def test_path_dependent_is_its_game_enumerated(rng):
    """Counting who passes *all* known and unknown questions on the way down, as the paper's algorithm 1 does, feature by feature."""
    table = mixed(rng, 300)
    model = single_tree(table, "binary", leaves=8)
    rows, target = table.take(np.arange(6)), np.ones(6, dtype=np.int64)
    e = TreeShap(game="path_dependent", scale="probability")(model, rows, target=target, background=table, seed=0)
    reached = np.zeros((300, len(model.feature)), dtype=bool)
    reached[:, 0] = True
    for node in np.flatnonzero(model.feature >= 0):
        went = left(model, node, int(model.feature[node]))(table.values)
        reached[:, model.left[node]] = reached[:, node] & went
        reached[:, model.right[node]] = reached[:, node] & ~went
    count = reached.sum(axis=0)

    def worth(row, known, node=0):
        if model.feature[node] < 0:
            return model.value[node, 1]
        encoded = int(model.feature[node])
        children = model.left[node], model.right[node]
        if int(model.encoding.feature[encoded]) in known:
            return worth(row, known, children[0 if left(model, node, encoded)(row)[0] else 1])
        return sum(count[c] / count[node] * worth(row, known, c) for c in children)

    for i in range(6):
        for j in range(5):
            others = [g for g in range(5) if g != j]
            phi = 0.0
            for size in range(5):
                weight = math.factorial(size) * math.factorial(4 - size) / math.factorial(5)
                for known in combinations(others, size):
                    row = rows.values[i]
                    phi += weight * (worth(row, {*known, j}) - worth(row, set(known)))
            np.testing.assert_allclose(e.values[i, j], phi, atol=1e-12)
        np.testing.assert_allclose(e.base[i], worth(rows.values[i], set()), atol=1e-12)
    np.testing.assert_allclose(e.residual, 0, atol=1e-12)


@pytest.mark.parametrize("task", ["regression", "binary"])
@pytest.mark.parametrize("game", ["path_dependent", "interventional"])
def test_equals_shap_on_numbers(task, game, rng, table):
    shap = pytest.importorskip("shap")
    values = np.float32(rng.normal(size=(500, 6))).astype(np.float64)
    data = table(values)
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    score = values[:, 0] * values[:, 1] + np.sin(values[:, 2]) + (values[:, 3] > 0) * values[:, 0]
    family = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    fitted = family(max_iter=20, max_leaf_nodes=15, early_stopping=False, random_state=0).fit(
        values, score if task == "regression" else (score > 0).astype(int)
    )
    model = BoostedTrees.from_sklearn(fitted, Preparation.fit(data), classes=CLASSES[task], label="boosted")
    rows, background = data.take(np.arange(15)), data.take(np.arange(100, 140))
    e = TreeShap(game=game)(model, rows, target=np.full(15, len(CLASSES[task]) // 2), background=background, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's own
        peer = shap.TreeExplainer(
            fitted, background.values if game == "interventional" else None,
            feature_perturbation="tree_path_dependent" if game == "path_dependent" else "interventional",
        )  # fmt: skip
        theirs = peer.shap_values(rows.values, check_additivity=False)
    np.testing.assert_allclose(e.values, theirs, atol=1e-6)
    np.testing.assert_allclose(e.base, np.ravel(peer.expected_value)[0], atol=1e-6)
    np.testing.assert_allclose(e.residual, 0, atol=1e-9)


def test_path_dependent_sums_to_the_output(case):
    model, _, rows, background, target = case
    e = TreeShap(game="path_dependent")(model, rows, target=target, background=background, seed=0)
    np.testing.assert_allclose(e.residual, 0, atol=1e-9)


def test_closed_forms_of_one_leaf():
    # three features; the row satisfies the first two, the background row only the last: nobody satisfies none
    leaf = Leaf(np.arange(3), np.array([0b011]), np.array([0b100]), np.full(3, 0.5), np.ones(1))
    np.testing.assert_allclose(interventional(leaf, np.ones(1)), [[1 / 6, 1 / 6, -1 / 3]])
    # the row satisfies all, each with a share of one half: the product of three halves rises to one, a third each
    whole = Leaf(np.arange(3), np.array([0b111]), np.array([0b0]), np.full(3, 0.5), np.ones(1))
    np.testing.assert_allclose(path_dependent(whole), np.full((1, 3), (1 - 1 / 8) / 3))
    np.testing.assert_allclose(interventional(whole, np.ones(1)), np.full((1, 3), 1 / 3))


def test_a_tree_of_one_leaf_has_nothing_to_share(rng):
    table = mixed(rng, 50)
    model = single_tree(table, "regression", leaves=20)
    stump = TreeModel(
        model.columns, (), "leaf", model.encoding, np.array([-1]), np.zeros(1), np.array([-1]), np.array([-1]),
        np.zeros(1, dtype=bool), np.array([[2.5]]),
    )  # fmt: skip
    for game in ("interventional", "path_dependent"):
        e = TreeShap(game=game)(stump, table, target=np.zeros(50, dtype=np.int64), background=table, seed=0)
        assert (e.values == 0).all()
        np.testing.assert_allclose(e.base, 2.5)


def test_what_cannot_be_explained_is_said(rng, formula):
    table = mixed(rng, 60)
    target = np.ones(60, dtype=np.int64)
    with pytest.raises(ModelError, match="no tree"):
        TreeShap()(formula(lambda v: v[:, 0]), table, target=target, background=table, seed=0)
    model, _ = boosted(table, "binary", rounds=2)
    with pytest.raises(InputError, match="do not add up on the scale 'probability'"):
        TreeShap(scale="probability")(model, table, target=target, background=table, seed=0)
    with pytest.raises(InputError, match="model's columns"):
        other = Table(table.values[:, :2], COLUMNS[:2], table.row_ids)
        TreeShap()(model, other, target=target, background=other, seed=0)
    with pytest.raises(InputError, match="needs background"):
        TreeShap()(model, table, target=target, background=None, seed=0)
    with pytest.raises(InputError, match="no game 'interventionel'.*interventional"):
        TreeShap(game="interventionel")
