"""Monotone constraints: reading them, and counting how often a model breaks one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.errors import DataError
from distillens.models.base import evaluate, log_odds

if TYPE_CHECKING:
    from distillens.data.base import Column, Floats, Ints, Table
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
    changes, _ = moves(model, table, feature, sign, target=target, steps=steps)
    return float((sign * changes < -tolerance).mean())


def moves(
    model: Model, table: Table, feature: str, sign: int, *, target: int = 1, steps: int = 20
) -> tuple[Floats, Floats]:
    """(n, G−1) changes of the output from one grid value of `feature` to the next, all else as it is, and the (G,) grid.

    Raises DataError as `violations` does.
    """
    if sign not in (-1, 1):
        raise DataError(f"The sign of a monotone check must be -1 or +1, got {sign!r}.")
    signs({feature: sign}, table)
    j = table.index_of(feature)
    grid = grid_of(table, j, steps=steps)
    if len(grid) < 2:
        raise DataError(f"The feature {feature!r} has fewer than two different values here; there is nothing to check.")
    outputs = np.empty((len(table), len(grid)))
    for place, value in enumerate(grid):
        values = table.values.copy()
        values[:, j] = value
        answers = evaluate(model, table.with_values(values))
        outputs[:, place] = log_odds(answers, output=model.output, target=target)
    return np.diff(outputs, axis=1), grid


def listed(
    models: Mapping[str, Model],
    table: Table,
    monotone: Mapping[str, int],
    *,
    most: int = 5,
    rows: int = 1000,
    steps: int = 20,
    tolerance: float = 1e-9,
) -> list[dict[str, Any]]:
    """Where models move against the wanted directions, one entry a constraint: {feature, sign, rows, steps, models{name: found}}.

    found: {share: of the rows × steps that break it, rows: share of the rows that break it anywhere, worst[{row_id, low, high, change}]}, the
    `most` rows with the largest single move against `sign`, each at its worst step, in the user's values. steps is 0 and models is empty
    where the feature has fewer than two values here. Of longer tables, `rows` evenly spaced rows are asked.
    """
    entries: list[dict[str, Any]] = []
    if len(table) > rows:
        table = table.take(np.linspace(0, len(table) - 1, rows).astype(np.int64))
    for feature, sign in monotone.items():
        if not sign:
            continue
        j = table.index_of(feature)
        entry: dict[str, Any] = {"feature": feature, "sign": sign, "rows": len(table), "steps": 0, "models": {}}
        entries.append(entry)
        if len(grid_of(table, j, steps=steps)) < 2:
            continue
        for name, model in models.items():
            changes, grid = moves(model, table, feature, sign, steps=steps)
            against = np.maximum(-sign * changes, 0.0)
            broken = against > tolerance
            step = against.argmax(axis=1)
            size = against[np.arange(len(table)), step]
            order = [int(i) for i in np.argsort(-size, kind="stable")[:most] if size[i] > tolerance]
            entry["steps"] = len(grid) - 1
            entry["models"][name] = {
                "share": float(broken.mean()),
                "rows": float(broken.any(axis=1).mean()),
                "worst": [
                    {
                        "row_id": int(table.row_ids[i]),
                        "low": table.text_of(grid[step[i]], j),
                        "high": table.text_of(grid[step[i] + 1], j),
                        "change": float(changes[i, step[i]]),
                    }
                    for i in order
                ],
            }
    return entries


def grid_of(table: Table, j: int, *, steps: int = 20) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Up to `steps` + 1 ascending different values of a feature: quantiles of its known values, or codes 0 and 1."""
    column: Column = table.columns[j]
    if column.kind == "boolean":
        return np.array([0.0, 1.0])
    known = table.values[~np.isnan(table.values[:, j]), j]
    if not len(known):
        return np.empty(0)
    return np.unique(np.quantile(known, np.linspace(0, 1, steps + 1)))
