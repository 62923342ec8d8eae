from __future__ import annotations

import warnings

import numpy as np
import pytest

from distillens.data.base import Column, Table
from distillens.errors import InputError
from distillens.explainers.lime import Bins, Lime, local_linear


def zeros(n):
    return np.zeros(n, dtype=np.int64)


def test_local_linear_is_ridge(rng):
    from sklearn.linear_model import Ridge

    design, score, weights = rng.normal(size=(200, 5)), rng.normal(size=200), rng.random(200)
    coefficients, intercept, _ = local_linear(design, score, weights, ridge=0.7)
    peer = Ridge(alpha=0.7).fit(design, score, sample_weight=weights)
    np.testing.assert_allclose(coefficients, peer.coef_, atol=1e-10)
    np.testing.assert_allclose(intercept, peer.intercept_, atol=1e-10)


def test_standard_errors_are_the_spread_over_draws(rng):
    found, errors = [], []
    for _ in range(400):
        design = rng.normal(size=(150, 3))
        score = np.sin(2 * design[:, 0]) + design[:, 1] * design[:, 2] + 0.3 * design[:, 1]
        c, _, e = local_linear(design, score, np.exp(-(design**2).sum(axis=1) / 4), ridge=1.0)
        found.append(c)
        errors.append(e)
    np.testing.assert_allclose(np.mean(errors, axis=0), np.std(found, axis=0), rtol=0.2)


def test_same_numbers_as_lime_on_the_same_samples(rng, table, formula, smooth_function):
    lime_base = pytest.importorskip("lime.lime_base")
    seen = []

    def remembers(v):
        seen.append(v.copy())
        return smooth_function(v)

    x, b = rng.normal(size=(2, 5)), rng.normal(size=(300, 5))
    e = Lime(samples=400)(formula(remembers), table(x), target=zeros(2), background=table(b), seed=1)
    samples = np.concatenate([v for v in seen if len(v) > 2])
    assert samples.shape == (399, 5)  # answered once, for both rows
    edges = np.percentile(b, [25, 50, 75], axis=0)
    width = 0.75 * np.sqrt(5)
    for i in range(2):
        rows = np.concatenate([x[[i]], samples])
        bins = np.stack([np.searchsorted(edges[:, j], rows[:, j]) for j in range(5)], axis=1)
        design = (bins == bins[0]).astype(float)
        base = lime_base.LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / width**2)), random_state=0)
        distance = np.sqrt(((design - design[0]) ** 2).sum(axis=1))
        intercept, local, _, prediction = base.explain_instance_with_data(
            design, smooth_function(rows)[:, None], distance, 0, 5, feature_selection="none"
        )
        theirs = dict(local)
        np.testing.assert_allclose(e.values[i], [theirs[j] for j in range(5)], atol=1e-9)
        np.testing.assert_allclose(e.base[i], intercept, atol=1e-9)
        np.testing.assert_allclose(e.output[i] - e.residual[i], prediction, atol=1e-9)


