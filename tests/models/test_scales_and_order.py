"""Log-odds of one class against the rest, and outputs put in another order of the classes."""

from __future__ import annotations

import numpy as np

from distillens.data.base import Column, Table
from distillens.models.base import log_odds, on_scale
from distillens.models.callable import CallableModel, align_classes

LOGITS = np.random.default_rng(0).normal(scale=3, size=(50, 4))
P = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
ROWS = np.arange(50)


def test_log_odds_of_a_class_are_those_of_its_probability() -> None:
    target = np.arange(50) % 4
    p = P[ROWS, target]
    expected = np.log(p / (1 - p))
    np.testing.assert_allclose(log_odds(LOGITS, output="logits", target=target), expected, rtol=1e-9)
    np.testing.assert_allclose(log_odds(P, output="probabilities", target=target), expected, rtol=1e-9)
    np.testing.assert_allclose(
        on_scale(LOGITS + 7, output="logits", target=target, scale="log_odds"), expected, rtol=1e-9
    )
    np.testing.assert_allclose(on_scale(LOGITS, output="logits", target=target, scale="probability"), p, rtol=1e-12)
    two = LOGITS[:, :2]
    np.testing.assert_allclose(log_odds(two, output="logits", target=0), two[:, 0] - two[:, 1])


def test_classes_in_a_cycle_go_where_their_names_say() -> None:
    """A cycle of three is not its own inverse, as a swap is."""
    table = Table(np.zeros((50, 1)), (Column("x"),), ROWS)
    model = CallableModel(lambda t: P[: len(t)], ("a", "b", "c", "d"), "probabilities", "model")
    aligned = align_classes(model, ("c", "a", "b", "d"))
    np.testing.assert_array_equal(aligned(table), P[:, [2, 0, 1, 3]])
