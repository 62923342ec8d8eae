from __future__ import annotations

import numpy as np
import pytest

from distillens.data.base import Column, Table
from distillens.errors import InputError
from distillens.explainers.effects import (
    accumulated_local_effects,
    feature_grid,
    individual_conditional_expectation,
    partial_dependence,
)


def test_ice_and_pdp_are_their_definition(rng, table, formula, smooth_function):
    x = rng.normal(size=(30, 4))
    model, inputs, grid = formula(smooth_function), table(x), [-1.0, 0.0, 0.5]
    weights = rng.random(30)
    ice = individual_conditional_expectation(model, inputs, "x2", grid=grid, weights=weights)
    pdp = partial_dependence(model, inputs, "x2", grid=grid, weights=weights)
    for g, z in enumerate(grid):
        moved = x.copy()
        moved[:, 2] = z
        np.testing.assert_allclose(ice.curves[:, g], smooth_function(moved), atol=1e-12)
        np.testing.assert_allclose(pdp.values[g], np.average(smooth_function(moved), weights=weights), atol=1e-12)
    np.testing.assert_allclose(ice.values, pdp.values)
    assert pdp.curves is None
    assert ice.scale == "value"


def test_pdp_equals_sklearn(rng, table, formula):
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import partial_dependence as peer

    x = rng.normal(size=(200, 3))
    forest = RandomForestRegressor(5, random_state=0).fit(x, x[:, 0] * x[:, 1] + x[:, 2])
    theirs = peer(forest, x, [1], kind="both", grid_resolution=7, method="brute")
    ours = individual_conditional_expectation(formula(forest.predict), table(x), "x1", grid=theirs["grid_values"][0])
    np.testing.assert_allclose(ours.values, theirs["average"][0], atol=1e-9)
    np.testing.assert_allclose(ours.curves, theirs["individual"][0], atol=1e-9)


def test_all_three_have_the_shape_of_an_additive_function(rng, table, formula):
    x = rng.normal(size=(2000, 3))
    x[:, 1] += x[:, 0]
    model, inputs = formula(lambda v: np.sin(v[:, 0]) + v[:, 1] ** 2 - v[:, 2]), table(x)
    ale = accumulated_local_effects(model, inputs, "x0", bins=30)
    np.testing.assert_allclose(np.diff(ale.values), np.diff(np.sin(ale.grid)), atol=1e-9)
    assert ale.stderr.max() < 0.05
    pdp = partial_dependence(model, inputs, "x0", grid=ale.grid)
    np.testing.assert_allclose(np.diff(pdp.values), np.diff(np.sin(ale.grid)), atol=1e-9)


def test_ale_of_a_product_of_correlated_features(rng, table, formula):
    """f = x0 x1 with correlation r: the local slope in x0 is E[x1 | x0] = r x0, so ALE(z) = r (z² − 1) / 2; a PDP is flat."""
    r, n = 0.8, 40_000
    x0 = rng.normal(size=n)
    x = np.column_stack([x0, r * x0 + np.sqrt(1 - r**2) * rng.normal(size=n)])
    model, inputs = formula(lambda v: v[:, 0] * v[:, 1]), table(x)
    ale = accumulated_local_effects(model, inputs, "x0", bins=60)
    inner = np.abs(ale.grid) < 2
    assert inner.sum() > 40
    want = r * (ale.grid**2 - 1) / 2
    # The level is a mean over all bins, of which the outermost are wide; the shape between the edges is what can be exact.
    shift = (ale.values - want)[inner].mean()
    assert abs(shift) < 0.06
    np.testing.assert_allclose(ale.values[inner] - shift, want[inner], atol=0.03)
    pdp = partial_dependence(model, inputs.take(np.arange(4000)), "x0", grid=[-2.0, 0.0, 2.0])
    assert np.abs(pdp.values).max() < 0.15


def test_ale_does_not_ask_about_rows_that_do_not_exist(rng, table, formula):
    x0 = rng.uniform(size=3000)
    x = np.column_stack([x0, x0 + rng.normal(scale=0.02, size=3000)])
    model = formula(lambda v: v[:, 0] + 100 * (np.abs(v[:, 0] - v[:, 1]) > 0.5))  # a cliff far from all data
    ale = accumulated_local_effects(model, table(x), "x0", bins=40)
    np.testing.assert_allclose(ale.values, ale.grid - x0.mean(), atol=0.02)
    pdp = partial_dependence(model, table(x), "x0", points=40)
    assert pdp.values.max() > 20


