from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from distillens.errors import InputError
from distillens.explainers.coalitions import all_coalitions, coalitions, size_distribution


@settings(max_examples=60, deadline=None)
@given(units=st.integers(1, 40), budget=st.integers(2, 3000), seed=st.integers(0, 3))
def test_plans_keep_their_promises(units, budget, seed):
    assume(2**units - 2 <= budget or budget >= 2 * units)
    plan = coalitions(units, budget, seed)
    size = plan.masks.sum(axis=1)
    assert len(plan) <= budget
    assert len(np.unique(plan.masks, axis=0)) == len(plan)  # no coalition twice
    assert plan.exact == (2**units - 2 <= budget)
    assert ((size > 0) & (size < units)).all()
    if units > 1:
        assert plan.weights.sum() == pytest.approx(1)
        assert (plan.weights > 0).all()
    first, second = plan.masks[plan.enumerated :: 2], plan.masks[plan.enumerated + 1 :: 2]
    np.testing.assert_array_equal(first, ~second)
    assert len(plan.counts) == len(first)
    if not plan.exact:
        assert len(plan) >= 0.9 * budget - 1  # the budget is used
        # whole sizes, from the outside in, with the kernel's own weight
        p = size_distribution(units)
        for k in np.unique(size[: plan.enumerated]):
            assert (size == k).sum() == comb(units, k)
            np.testing.assert_allclose(plan.weights[size == k], p[k - 1] / comb(units, k))
    again = coalitions(units, budget, seed)
    np.testing.assert_array_equal(again.masks, plan.masks)
    np.testing.assert_array_equal(again.weights, plan.weights)


def test_another_seed_draws_other_coalitions():
    assert not np.array_equal(coalitions(20, 200, 0).masks, coalitions(20, 200, 1).masks)


def test_all_coalitions_are_the_kernel_itself():
    plan = coalitions(5, 30, 0)
    assert plan.exact
    size = plan.masks.sum(axis=1)
    raw = np.array([4 / (comb(5, k) * k * (5 - k)) for k in size])  # (M − 1) / (C(M, k) k (M − k))
    np.testing.assert_allclose(plan.weights, raw / raw.sum())
    assert all_coalitions(5).shape == (32, 5)


def test_sampled_sizes_follow_the_kernel():
    weight = np.zeros(24)
    for seed in range(40):
        plan = coalitions(25, 400, seed)
        weight += np.bincount(plan.masks.sum(axis=1), weights=plan.weights, minlength=25)[1:] / 40
    np.testing.assert_allclose(weight, size_distribution(25), atol=0.004)


def test_every_unit_is_drawn_equally_often():
    share = np.mean([coalitions(18, 500, s).weights @ coalitions(18, 500, s).masks for s in range(30)], axis=0)
    np.testing.assert_allclose(share, 0.5, atol=1e-12)  # antithetic pairs: exactly half, in every single plan


def test_budgets_that_cannot_work():
    with pytest.raises(InputError, match="at least 24"):
        coalitions(12, 23, 0)
    with pytest.raises(InputError, match="at least one unit"):
        coalitions(0, 100, 0)
