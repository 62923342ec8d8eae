"""Pairs of coalitions: which are drawn, and what is made of games known on them only."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from distillens.errors import InputError
from distillens.explainers.coalitions import all_coalitions, size_distribution
from distillens.explainers.pairs import KernelPairs, WalkPairs, kernel_pairs, walk_pairs
from distillens.explainers.shapley import exact_shapley


def halves(game: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a plan is told about (c, 2^M) games."""
    index = masks @ (1 << np.arange(masks.shape[1]))
    return (game[:, index] - game[:, game.shape[1] - 1 - index]) / 2, game[:, -1] - game[:, 0]


def unanimity(units: int, order: int, number: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three games that are sums of products of `order` units: members (number, order), worths (3, number), Shapley values."""
    rng = np.random.default_rng(seed)
    members = np.array([rng.choice(units, order, replace=False) for _ in range(number)])
    worth = rng.normal(size=(3, number))
    phi = np.zeros((3, units))
    for who, each in zip(members, worth.T, strict=True):
        phi[:, who] += each[:, None] / order
    return members, worth, phi


def told(members: np.ndarray, worth: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    def values(z: np.ndarray) -> np.ndarray:
        return worth @ z[:, members].all(axis=2).T.astype(float)

    return (values(masks) - values(~masks)) / 2, worth.sum(axis=1)


@settings(max_examples=60, deadline=None)
@given(units=st.integers(2, 40), budget=st.integers(8, 3000), seed=st.integers(0, 3))
def test_plans_keep_their_promises(units, budget, seed):
    assume(2**units - 2 <= budget or budget >= 3 * units)
    plan = kernel_pairs(units, budget, seed)
    masks = plan.masks
    wanted = min(budget // 2, 2 ** (units - 1) - 1)
    assert abs(len(masks) - wanted) <= units // 2
    assert len(masks) <= budget // 2 or budget < 4 * units
    both = np.concatenate([masks, ~masks])
    assert len(np.unique(both, axis=0)) == len(both)  # no pair twice
    size = masks.sum(axis=1)
    assert size.min() == 1
    assert (np.bincount(size, minlength=units // 2 + 1)[1:] >= 1).all()  # every size up to half of the units …
    assert size.max() == units // 2  # … and its complements stand for the others
    np.testing.assert_allclose(plan.influence.sum(axis=1), 0, atol=1e-9)  # y moves attributions, never their sum
    np.testing.assert_array_equal(kernel_pairs(units, budget, seed).masks, masks)


def test_sizes_share_the_budget_and_small_ones_are_taken_whole():
    sizes = np.bincount(kernel_pairs(30, 2048, 0).masks.sum(axis=1))
    assert sizes[1] == 30
    assert sizes.sum() == 1024
    assert np.ptp(sizes[2:15]) <= 1
    assert abs(2 * sizes[15] - sizes[14]) <= 2  # a size whose complement is of the same size has half a share
    assert (kernel_pairs(30, 2048, 0).masks != kernel_pairs(30, 2048, 1).masks).any()


@settings(max_examples=40, deadline=None)
@given(units=st.integers(2, 7), seed=st.integers(0, 10_000))
def test_all_pairs_are_exact_and_leave_no_error(units, seed):
    game = np.random.default_rng(seed).normal(size=(4, 2**units))
    for plan in (kernel_pairs(units, 2**units - 2, seed), walk_pairs(units, 2**units, seed)):
        assert isinstance(plan, KernelPairs)
        assert len(plan.masks) == 2 ** (units - 1) - 1
        phi, variance = plan.solve(*halves(game, plan.masks))
        np.testing.assert_allclose(phi, exact_shapley(game), atol=1e-9)
        assert variance.max() == 0


@pytest.mark.parametrize("make", [kernel_pairs, walk_pairs])
@pytest.mark.parametrize("order", [1, 2])
def test_effects_of_one_and_two_units_are_exact(make, order):
    members, worth, truth = unanimity(20, order, 60, seed=1)
    plan = make(20, 160, 5)
    phi, variance = plan.solve(*told(members, worth, plan.masks))
    np.testing.assert_allclose(phi, truth, atol=1e-9)
    assert variance.max() < 1e-16


def test_the_regression_is_the_constrained_one():
    """φ solves the weighted least squares over S and its complement with Σ φ given, by its own Lagrange system."""
    plan = kernel_pairs(9, 120, 2)
    masks, rng = plan.masks, np.random.default_rng(0)
    half, total = rng.normal(size=(1, len(masks))), np.array([1.7])
    size = masks.sum(axis=1)
    p = size_distribution(9)
    weight = np.array([(p[s - 1] + p[9 - s - 1]) / (size == s).sum() for s in size])
    z = masks - 0.5
    system = np.block([[2 * (z.T * weight) @ z, np.ones((9, 1))], [np.ones((1, 9)), np.zeros((1, 1))]])
    expected = np.linalg.solve(system, np.concatenate([2 * (z.T * weight) @ half[0], total]))[:9]
    phi, variance = plan.solve(half, total)
    np.testing.assert_allclose(phi[0], expected, atol=1e-10)
    np.testing.assert_allclose(phi.sum(), 1.7)
    # HC3 by hand: every pair's residual over 1 − leverage, through its influence, less where the size was drawn from in good part
    c = np.linalg.svd(np.ones((1, 9)))[2][1:].T
    x = z @ c
    solved = np.linalg.solve(x.T @ (x * weight[:, None]), (x * weight[:, None]).T)
    residual = (half[0] - z @ expected) / (1 - np.einsum("pk,kp->p", x, solved))
    left = 1 - np.array([(size == s).sum() / math.comb(9, s) for s in size])
    np.testing.assert_allclose(variance[0], ((c @ solved) ** 2) @ (residual**2 * left), rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(units=st.integers(5, 9), seed=st.integers(0, 1000))
def test_walks_are_the_mean_over_orders_there_and_back(units, seed):
    plan = walk_pairs(units, 3 * 2 * (units - 1), seed)
    assert isinstance(plan, WalkPairs)
    game = np.random.default_rng(seed).normal(size=2**units)
    each = []
    for order in plan.orders:
        phi = np.zeros(units)
        for walk in (order, order[::-1]):
            inside = 0
            for unit in walk:
                phi[unit] += (game[inside | 1 << unit] - game[inside]) / 2
                inside |= 1 << unit
        each.append(phi)
    phi, variance = plan.solve(*halves(game[None], plan.masks))
    np.testing.assert_allclose(phi[0], np.mean(each, axis=0), atol=1e-12)
    np.testing.assert_allclose(variance[0], np.var(each, axis=0, ddof=1) / 3, atol=1e-12)


@pytest.mark.parametrize("make", [kernel_pairs, walk_pairs])
def test_the_error_is_unbiased_falls_with_the_root_of_the_budget_and_is_covered(make):
    """Means over 10 background rows' worth of plans with their units renamed, as cells.py uses them."""
    units, repeats, rows = 13, 120, 10
    members, worth, truth = unanimity(units, 3, 120, seed=3)
    rng = np.random.default_rng(4)
    errors = {}
    for budget in (240, 960):
        apart, inside = [], 0
        for seed in range(repeats):
            plan = make(units, budget, seed)
            phi, variance = np.zeros((3, units)), np.zeros((3, units))
            for _ in range(rows):
                order = rng.permutation(units)
                masks = np.empty_like(plan.masks)
                masks[:, order] = plan.masks
                part, error = plan.solve(*told(members, worth, masks))
                phi[:, order] += part / rows
                variance[:, order] += error / rows**2
            apart.append(phi - truth)
            inside += int((np.abs(phi - truth) < 1.96 * np.sqrt(variance)).sum())
        coverage = inside / (repeats * truth.size)
        assert 0.92 < coverage < 0.98, coverage
        spread = np.array(apart)
        assert np.abs(spread.mean(axis=0) / (spread.std(axis=0) / np.sqrt(repeats))).max() < 4.5
        errors[budget] = np.sqrt((spread**2).mean())
    assert (
        1.7 < errors[240] / errors[960] < 2.6
    )  # four times the budget, half the error (and less as drawing whole sizes sets in)


def test_budgets_that_cannot_work():
    with pytest.raises(InputError, match="116 or more"):
        walk_pairs(30, 100, 0)
    with pytest.raises(InputError, match="do not determine every attribution"):
        kernel_pairs(30, 40, 0)


def test_three_units_by_hand():
    """v(S) = 1 when S holds units 0 and 1, or unit 2 alone: three orders in which unit 2 comes first, and so on."""
    game = np.array([[0.0, 0, 0, 1, 1, 0, 0, 1]])
    plan = kernel_pairs(3, 6, 0)
    phi, _ = plan.solve(*halves(game, plan.masks))
    expected = np.zeros(3)
    for order in itertools.permutations(range(3)):
        inside = 0
        for unit in order:
            expected[unit] += (game[0, inside | 1 << unit] - game[0, inside]) / 6
            inside |= 1 << unit
    np.testing.assert_allclose(phi[0], expected, atol=1e-12)
    assert len(all_coalitions(3)) == 8
