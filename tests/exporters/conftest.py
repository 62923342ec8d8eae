"""Tables with everything that makes exports hard, and models of every family with random numbers in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from distillens.data.base import Column, Table
from distillens.models.additive import AdditiveModel, Term, bin_count
from distillens.models.encoding import Encoding
from distillens.models.linear import LinearModel
from distillens.models.tree import TreeModel, float32_floor

HOSTILE = (
    Column("age in years"),
    Column('say "hi" <script>alert(1)</script>', "categorical", ("a", "b c", "", "(missing)", "(unseen)")),
    Column("借款目的 🚗", "categorical", ("新车", "'; DROP TABLE", "<b>", "x" * 200)),
    Column("n" * 200, "boolean", ("no", "yes")),
    Column("flag", "boolean", ("0", "1")),
    Column("\u202eamount, EUR"),
)
CLASSES = {"binary": ("no", "<i>yes</i>"), "multiclass": ("a", "b", "ç 类"), "regression": ()}


def hostile_rows(n: int, *, seed: int = 0) -> Table:
    """Numbers far apart in size, missing values everywhere, unseen categories and booleans."""
    generator = np.random.default_rng(seed)
    values = np.column_stack([
        generator.normal(40, 12, n),
        generator.integers(-1, 5, n),
        generator.integers(-1, 4, n),
        generator.integers(-1, 2, n),
        generator.integers(-1, 2, n),
        np.exp(generator.normal(0, 8, n)) * generator.choice([-1, 1], n),
    ]).astype(np.float64)  # fmt: skip
    values[generator.random(values.shape) < 0.15] = np.nan
    return Table(values, HOSTILE, np.arange(n))


def width_of(task: str) -> int:
    return 3 if task == "multiclass" else 1


def linear(task: str, table: Table, seed: int = 1) -> LinearModel:
    generator = np.random.default_rng(seed)
    encoding = Encoding.fit(table)
    k, d = width_of(task), encoding.width
    return LinearModel(
        table.columns, CLASSES[task], "linear", encoding, generator.normal(size=(k, d)), generator.normal(size=k), np.zeros(d)
    )  # fmt: skip


def tree(task: str, table: Table, seed: int = 2, splits: int = 60) -> TreeModel:
    """Random splits at values that occur, breadth first, with random ways for the missing."""
    generator = np.random.default_rng(seed)
    encoding = Encoding.fit(table, standardize=False, fill_missing=False)
    encoded = encoding(table.values)
    nodes = 2 * splits + 1
    feature = np.full(nodes, -1, dtype=np.int64)
    threshold, left, right = np.zeros(nodes), np.full(nodes, -1, dtype=np.int64), np.full(nodes, -1, dtype=np.int64)
    for node in range(splits):
        feature[node] = generator.integers(encoding.width)
        seen = encoded[:, feature[node]]
        seen = seen[~np.isnan(seen)]
        threshold[node] = generator.choice(seen) if len(np.unique(seen)) > 2 else 0.5
        left[node], right[node] = 2 * node + 1, 2 * node + 2
    k = len(CLASSES[task]) or 1
    value = generator.dirichlet(np.ones(k), nodes) if CLASSES[task] else generator.normal(0, 1e4, (nodes, 1))
    return TreeModel(
        table.columns, CLASSES[task], "tree", encoding, feature, float32_floor(threshold), left, right,
        generator.random(nodes) < 0.5, value,
    )  # fmt: skip


def additive(task: str, table: Table, seed: int = 3) -> AdditiveModel:
    """One term a feature (booleans and one number without a cut), the same cuts again in a pair, and other cuts in another pair."""
    generator = np.random.default_rng(seed)
    k = width_of(task)

    def cuts_of(j: int, count: int) -> Any:
        column, seen = table.columns[j], table.values[:, j]
        if column.kind == "categorical":
            return np.empty(0)
        if column.kind == "boolean":
            return np.array([0.5])
        # values that occur as cuts: equality must go the same way in the file
        picked = np.unique(generator.choice(seen[~np.isnan(seen)], count).astype(np.float32)) if count else np.empty(0)
        return picked.astype(np.float64)

    def term(features: tuple[int, ...], cuts: tuple[Any, ...]) -> Term:
        bins = [bin_count(table.columns[j], c) for j, c in zip(features, cuts, strict=True)]
        return Term(features, cuts, generator.normal(size=(*bins, k)))

    single = [cuts_of(j, 40) for j in range(len(table.columns))]
    terms = [term((j,), (cuts,)) for j, cuts in enumerate(single)]
    terms += [
        term((0, 1), (single[0], single[1])),
        term((3, 5), (single[3], cuts_of(5, 7))),
        term((5,), (cuts_of(5, 0),)),
    ]
    return AdditiveModel(table.columns, CLASSES[task], "additive", generator.normal(size=k), tuple(terms))


def network(task: str, table: Table, seed: int = 4) -> Any:
    from distillens.models.nets.mlp import MLPSettings
    from distillens.models.torch_module import TabularNetwork, assemble

    net = MLPSettings(hidden=(16, 8), activation="gelu" if task == "multiclass" else "relu", dropout=0.1)
    encoding = Encoding.fit(table)
    module = assemble(net, encoding.width, CLASSES[task], mean=100.0, scale=25.0, seed=seed)
    return TabularNetwork(encoding, module, net, CLASSES[task])


FAMILIES: dict[str, Callable[..., Any]] = {"linear": linear, "tree": tree, "additive": additive, "network": network}


@pytest.fixture(scope="session")
def table() -> Table:
    return hostile_rows(3000)


@pytest.fixture(scope="session")
def models(table: Table) -> Callable[[str, str], Any]:
    """model(family, task): the same object each time, so that a network is built once."""
    made: dict[tuple[str, str], Any] = {}

    def model(family: str, task: str) -> Any:
        if (family, task) not in made:
            made[family, task] = FAMILIES[family](task, table)
        return made[family, task]

    return model
