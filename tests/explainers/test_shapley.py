from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from distillens.errors import BudgetWarning, InputError
from distillens.explainers.coalitions import all_coalitions, coalitions
from distillens.explainers.shapley import ExactShapley, KernelShap, exact_shapley, kernel_shapley


def by_orders(game: np.ndarray) -> np.ndarray:
    """Shapley values of one game (2^M values) straight from the definition: the mean marginal contribution over all orders."""
    units = int(math.log2(len(game)))
    phi = np.zeros(units)
    for order in itertools.permutations(range(units)):
        inside = 0
        for unit in order:
            phi[unit] += game[inside | 1 << unit] - game[inside]
            inside |= 1 << unit
    return phi / math.factorial(units)


def games(most: int = 5):
    return st.integers(1, most).flatmap(lambda m: hnp.arrays(np.float64, (3, 2**m), elements=st.floats(-100, 100)))


def all_values(game: np.ndarray, plan) -> dict:
    index = plan.masks @ (1 << np.arange(plan.units))
    return {"values": game[:, index], "empty": game[:, 0], "grand": game[:, -1], "plan": plan}


@settings(max_examples=40, deadline=None)
@given(games())
def test_exact_is_the_mean_over_orders(game):
    expected = np.array([by_orders(row) for row in game])
    np.testing.assert_allclose(exact_shapley(game), expected, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(games())
def test_kernel_with_all_coalitions_is_exact_and_has_no_error(game):
    plan = coalitions(int(math.log2(game.shape[1])), 1000, 0)
    phi, stderr = kernel_shapley(**all_values(game, plan))
    np.testing.assert_allclose(phi, exact_shapley(game), atol=1e-9)
    assert stderr is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(6, 9))
def test_sampled_kernel_is_efficient_and_idle_units_get_nothing(seed, units):
    rng = np.random.default_rng(seed)
    game = rng.normal(size=(2, 2**units))
    masks = all_coalitions(units)
    index = masks @ (1 << np.arange(units))
    without_last = game[:, index & ~(1 << (units - 1))]  # the last unit changes nothing
    plan = coalitions(units, 2**units // 2, seed)
    assert not plan.exact
    idle = np.zeros((2, units), dtype=bool)
    idle[:, -1] = True
    phi, stderr = kernel_shapley(**all_values(without_last, plan), idle=idle)
    np.testing.assert_allclose(phi.sum(axis=1), without_last[:, -1] - without_last[:, 0], atol=1e-9)
    assert (phi[:, -1] == 0).all()
    assert (stderr[:, -1] == 0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 8))
def test_twins_share_alike_and_dummies_get_nothing(seed, units):
    """Units 0 and 1 are interchangeable, and the last (of more than two) changes nothing."""
    rng = np.random.default_rng(seed)
    index = np.arange(2**units)
    low, rest = index & 3, index & ~3
    merged = rest | np.where(low == 2, 1, low)  # {1} is worth what {0} is
    if units > 2:
        merged &= ~(1 << (units - 1))
    game = rng.normal(size=(2, 2**units))[:, merged]
    for phi in (exact_shapley(game), kernel_shapley(**all_values(game, coalitions(units, 2**units, 0)))[0]):
        np.testing.assert_allclose(phi[:, 0], phi[:, 1], atol=1e-9)
        np.testing.assert_allclose(phi.sum(axis=1), game[:, -1] - game[:, 0], atol=1e-9)
        if units > 2:
            np.testing.assert_allclose(phi[:, -1], 0, atol=1e-9)


def test_sampled_kernel_is_exact_for_additive_games():
    rng = np.random.default_rng(1)
    worth = rng.normal(size=(4, 20))
    plan = coalitions(20, 300, 3)
    values = worth @ plan.masks.T.astype(float) + 1.5
    phi, stderr = kernel_shapley(values, empty=np.full(4, 1.5), grand=worth.sum(axis=1) + 1.5, plan=plan)
    np.testing.assert_allclose(phi, worth, atol=1e-9)
    assert stderr.max() < 1e-9


