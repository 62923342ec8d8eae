"""Sampled plans: repeated pairs weigh more, the standard error is the jackknife's, and a missing value is not an idle one."""

from __future__ import annotations

import numpy as np

from distillens.explainers.coalitions import CoalitionPlan, coalitions
from distillens.explainers.shapley import _idle, kernel_shapley


def test_a_pair_drawn_twice_has_twice_the_weight() -> None:
    plan = coalitions(8, 80, seed=0)
    assert plan.counts.max() > plan.counts.min()
    each = plan.weights[plan.enumerated :: 2]
    np.testing.assert_allclose(each / plan.counts, each[0] / plan.counts[0])
    np.testing.assert_allclose(each, plan.weights[plan.enumerated + 1 :: 2])
    np.testing.assert_allclose(plan.weights.sum(), 1.0)


def without_one_draw(plan: CoalitionPlan, pair: int) -> CoalitionPlan:
    """The plan that one draw less of a pair would have given."""
    counts = plan.counts.copy()
    counts[pair] -= 1
    kept = np.repeat(counts > 0, 2)
    weights = np.repeat(plan.sampled_weight * counts / (2.0 * counts.sum()), 2)[kept]
    e = plan.enumerated
    return CoalitionPlan(
        plan.units,
        np.concatenate([plan.masks[:e], plan.masks[e:][kept]]),
        np.concatenate([plan.weights[:e], weights]),
        e,
        counts[counts > 0],
        False,
        plan.budget,
        plan.seed,
    )


def test_the_standard_error_is_that_of_the_jackknife_over_draws() -> None:
    plan = coalitions(9, 160, seed=1)
    draws = int(plan.counts.sum())
    assert draws > 1.3 * len(plan.counts)  # otherwise draws and pairs could not be told apart
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 9))

    def game(masks: np.ndarray) -> np.ndarray:
        z = masks.astype(float)
        return (z @ first + np.sin(z @ second) * 2 + z[:, 0] * z[:, 1] * z[:, 2] * 3 - z[:, 4] * z[:, 5])[None, :]

    ends = game(np.array([[False] * 9, [True] * 9]))
    empty, grand = ends[:, 0], ends[:, 1]
    _, stderr = kernel_shapley(game(plan.masks), empty=empty, grand=grand, plan=plan)
    assert stderr is not None
    estimates = []
    for pair in range(len(plan.counts)):
        less = without_one_draw(plan, pair)
        estimates.append(kernel_shapley(game(less.masks), empty=empty, grand=grand, plan=less)[0][0])
    weights = plan.counts / draws
    spread = np.array(estimates) - weights @ np.array(estimates)
    jackknife = np.sqrt((draws - 1) * (weights @ spread**2))
    np.testing.assert_allclose(stderr[0], jackknife, rtol=0.05)


def test_a_missing_value_is_idle_only_where_all_background_rows_miss_it_too() -> None:
    background = np.array([[np.nan, np.nan, 1.0, 1.0], [np.nan, 2.0, 1.0, 3.0]])
    x = np.array([[np.nan, np.nan, 1.0, 1.0], [0.0, 2.0, np.nan, 3.0]])
    columns = np.arange(4)
    np.testing.assert_array_equal(_idle(x, background, columns, 4), [[True, False, True, False], [False] * 4])
    together = np.array([0, 0, 1, 0])  # a group is idle when all its columns are
    np.testing.assert_array_equal(_idle(x, background, together, 2), [[False, True], [False, False]])
    last_agrees = np.array([1, 0, 0, 1])
    np.testing.assert_array_equal(_idle(x[:1], background, last_agrees, 2), [[False, False]])
