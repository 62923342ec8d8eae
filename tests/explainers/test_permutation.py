from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillens.errors import InputError
from distillens.explainers.permutation import PermutationShap, permutation_shapley, walks
from distillens.explainers.shapley import ExactShapley


def by_definition(values, plan):
    """φ of each pair of walks, one step at a time."""
    worth = {mask.tobytes(): values[:, i] for i, mask in enumerate(plan.masks)}
    pairs = []
    for order in plan.orders:
        phi = np.zeros((len(values), len(order)))
        for walk in (order, order[::-1]):
            inside = np.zeros(len(order), dtype=bool)
            for unit in walk:
                before = worth[inside.tobytes()]
                inside[unit] = True
                phi[:, unit] += (worth[inside.tobytes()] - before) / 2
        pairs.append(phi)
    pairs = np.array(pairs)
    return pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / math.sqrt(len(pairs))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(0, 1000))
def test_values_and_errors_are_the_definition(units, seed):
    plan = walks(units, 10 * units, seed)
    values = np.random.default_rng(seed).normal(size=(3, len(plan.masks)))
    phi, stderr = permutation_shapley(values, plan)
    expected, error = by_definition(values, plan)
    np.testing.assert_allclose(phi, expected, atol=1e-12)
    np.testing.assert_allclose(stderr, error, atol=1e-12)
    whole, nothing = plan.masks.all(axis=1).argmax(), (~plan.masks).all(axis=1).argmax()
    np.testing.assert_allclose(phi.sum(axis=1), values[:, whole] - values[:, nothing], atol=1e-12)


def test_plans_are_orders_within_the_budget_and_repeat():
    plan = walks(30, 2048, 3)
    assert len(plan.orders) == 2048 // 58
    assert (np.sort(plan.orders, axis=1) == np.arange(30)).all()
    assert len(np.unique(plan.masks, axis=0)) == len(plan.masks) <= 2048 + 2
    assert (walks(30, 2048, 3).orders == plan.orders).all()
    assert (walks(30, 2048, 4).orders != plan.orders).any()
    with pytest.raises(InputError, match="116 or more"):
        walks(30, 100, 0)


def test_effects_of_pairs_are_exact_with_two_orders(rng, table, formula):
    first, pairs = rng.normal(size=14), rng.normal(size=(14, 14))
    x, b = rng.normal(size=(3, 14)), rng.normal(size=(6, 14))
    model = formula(lambda v: v @ first + np.einsum("ni,ij,nj->n", v, pairs, v))
    run = {"target": np.zeros(3, dtype=np.int64), "background": table(b), "seed": 0}
    e = PermutationShap(budget=52)(model, table(x), **run)
    truth = ExactShapley(budget=2**14)(model, table(x), **run)
    np.testing.assert_allclose(e.values, truth.values, atol=1e-9)
    assert e.stderr.max() < 1e-9
    assert not e.exact


@pytest.mark.parametrize(("units", "budget"), [(12, 300), (20, 1000)])
def test_standard_error_covers_the_truth(units, budget):
    rng = np.random.default_rng(7)
    triples = np.array(list(itertools.combinations(range(units), 3)))
    triples = triples[rng.choice(len(triples), 60, replace=False)]
    w = rng.normal(size=(3, 60))
    truth = np.zeros((3, units))
    for members, worth in zip(triples, w.T, strict=True):
        truth[:, members] += worth[:, None] / 3
    inside, repeats = 0, 150
    for seed in range(repeats):
        plan = walks(units, budget, seed)
        phi, stderr = permutation_shapley(w @ plan.masks[:, triples].all(axis=2).T.astype(float), plan)
        critical = {13: 2.179, 26: 2.060}[len(plan.orders)]  # Student's t
        inside += int((np.abs(phi - truth) <= critical * stderr + 1e-12).sum())
    assert 0.92 < inside / (repeats * truth.size) < 0.98


def test_close_to_the_truth_as_shap_is(rng, table, formula, smooth_function):
    shap = pytest.importorskip("shap")
    x, b = rng.normal(size=(3, 12)), rng.normal(size=(10, 12))
    run = {"target": np.zeros(3, dtype=np.int64), "background": table(b), "seed": 0}
    model = formula(smooth_function)
    truth = ExactShapley()(model, table(x), **run).values
    ours = PermutationShap(budget=440)(model, table(x), **run)
    peer = shap.PermutationExplainer(smooth_function, shap.maskers.Independent(b, max_samples=10), seed=0)
    theirs = peer(x, max_evals=20 * 25, silent=True).values
    assert np.abs(ours.values - truth).max() < 0.05
    assert np.abs(theirs - truth).max() < 0.05
    assert np.abs(ours.residual).max() < 1e-9
    assert (np.abs(ours.values - truth) < 4 * ours.stderr + 1e-9).mean() > 0.95


def test_few_units_are_exact_and_groups_are_units(rng, table, formula, smooth_function):
    x, b = rng.normal(size=(4, 6)), rng.normal(size=(9, 6))
    run = {"target": np.zeros(4, dtype=np.int64), "background": table(b), "seed": 0}
    groups = {"pair": ["x4", "x1"]}
    e = PermutationShap(groups=groups)(formula(smooth_function), table(x), **run)
    truth = ExactShapley(groups=groups)(formula(smooth_function), table(x), **run)
    assert e.exact
    assert e.stderr is None
    assert e.units == truth.units
    np.testing.assert_allclose(e.values, truth.values, atol=1e-12)
    sampled = PermutationShap(budget=24, groups=groups)(formula(smooth_function), table(x), **run)
    assert not sampled.exact
    alone = PermutationShap(budget=24, groups=groups)(
        formula(smooth_function), table(x[[2]]), **(run | {"target": np.zeros(1, dtype=np.int64)})
    )
    np.testing.assert_allclose(alone.values, sampled.values[[2]], atol=1e-12)


def test_nonsense_is_refused(table, formula):
    with pytest.raises(InputError, match="permutation_shap"):
        PermutationShap(budget=0)
    with pytest.raises(InputError, match="needs background rows"):
        PermutationShap()(formula(np.sum), table([[1.0]]), target=np.zeros(1, dtype=np.int64), background=None, seed=0)