def test_exact_refuses_incomplete_games():
    with pytest.raises(InputError, match="all 2\\^M coalitions"):
        exact_shapley(np.zeros((1, 6)))


EXPLAINERS = (ExactShapley(), KernelShap())


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=lambda e: e.kind)
class TestClosedForms:
    def run(self, explainer, model, x, background):
        target = np.zeros(len(x), dtype=np.int64)
        return explainer(model, x, target=target, background=background, seed=0)

    def test_linear(self, explainer, rng, table, formula):
        x, b, w = rng.normal(size=(5, 6)), rng.normal(size=(40, 6)), rng.normal(size=6)
        e = self.run(explainer, formula(lambda v: v @ w + 2), table(x), table(b))
        np.testing.assert_allclose(e.values, (x - b.mean(axis=0)) * w, atol=1e-10)
        np.testing.assert_allclose(e.base, b.mean(axis=0) @ w + 2, atol=1e-10)
        np.testing.assert_allclose(e.output, x @ w + 2, atol=1e-10)
        assert np.abs(e.residual).max() < 1e-10
        assert e.exact
        assert e.stderr is None
        assert e.scale == "value"

    def test_additive(self, explainer, rng, table, formula):
        parts = (np.sin, np.exp, np.square, np.abs)
        x, b = rng.normal(size=(5, 4)), rng.normal(size=(30, 4))

        def terms(v):
            return np.stack([f(v[:, j]) for j, f in enumerate(parts)], axis=1)

        e = self.run(explainer, formula(lambda v: terms(v).sum(axis=1)), table(x), table(b))
        np.testing.assert_allclose(e.values, terms(x) - terms(b).mean(axis=0), atol=1e-10)

    def test_product_game(self, explainer, table, formula):
        # x = 1, background = 0: the product of all M features is worth 1 to the grand coalition only
        e = self.run(explainer, formula(lambda v: v.prod(axis=1)), table(np.ones((1, 5))), table(np.zeros((1, 5))))
        np.testing.assert_allclose(e.values, np.full((1, 5), 1 / 5), atol=1e-12)

    def test_product_of_two_features(self, explainer, rng, table, formula):
        # φ_1 = ½ (x1 − m1)(x2 + m2) and the mirror image, plus nothing for the third, when background columns are independent
        x = np.array([[2.0, 3.0, 9.0]])
        b = np.array(list(itertools.product([0.0, 1.0], [-1.0, 2.0], [5.0, 7.0])))
        m = b.mean(axis=0)
        e = self.run(explainer, formula(lambda v: v[:, 0] * v[:, 1]), table(x), table(b))
        expected = [0.5 * (2 - m[0]) * (3 + m[1]), 0.5 * (3 - m[1]) * (2 + m[0]), 0.0]
        np.testing.assert_allclose(e.values[0], expected, atol=1e-12)

    def test_and_game(self, explainer, table, formula):
        # f = x0 AND x1 AND x2 of five booleans; background all false: a third each, nothing for the others
        e = self.run(
            explainer, formula(lambda v: (v[:, :3] > 0).all(axis=1)), table(np.ones((1, 5))), table(np.zeros((3, 5)))
        )
        np.testing.assert_allclose(e.values[0], [1 / 3, 1 / 3, 1 / 3, 0, 0], atol=1e-12)

    def test_one_feature(self, explainer, table, formula):
        e = self.run(explainer, formula(lambda v: v[:, 0] ** 2), table([[3.0]]), table([[0.0], [2.0]]))
        np.testing.assert_allclose(e.values, [[7.0]])


def test_kernel_equals_shap_under_full_enumeration(rng, table, formula, smooth_function):
    shap = pytest.importorskip("shap")
    x, b = rng.normal(size=(4, 7)), rng.normal(size=(20, 7))
    ours = KernelShap(budget=200)(
        formula(smooth_function), table(x), target=np.zeros(4, dtype=np.int64), background=table(b), seed=0
    )
    theirs = shap.KernelExplainer(smooth_function, b).shap_values(x, nsamples=200, l1_reg=False, silent=True)
    assert ours.exact
    np.testing.assert_allclose(ours.values, theirs, atol=1e-6)