@pytest.mark.parametrize("sampling", ["quartiles", "gaussian", "around_row"])
def test_within_noise_of_lime(rng, formula, sampling):
    lime_tabular = pytest.importorskip("lime.lime_tabular")
    columns = (Column("a"), Column("b"), Column("c", "categorical", ("x", "y", "z")))
    background = np.column_stack([rng.normal(2, 3, 400), rng.exponential(size=400), rng.integers(0, 3, 400)])
    x = background[:3]

    def function(v):
        return np.tanh(v[:, 0]) + v[:, 1] * (v[:, 2] == 1) + 0.5 * v[:, 1]

    table, rows = (Table(v, columns, np.arange(len(v))) for v in (background, x))
    e = Lime(samples=20_000, sampling=sampling)(formula(function), rows, target=zeros(3), background=table, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package's own deprecations
        peer = lime_tabular.LimeTabularExplainer(
            background, mode="regression", categorical_features=[2], discretize_continuous=sampling == "quartiles",
            sample_around_instance=sampling == "around_row", feature_selection="none", random_state=0,
        )  # fmt: skip
        for i in range(3):
            theirs = dict(peer.explain_instance(x[i], function, num_features=3, num_samples=20_000).as_map()[1])
            got = e.values[i].copy()
            error = e.stderr[i].copy()
            if sampling != "quartiles":  # the package reports slopes per standard deviation
                factor = (x[i, :2] - background[:, :2].mean(axis=0)) / background[:, :2].std(axis=0)
                got[:2] /= factor
                error[:2] /= np.abs(factor)
            np.testing.assert_array_less(np.abs(got - [theirs[j] for j in range(3)]), 5 * error + 0.01)


def test_effects_of_bins_of_an_additive_function(rng, table, formula):
    """Independent bins and product weights: each coefficient is its own bin against the others, whatever the other features."""
    b = rng.normal(size=(4000, 3))
    worth = rng.normal(size=(3, 4))
    edges = np.percentile(b, [25, 50, 75], axis=0)

    def function(v):
        return sum(worth[j][np.searchsorted(edges[:, j], v[:, j])] for j in range(3))

    x = np.array([[-2.0, 0.1, 2.0]])
    e = Lime(samples=40_000, ridge=0.0)(formula(function), table(x), target=zeros(1), background=table(b), seed=0)
    own = [0, np.searchsorted(edges[:, 1], 0.1), 3]
    expected = [worth[j, k] - np.delete(worth[j], k).mean() for j, k in enumerate(own)]
    np.testing.assert_array_less(np.abs(e.values[0] - expected), 5 * e.stderr[0] + 1e-9)
    assert abs(e.residual[0]) < 5 * np.sqrt((e.stderr**2).sum())


@pytest.mark.parametrize("sampling", ["gaussian", "around_row"])
def test_linear_functions_are_exact_on_numbers(sampling, rng, table, formula):
    w, x, b = rng.normal(size=4), rng.normal(size=(3, 4)), rng.normal(size=(50, 4)) * 3 + 1
    e = Lime(samples=300, sampling=sampling, ridge=0.0)(
        formula(lambda v: v @ w + 1), table(x), target=zeros(3), background=table(b), seed=0
    )
    np.testing.assert_allclose(e.values, (x - b.mean(axis=0)) * w, atol=1e-9)
    np.testing.assert_allclose(e.residual, 0, atol=1e-9)


def test_bins_draw_what_they_hold(rng):
    column = np.concatenate([rng.exponential(size=900), np.full(100, np.nan)])
    bins = Bins.of(column, numeric=True)
    place, value = bins.draw(50_000, rng)
    np.testing.assert_array_equal(bins.index(value), place)
    np.testing.assert_allclose(np.bincount(place, minlength=5) / 50_000, bins.share, atol=0.01)
    known = column[:900]
    assert np.nanmin(value) >= known.min()
    assert np.nanmax(value) <= known.max()
    from scipy.stats import truncnorm

    for k in range(4):
        low, high = (bins.low[k] - bins.mean[k]) / bins.spread[k], (bins.high[k] - bins.mean[k]) / bins.spread[k]
        peer = truncnorm(low, high, loc=bins.mean[k], scale=bins.spread[k])
        drawn = value[place == k]
        np.testing.assert_allclose(drawn.mean(), peer.mean(), atol=5 * peer.std() / np.sqrt(len(drawn)))
        np.testing.assert_allclose(drawn.std(), peer.std(), rtol=0.05)
    flat = Bins.of(np.full(7, 3.0), numeric=True)
    _, value = flat.draw(10, rng)
    np.testing.assert_allclose(value, 3.0)


def test_missing_and_unseen_values_have_a_place(rng, formula):
    columns = (Column("a"), Column("c", "categorical", ("x", "y")), Column("d", "boolean", ("no", "yes")))
    b = np.column_stack([rng.normal(size=80), rng.integers(0, 2, 80), rng.integers(0, 2, 80)]).astype(float)
    b[:20, 0] = b[:10, 1] = np.nan
    x = np.array([[np.nan, np.nan, 1.0], [0.0, -1.0, 0.0], [50.0, 1.0, np.nan]])
    model = formula(lambda v: np.isnan(v[:, 0]) * 2.0 + (v[:, 1] == 1) + v[:, 2])
    inputs = Table(np.nan_to_num(x, nan=np.nan), columns, np.arange(3))
    with pytest.raises(Exception, match="NaN"):  # the formula itself cannot answer for a missing boolean
        Lime()(model, inputs, target=zeros(3), background=Table(b, columns, np.arange(80)), seed=0)
    e = Lime()(model, inputs.take([0, 1]), target=zeros(2), background=Table(b, columns, np.arange(80)), seed=0)
    assert e.values[0, 0] > 1.9
    assert e.values[1, 0] < 0
    assert np.isfinite(e.values).all()
    assert e.values[1, 1] == 0  # no sample is unseen, so nothing is known about being so
    with pytest.raises(InputError, match="'a' has missing values"):
        Lime(sampling="gaussian")(
            model, inputs.take([0]), target=zeros(1), background=Table(b, columns, np.arange(80)), seed=0
        )


@pytest.mark.parametrize("sampling", ["quartiles", "gaussian", "around_row"])
def test_rows_do_not_depend_on_their_company(sampling, rng, table, formula, smooth_function):
    x, b = rng.normal(size=(5, 4)), rng.normal(size=(60, 4))
    run = {"background": table(b), "seed": 3}
    explainer = Lime(samples=200, sampling=sampling)
    whole = explainer(formula(smooth_function), table(x), target=zeros(5), **run)
    alone = explainer(formula(smooth_function), table(x).take([3]), target=zeros(1), **run)
    np.testing.assert_allclose(alone.values, whole.values[[3]], atol=1e-12)
    again = explainer(formula(smooth_function), table(x), target=zeros(5), background=table(b), seed=4)
    assert np.abs(again.values - whole.values).max() > 1e-6


def test_a_class_per_row(rng, table, formula):
    w, x, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 4)), rng.normal(size=(40, 4))
    model = formula(lambda v: v @ w, classes=("a", "b", "c"), output="logits")
    explainer = Lime(samples=300, sampling="gaussian", scale="logit", ridge=0.0)
    target = np.array([2, 0, 1])
    e = explainer(model, table(x), target=target, background=table(b), seed=0)
    np.testing.assert_allclose(e.values, (x - b.mean(axis=0)) * w.T[target], atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"samples": 1},
        {"sampling": "quartile"},
        {"width": 0},
        {"width": "wide"},
        {"ridge": -1.0},
        {"ridge": None},
        {"ridge": float("nan")},
        {"rows": 0},
        {"scale": "odds"},
        {"background": {"rows": 0}},
    ],
    ids=str,
)
def test_nonsense_settings_are_refused(options):
    with pytest.raises(InputError, match="lime"):
        Lime(**options)
