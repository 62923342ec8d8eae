from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from distillens.errors import InputError
from distillens.explainers.sensitivity import background_sensitivity, draws
from distillens.explainers.shapley import ExactShapley, KernelShap


def test_a_linear_model_moves_with_the_background_mean(rng, table, formula):
    w, x = np.array([1.0, -2.0, 0.5]), rng.normal(size=(6, 3))
    backgrounds = {
        name: table(rng.normal(size=(10, 3)) + shift) for name, shift in (("near", 0), ("far", 3), ("low", -1))
    }
    s = background_sensitivity(
        formula(lambda v: v @ w), table(x), ExactShapley(), backgrounds=backgrounds, target=np.zeros(6, dtype=np.int64)
    )
    means = np.stack([b.values.mean(axis=0) for b in backgrounds.values()])
    np.testing.assert_allclose(s.moved.spread, np.tile(np.abs(w) * means.std(axis=0, ddof=1), (6, 1)), atol=1e-10)
    assert (s.moved.sampling == 0).all()
    phi = np.stack([(x - m) * w for m in means])
    top = np.abs(phi).argmax(axis=2)
    np.testing.assert_allclose(s.moved.same_top, [(top[[0, 0, 1], i] == top[[1, 2, 2], i]).mean() for i in range(6)])
    for i in range(6):
        pairs = [spearmanr(np.abs(phi[a, i]), np.abs(phi[b, i])).statistic for a, b in ((0, 1), (0, 2), (1, 2))]
        np.testing.assert_allclose(s.moved.rank_correlation[i], np.mean(pairs))
    record = json.loads(json.dumps(s.to_json()))
    assert list(record["backgrounds"]) == ["near", "far", "low"]
    np.testing.assert_allclose(record["units"]["x1"]["spread"], s.moved.spread[0, 1])


def test_the_same_background_twice_does_not_move_reasons(rng, table, formula, smooth_function):
    x, b = table(rng.normal(size=(3, 14))), table(rng.normal(size=(5, 14)))
    s = background_sensitivity(
        formula(smooth_function),
        x,
        KernelShap(budget=300),
        backgrounds={"a": b, "b": b},
        target=np.zeros(3, dtype=np.int64),
    )
    assert (s.moved.spread == 0).all()
    assert (s.moved.same_top == 1).all()
    np.testing.assert_allclose(s.moved.rank_correlation, 1)
    assert (s.moved.sampling > 0).all()  # sampled coalitions, and the record says how much that alone may move


def test_rows_without_reasons_have_no_ranking(rng, table, formula):
    x = table(rng.normal(size=(2, 3)))
    s = background_sensitivity(
        formula(lambda v: np.zeros(len(v))), x, ExactShapley(), backgrounds=draws(x, rows=1, repeats=2, seed=0),
        target=np.zeros(2, dtype=np.int64),
    )  # fmt: skip
    assert np.isnan(s.moved.rank_correlation).all()
    assert s.to_json()["rank_correlation"] is None
    assert s.to_json()["rows_without_ranking"] == 2


def test_draws_are_rows_of_the_source_and_repeat(rng, table):
    source = table(rng.normal(size=(30, 2)))
    made = draws(source, rows=10, repeats=3, seed=1)
    assert list(made) == ["draw 1", "draw 2", "draw 3"]
    again = draws(source, rows=10, repeats=3, seed=1)
    for name, rows in made.items():
        assert len(set(rows.row_ids.tolist())) == 10
        np.testing.assert_array_equal(rows.values, source.values[rows.row_ids])
        np.testing.assert_array_equal(rows.row_ids, again[name].row_ids)
    assert (made["draw 1"].row_ids != made["draw 2"].row_ids).any()
    with pytest.raises(InputError, match="table of 30"):
        draws(source, rows=31, repeats=2, seed=0)
    with pytest.raises(InputError, match="at least two"):
        background_sensitivity(
            None, source, ExactShapley(), backgrounds={"one": source}, target=np.zeros(30, dtype=np.int64)
        )
