"""Similarities of structures: against scikit-learn and counting by hand; the same model gives 1."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from distillens.data.base import Column, Split, Table
from distillens.errors import InputError
from distillens.frontier.stability import Structure, adjusted_rand, alike, jaccard, stability
from distillens.frontier.structure import Grid, importance, structure
from distillens.students.additive import AdditiveStudent
from distillens.students.linear import LinearStudent
from distillens.students.rules import RulesStudent
from distillens.students.scorecard import ScorecardStudent
from distillens.students.tree import TreeStudent
from distillens.transfer.targets import Targets

COLUMNS = (Column("a"), Column("b"), Column("c", "categorical", ("x", "y", "z")), Column("noise"))


def rows(n: int, seed: int) -> Table:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 4))
    values[:, 2] = rng.integers(0, 3, n)
    return Table(values, COLUMNS, np.arange(n))


def taught(table: Table, classes: tuple[str, ...] = ("no", "yes")) -> Targets:
    score = 1.5 * table.values[:, 0] + (table.values[:, 2] == 1) - np.abs(table.values[:, 1])
    p = 1 / (1 + np.exp(-score))
    if not classes:
        return Targets.from_outputs(Split(table), score[:, None], output="values", classes=())
    return Targets.from_outputs(Split(table), np.column_stack([1 - p, p]), output="probabilities", classes=classes)


@pytest.mark.parametrize("seed", range(8))
def test_adjusted_rand_is_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 1 + seed, 60)
    b = np.where(rng.random(60) < 0.7, a * 3 + 1, rng.integers(0, 4, 60))
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b), abs=1e-12)
    assert adjusted_rand(a, b) == adjusted_rand(b, a)
    assert adjusted_rand(a, 7 - a) == 1  # names of groups do not matter


def test_adjusted_rand_by_pairs_of_rows() -> None:
    a, b = np.array([0, 0, 1, 1, 2, 2, 2]), np.array([0, 0, 0, 1, 1, 2, 2])
    pairs = list(combinations(range(7), 2))
    both = sum(a[i] == a[j] and b[i] == b[j] for i, j in pairs)
    first, second = (sum(x[i] == x[j] for i, j in pairs) for x in (a, b))
    chance = first * second / len(pairs)
    assert adjusted_rand(a, b) == pytest.approx((both - chance) / ((first + second) / 2 - chance))


def test_trivial_partitions_and_empty_sets_are_the_same_as_themselves() -> None:
    one, apart = np.zeros(5, dtype=np.int64), np.arange(5)
    assert adjusted_rand(one, one) == adjusted_rand(apart, apart) == 1
    assert adjusted_rand(one, apart) == 0
    assert jaccard(frozenset(), frozenset()) == 1
    assert jaccard(frozenset({1}), frozenset()) == 0
    assert jaccard(frozenset({1, 2, 3}), frozenset({2, 3, 4, 5})) == pytest.approx(2 / 5)
    with pytest.raises(InputError, match="same rows"):
        adjusted_rand(one, np.zeros(4, dtype=np.int64))


STUDENTS = [TreeStudent(max_leaves=6), RulesStudent(max_rules=4), ScorecardStudent(), LinearStudent(),
            AdditiveStudent(outer_bags=1, interactions=1, max_rounds=50)]  # fmt: skip


@pytest.mark.parametrize("student", STUDENTS, ids=lambda s: s.kind)
def test_a_model_is_like_itself_and_less_like_one_of_other_rows(student) -> None:
    seen = rows(300, 9)
    grid = Grid.of(seen)

    def of(seed: int) -> Structure:
        train = rows(60, seed)
        model = student.fit(taught(train), validation=Split(train), teacher=None, seed=0)
        return structure(model, seen, grid=grid, decision=None, seed=4)

    one, again, other = of(0), of(0), of(1)
    assert all(v == pytest.approx(1.0) for v in alike(one, again).values() if v is not None)
    found = alike(one, other)
    assert found["decisions"] is not None
    assert found["decisions"] < 1
    assert all(v is None or v <= 1 + 1e-12 for v in found.values())
    assert alike(other, one) == pytest.approx(found)


def test_what_is_read_off_a_tree_and_a_card() -> None:
    train = rows(400, 0)
    grid = Grid.of(train)
    fit = {"validation": Split(train), "teacher": None, "seed": 0}
    tree = TreeStudent(max_leaves=3).fit(taught(train), **fit)
    found = structure(tree, train, grid=grid, decision=None, seed=0)
    asked = [int(tree.encoding.feature[d]) for d in tree.feature if d >= 0]
    assert found.features == frozenset(asked)
    assert found.parts is not None
    assert len(found.parts) == 2
    assert found.partition is not None
    assert len(np.unique(found.partition)) == 3
    card = structure(ScorecardStudent().fit(taught(train), **fit), train, grid=grid, decision=None, seed=0)
    assert card.features is not None
    assert 0 in card.features
    assert card.partition is None
    # a threshold moved within its twentieth of the rows is the same condition, beyond it another
    edges = grid.edges[0]
    assert grid.cell(0, edges[3] + 1e-9) == grid.cell(0, edges[4] - 1e-9) != grid.cell(0, edges[4] + 1e-9)


def test_importance_is_the_mean_change_and_ignores_what_is_not_used() -> None:
    table = rows(200, 3)
    model = LinearStudent().fit(taught(table, ()), validation=Split(table), teacher=None, seed=0)
    found = importance(model, table, seed=5)
    rng = np.random.default_rng(5)
    expected = []
    for j in range(4):
        moved = table.values.copy()
        moved[:, j] = table.values[rng.permutation(200), j]
        expected.append(np.abs(model(table.with_values(moved)) - model(table)).mean())
    np.testing.assert_allclose(found, expected, atol=1e-12)
    tree = TreeStudent(max_leaves=2).fit(taught(table), validation=Split(table), teacher=None, seed=0)
    assert (importance(tree, table, seed=5) > 0).sum() == 1


def test_constant_models_have_no_order_of_importance() -> None:
    flat = Structure(
        frozenset(), frozenset(), np.zeros(4, dtype=np.int64), np.zeros(3), np.zeros(4, dtype=np.int64), True
    )
    assert alike(flat, flat) == {"features": 1, "parts": 1, "partition": 1, "importance": None, "decisions": 1}
    values = Structure(None, None, None, np.arange(3.0), np.ones(4), False)
    assert alike(values, values)["decisions"] is None
    assert stability([flat]) is None
    three = stability([flat, flat, flat])
    assert three is not None
    assert three["parts"] == {"value": 1.0, "low": 1.0, "high": 1.0, "pairs": 3}
    assert three["importance"] is None
