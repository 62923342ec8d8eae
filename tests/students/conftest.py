"""Small synthetic tables with every kind of column, missing and unseen values, and hostile names."""

from __future__ import annotations

import numpy as np
import pytest

from distillens.data.base import Column, Split, Table
from distillens.transfer.targets import Targets

COLUMNS = (
    Column("age in years"),
    Column('<script>alert("f1")</script>'),
    Column("目的", "categorical", ("car", "tv, [radio]", "f0", "education < 5")),
    Column("owns 'phone'", "boolean", ("no", "yes")),
)
CLASSES = {"binary": ("good", "bad"), "multiclass": ("a", "b", "c"), "regression": ()}


class Case:
    """One task: a table with missing values, a smooth truth, and targets from labels and from a soft teacher."""

    def __init__(self, task: str, n: int = 240, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        values = np.column_stack([
            rng.integers(18, 80, n).astype(float),
            rng.normal(size=n),
            rng.integers(0, 4, n).astype(float),
            rng.integers(0, 2, n).astype(float),
        ])  # fmt: skip
        self.clean = Table(values.copy(), COLUMNS, np.arange(n))
        truth = (
            0.06 * (values[:, 0] - 45)
            + values[:, 1]
            + np.array([0.0, 1.0, -1.0, 0.5])[values[:, 2].astype(int)]
            + 0.7 * values[:, 3]
        )
        for j, share in ((0, 0.05), (2, 0.08), (3, 0.04)):
            values[rng.random(n) < share, j] = np.nan
        self.table = Table(values, COLUMNS, np.arange(n))
        self.classes = CLASSES[task]
        self.task = task
        self.weights = rng.integers(1, 4, n).astype(float)
        if task == "regression":
            outputs, output = truth[:, None], "values"
            labels = truth + rng.normal(scale=0.3, size=n)
        else:
            scores = [-truth / 2, truth / 2] if task == "binary" else [truth, -truth, 0.5 * values[:, 1]]
            outputs, output = np.column_stack(scores), "logits"
            p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
            labels = (rng.random(n)[:, None] > p.cumsum(axis=1)).sum(axis=1).astype(np.int64)
        self.train = Split(self.table, labels)
        self.validation = self.train.take(np.arange(0, n, 3))
        self.from_labels = Targets.from_labels(self.train, self.classes)
        self.soft = Targets.from_outputs(self.train, outputs, output=output, classes=self.classes)
        odd = values[:40].copy()  # rows that training never had: unseen codes and everything missing
        odd[:10, 2] = -1
        odd[5:15, 3] = -1
        odd[20] = np.nan
        odd[21:25, :2] = np.nan
        self.odd = self.table.with_values(odd)

    def targets(self, table: Table, outputs: np.ndarray, output: str, weights: np.ndarray | None = None) -> Targets:
        return Targets.from_outputs(Split(table, None, weights), outputs, output=output, classes=self.classes)


_made: dict[str, Case] = {}


def _case(task: str) -> Case:
    if task not in _made:
        _made[task] = Case(task)
    return _made[task]


@pytest.fixture(params=["binary", "multiclass", "regression"])
def case(request: pytest.FixtureRequest) -> Case:
    return _case(request.param)


@pytest.fixture
def binary() -> Case:
    return _case("binary")


@pytest.fixture
def multiclass() -> Case:
    return _case("multiclass")


@pytest.fixture
def regression() -> Case:
    return _case("regression")
