"""Monotone constraints: reading them, and counting how often a model breaks one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from distillens.errors import DataError
from distillens.models.base import evaluate, log_odds

if TYPE_CHECKING:
    from distillens.data.base import Column, Ints, Table
    from distillens.models.base import Model


def signs(monotone: Mapping[str, int], table: Table) -> Ints:
    """(F,) −1, 0 or +1 per raw feature from constraints by name.

    DataError for an unknown feature (with a suggestion), another number, or a categorical feature, which has no order.
    """
    out = np.zeros(len(table.columns), dtype=np.int64)
    for name, sign in monotone.items():
        j = table.index_of(name)
        if isinstance(sign, bool) or sign not in (-1, 0, 1):
            raise DataError(f"The monotone constraint of {name!r} must be -1, 0 or +1, got {sign!r}.")
        if sign and table.columns[j].kind == "categorical":
            raise DataError(f"The feature {name!r} is categorical: it has no order, so it cannot be monotone.")
        out[j] = sign
    return out


def violations(
    model: Model, table: Table, feature: str, sign: int, *, target: int = 1, steps: int = 20, tolerance: float = 1e-9
) -> float:
    """Share of rows × grid steps at which the model moves against `sign` when only `feature` grows.

    The grid: up to `steps` + 1 quantiles of the feature's known values in `table`. The output: the log-odds of class index `target`
    (binary and multiclass) or the value. A move counts when it exceeds `tolerance`. For students and teachers alike.
    Raises DataError for a sign other than ±1, an unknown or categorical feature, or a feature with fewer than two values.
    """
    if sign not in (-1, 1):
        raise DataError(f"The sign of a monotone check must be -1 or +1, got {sign!r}.")
    signs({feature: sign}, table)
    j = table.index_of(feature)
    grid = grid_of(table, j, steps=steps)
    if len(grid) < 2:
        raise DataError(f"The feature {feature!r} has fewer than two different values here; there is nothing to check.")
    n = len(table)
    before = None
    bad = 0
    for value in grid:
        values = table.values.copy()
        values[:, j] = value
        outputs = evaluate(model, table.with_values(values))
        now = log_odds(outputs, output=model.output, target=target)
        if before is not None:
            bad += int((sign * (now - before) < -tolerance).sum())
        before = now
    return bad / (n * (len(grid) - 1))


def grid_of(table: Table, j: int, *, steps: int = 20) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Up to `steps` + 1 ascending different values of a feature: quantiles of its known values, or codes 0 and 1."""
    column: Column = table.columns[j]
    if column.kind == "boolean":
        return np.array([0.0, 1.0])
    known = table.values[~np.isnan(table.values[:, j]), j]
    if not len(known):
        return np.empty(0)
    return np.unique(np.quantile(known, np.linspace(0, 1, steps + 1)))