def test_sampled_kernel_is_close_to_the_truth_and_to_shap(rng, table, formula, smooth_function):
    shap = pytest.importorskip("shap")
    x, b = rng.normal(size=(3, 12)), rng.normal(size=(10, 12))
    target = np.zeros(3, dtype=np.int64)
    model = formula(smooth_function)
    truth = ExactShapley()(model, table(x), target=target, background=table(b), seed=0)
    ours = KernelShap(budget=800)(model, table(x), target=target, background=table(b), seed=0)
    np.random.seed(0)  # noqa: NPY002 (shap draws from the global generator)
    theirs = shap.KernelExplainer(smooth_function, b).shap_values(x, nsamples=800, l1_reg=False, silent=True)
    assert not ours.exact
    assert np.abs(ours.values - truth.values).max() < 0.05
    assert np.abs(ours.values - theirs).max() < 0.1
    assert np.abs(ours.values - truth.values).mean() < 1.5 * np.abs(theirs - truth.values).mean()
    assert np.abs(ours.residual).max() < 1e-9


@pytest.mark.parametrize(("units", "budget"), [(12, 120), (12, 600), (20, 400)])
def test_standard_error_covers_the_truth(units, budget):
    """Over many seeds the truth lies within 1.96 standard errors about 95 % of the time, and φ is unbiased."""
    rng = np.random.default_rng(7)
    pairs = np.array(list(itertools.combinations(range(units), 2)))
    triples = rng.choice(units, size=(30, 3))
    triples = triples[
        (triples[:, 0] != triples[:, 1]) & (triples[:, 1] != triples[:, 2]) & (triples[:, 0] != triples[:, 2])
    ]
    w2, w3 = rng.normal(size=(3, len(pairs))), rng.normal(size=(3, len(triples))) * 3
    truth = np.zeros((3, units))  # unanimity games share their worth evenly
    for members, w in ((pairs, w2), (triples, w3)):
        for member, worth in zip(members, w.T, strict=True):
            truth[:, member] += worth[:, None] / len(member)
    inside, deviations = 0, []
    repeats = 150
    for seed in range(repeats):
        plan = coalitions(units, budget, seed)
        z = plan.masks
        values = w2 @ z[:, pairs].all(axis=2).T.astype(float) + w3 @ z[:, triples].all(axis=2).T.astype(float)
        phi, stderr = kernel_shapley(values, empty=np.zeros(3), grand=(w2.sum(axis=1) + w3.sum(axis=1)), plan=plan)
        inside += int((np.abs(phi - truth) < 1.96 * stderr).sum())
        deviations.append((phi - truth) / stderr)
    coverage = inside / (repeats * truth.size)
    assert 0.925 < coverage < 0.975, coverage
    spread = np.array(deviations)
    assert np.abs(spread.mean(axis=0)).max() < 5 / np.sqrt(repeats)


