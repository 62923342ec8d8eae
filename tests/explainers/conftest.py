"""Tiny models and tables whose Shapley values are known in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from distillens.data.base import Column, Floats, Table
from distillens.models.base import Output, Scale


def numeric_table(values: Floats, *, first_id: int = 0, names: tuple[str, ...] = ()) -> Table:
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    named = names or tuple(f"x{j}" for j in range(values.shape[1]))
    return Table(
        values, tuple(Column(name) for name in named), np.arange(first_id, first_id + len(values), dtype=np.int64)
    )


@dataclass
class Formula:
    """A regression model from a function of (n, F) values; counts the rows it is asked for and remembers its largest batch."""

    function: Callable[[Floats], Floats]
    label: str = "formula"
    classes: tuple[str, ...] = ()
    output: Output = "values"
    fingerprint: str | None = None
    rows: int = 0
    largest: int = 0

    def __call__(self, inputs: Table) -> Floats:
        self.rows += len(inputs)
        self.largest = max(self.largest, len(inputs))
        out = np.asarray(self.function(inputs.values), dtype=np.float64)
        return out[:, None] if out.ndim == 1 else out


@dataclass
class Linear:
    """logits or values = X @ weight + bias, with its own contributions."""

    weight: Floats
    bias: Floats
    classes: tuple[str, ...] = ()
    output: Output = "values"
    label: str = "linear"
    fingerprint: str | None = "linear"
    contribution_scale: Scale = field(default="value")

    def __call__(self, inputs: Table) -> Floats:
        # einsum without BLAS: each row is computed alone, whatever the batch
        return np.einsum("nf,fk->nk", inputs.values, self.weight) + self.bias

    def contributions(self, inputs: Table) -> tuple[Floats, Floats]:
        return inputs.values[:, :, None] * self.weight[None], self.bias


def smooth(values: Floats) -> Floats:
    """A function with interactions of every order between neighbours."""
    rolled = np.roll(values, 1, axis=1)
    return np.tanh(values).sum(axis=1) + (np.sin(values) * rolled).sum(axis=1) + np.prod(np.cos(values / 2), axis=1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20)


@pytest.fixture
def table() -> Callable[..., Table]:
    return numeric_table


@pytest.fixture
def formula() -> type[Formula]:
    return Formula


@pytest.fixture
def linear() -> type[Linear]:
    return Linear


@pytest.fixture
def smooth_function() -> Callable[[Floats], Floats]:
    return smooth