def ale_by_hand(function, x, j, edges, w):
    """A loop over bins and rows (Apley & Zhu 2020)."""
    steps = [0.0]
    middles = np.zeros(len(x))
    for k in range(1, len(edges)):
        first = x[:, j] <= edges[k]
        inside = first & (x[:, j] > edges[k - 1]) if k > 1 else first
        total = mass = 0.0
        for row, weight in zip(x[inside], w[inside], strict=True):
            low, high = row.copy(), row.copy()
            low[j], high[j] = edges[k - 1], edges[k]
            total += weight * (function(high[None])[0] - function(low[None])[0])
            mass += weight
        steps.append(steps[-1] + total / mass)
        middles[inside] = (steps[-1] + steps[-2]) / 2
    return np.array(steps) - np.average(middles, weights=w)


def test_ale_is_its_definition(rng, table, formula, smooth_function):
    x, w = np.round(rng.normal(size=(120, 3)), 1), rng.random(120)
    ale = accumulated_local_effects(formula(smooth_function), table(x), "x1", bins=8, weights=w)
    np.testing.assert_allclose(ale.values, ale_by_hand(smooth_function, x, 1, ale.grid, w), atol=1e-10)
    assert ale.count.sum() == 120
    assert len(ale.grid) <= 9


def test_standard_errors_are_the_spread_over_samples(rng, table, formula, smooth_function):
    grid, found, told = [-1.0, 1.0], [], []
    for _ in range(200):
        e = partial_dependence(formula(smooth_function), table(rng.normal(size=(80, 3))), "x0", grid=grid)
        found.append(e.values)
        told.append(e.stderr)
    np.testing.assert_allclose(np.mean(told, axis=0), np.std(found, axis=0), rtol=0.15)


COLUMNS = (Column("n"), Column("c", "categorical", ("red", "green")), Column("b", "boolean", ("no", "yes")))


def test_kinds_missing_values_and_words(rng, formula):
    values = np.column_stack([rng.normal(size=60), rng.integers(0, 2, 60), rng.integers(0, 2, 60)]).astype(float)
    values[:5, 0], values[5:9, 2], values[9, 2] = np.nan, np.nan, -1
    inputs = Table(values, COLUMNS, np.arange(60))
    model = formula(lambda v: np.nan_to_num(v[:, 0]) + 2 * (v[:, 1] == 1) + 3 * (v[:, 2] == 1))
    pdp = partial_dependence(model, inputs, "c")
    assert pdp.labels == ("red", "green")
    np.testing.assert_allclose(np.diff(pdp.values), 2)
    ale = accumulated_local_effects(model, inputs, "b")
    assert ale.labels == ("no", "yes")
    np.testing.assert_allclose(np.diff(ale.values), 3)
    assert ale.count.sum() == 55
    assert accumulated_local_effects(model, inputs, "n", bins=5).count.sum() == 55
    frame = pdp.to_frame()
    assert list(frame["c"]) == ["red", "green"]
    assert pdp.to_json()["feature"] == "c"
    assert partial_dependence(model, inputs, "c", grid=[np.nan]).labels == ("missing",)
    with pytest.raises(InputError, match="have no order"):
        accumulated_local_effects(model, inputs, "c")


def test_constant_features_and_nonsense(rng, table, formula):
    inputs = table(np.column_stack([np.ones(10), rng.normal(size=10), np.full(10, np.nan)]))
    model = formula(lambda v: v[:, 1])
    flat = accumulated_local_effects(model, inputs, "x0")
    np.testing.assert_array_equal(flat.values, [0.0])
    assert feature_grid(inputs, "x0").tolist() == [1.0]
    for call, words in (
        (lambda: accumulated_local_effects(model, inputs, "x2"), "no known value"),
        (lambda: feature_grid(inputs, "x2"), "no known value"),
        (lambda: feature_grid(inputs, "x1", points=1), "at least 2"),
        (lambda: accumulated_local_effects(model, inputs, "x1", bins=0), "at least one bin"),
        (lambda: partial_dependence(model, inputs, "x1", weights=np.zeros(10)), "Weights should be"),
        (lambda: partial_dependence(model, inputs, "x1", grid=[]), "list of coded values"),
        (lambda: partial_dependence(model, inputs.take([]), "x1", grid=[0.0]), "no rows"),
        (lambda: partial_dependence(model, inputs, "x9"), "no feature 'x9'"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_a_class_on_a_scale(rng, table, formula):
    w = rng.normal(size=(3, 2))
    model = formula(lambda v: v @ w, classes=("a", "b"), output="logits")
    x = rng.normal(size=(50, 3))
    for target in (0, 1):
        e = partial_dependence(model, table(x), "x0", grid=[0.0, 1.0], target=target)
        np.testing.assert_allclose(np.diff(e.values), w[0, target] - w[0, 1 - target], atol=1e-12)
    p = partial_dependence(model, table(x), "x0", grid=[0.0, 1.0], scale="probability")
    assert ((p.values > 0) & (p.values < 1)).all()