def test_few_coalitions_warn_and_too_few_are_refused(rng, table, formula, smooth_function):
    x, b = table(rng.normal(size=(2, 15))), table(rng.normal(size=(3, 15)))
    target = np.zeros(2, dtype=np.int64)
    with pytest.warns(BudgetWarning, match="fewer than 10 per unit"):
        KernelShap(budget=100)(formula(smooth_function), x, target=target, background=b, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KernelShap(budget=150)(formula(smooth_function), x, target=target, background=b, seed=0)
    with pytest.raises(InputError, match="too small for 15 units"):
        KernelShap(budget=20)(formula(smooth_function), x, target=target, background=b, seed=0)
    with pytest.raises(InputError, match=r"2\^15 coalitions"):
        ExactShapley()(formula(smooth_function), x, target=target, background=b, seed=0)


def test_constant_features_get_exactly_zero_also_when_sampled(rng, table, formula, smooth_function):
    x, b = rng.normal(size=(3, 14)), rng.normal(size=(8, 14))
    b[:, 4] = x[0, 4]  # constant and equal to row 0's own
    x[:, 9] = b[:, 9] = np.nan  # missing everywhere
    model = formula(lambda v: smooth_function(np.nan_to_num(v)))
    e = KernelShap(budget=400)(model, table(x), target=np.zeros(3, dtype=np.int64), background=table(b), seed=0)
    assert e.values[0, 4] == 0
    assert e.stderr[0, 4] == 0
    assert (e.values[1:, 4] != 0).all()
    assert (e.values[:, 9] == 0).all()
    assert np.abs(e.residual).max() < 1e-9
    same = KernelShap(budget=400)(
        model, table(b[[0]]), target=np.zeros(1, dtype=np.int64), background=table(b[[0]]), seed=0
    )
    assert (same.values == 0).all()


@pytest.mark.parametrize("explainer", [ExactShapley(), KernelShap(budget=200)], ids=lambda e: e.kind)
def test_rows_do_not_depend_on_their_order_or_company(explainer, rng, table, formula, smooth_function):
    x, b = rng.normal(size=(9, 9)), rng.normal(size=(11, 9))
    inputs, background, model = table(x), table(b), formula(smooth_function)
    target = np.zeros(9, dtype=np.int64)
    whole = explainer(model, inputs, target=target, background=background, seed=4)
    order = rng.permutation(9)
    shuffled = explainer(model, inputs.take(order), target=target, background=background, seed=4)
    np.testing.assert_allclose(shuffled.values, whole.values[order], atol=1e-12)
    assert (shuffled.row_ids == order).all()
    alone = explainer(model, inputs.take([5]), target=target[:1], background=background, seed=4)
    np.testing.assert_allclose(alone.values, whole.values[[5]], atol=1e-12)
    if whole.stderr is not None:
        np.testing.assert_allclose(alone.stderr, whole.stderr[[5]], atol=1e-12)


def test_groups_are_units(rng, table, formula, smooth_function):
    x, b, w = rng.normal(size=(4, 6)), rng.normal(size=(20, 6)), rng.normal(size=6)
    explainer = KernelShap(groups={"pair": ["x4", "x1"], "rest": ["x2"]})
    e = explainer(formula(lambda v: v @ w), table(x), target=np.zeros(4, dtype=np.int64), background=table(b), seed=0)
    single = (x - b.mean(axis=0)) * w
    assert e.units == ("x0", "pair", "rest", "x3", "x5")
    np.testing.assert_allclose(
        e.values, np.stack([single[:, 0], single[:, 1] + single[:, 4], single[:, 2], single[:, 3], single[:, 5]], 1)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 1},
        {"budget": 10.5},
        {"budget": True},
        {"rows": 0},
        {"scale": "log-odds"},
        {"background": {"from": "test"}},
        {"background": {"rows": 0}},
        {"background": {"row": 5}},
        {"background": 100},
        {"groups": {"a": "x0"}},
        {"groups": {"a": []}},
        {"groups": ["x0"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [KernelShap, ExactShapley], ids=lambda c: c.kind)
def test_nonsense_settings_are_refused_when_written_down(kind, options):
    with pytest.raises(InputError, match=kind.kind):
        kind(**options)


def test_memory_does_not_grow_with_rows_times_coalitions(rng, table, formula):
    import tracemalloc

    def peak(rows):
        x = table(rng.normal(size=(rows, 15)))
        tracemalloc.start()
        KernelShap(budget=2000)(
            formula(lambda v: v[:, 0] * v[:, 1]),
            x,
            target=np.zeros(rows, dtype=np.int64),
            background=x.take([0]),
            seed=0,
        )
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    some, more = peak(600), peak(1800)
    assert more < some + 2**21  # 1,200 rows × 2,000 coalitions would be another 18 MiB
    assert more < 64 * 2**20
