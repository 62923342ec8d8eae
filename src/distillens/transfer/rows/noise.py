"""Noise queries: rows of the data, moved a little. They show the student how the teacher's answer changes around each row.

The black-box counterpart of matching input gradients (Srinivas and Fleuret 2018, "Knowledge Transfer with Jacobian
Matching", section 3: matching outputs under small noise matches Jacobians).
"""

from __future__ import annotations

import math

import numpy as np

from distillens.data.base import Column, Floats, Table
from distillens.errors import DataError, InputError


def noisy(train: Table, *, rows: int, seed: int, scale: float = 0.3, swap: float = 0.1) -> Table:
    """(rows, F) rows of the data with noise, row ids −1, from as equal a number of copies of every row as possible.

    Numbers: normal noise with `scale` times the column's standard deviation, held inside the range seen; columns of whole
    numbers stay whole. Categories and booleans: with probability `swap` the value of another row. Missing stays missing.
    Raises DataError for fewer than two rows, InputError for impossible numbers.
    """
    if len(train) < 2:
        raise DataError(f"Noise is measured by the spread of at least two rows, and there are {len(train)}.")
    if not (scale > 0 and math.isfinite(scale)) or not 0 <= swap <= 1 or rows < 0:
        raise InputError(
            f"Noise queries need scale > 0, 0 ≤ swap ≤ 1 and rows ≥ 0, got {scale!r}, {swap!r} and {rows!r}."
        )
    rng = np.random.default_rng(seed)
    n, f = train.values.shape
    copies = [rng.permutation(n) for _ in range(math.ceil(rows / n))]
    base = np.concatenate(copies)[:rows] if copies else np.empty(0, dtype=np.int64)
    values = train.values[base]
    drawn, swapped = rng.standard_normal((rows, f)), rng.random((rows, f)) < swap
    donor = (base[:, None] + rng.integers(1, n, size=(rows, f))) % n
    for j, column in enumerate(train.columns):
        seen = train.values[~np.isnan(train.values[:, j]), j]
        if column.kind != "numeric":
            values[:, j] = np.where(swapped[:, j], train.values[donor[:, j], j], values[:, j])
        elif len(seen):
            values[:, j] = as_seen(values[:, j] + scale * seen.std() * drawn[:, j], seen, column)
    return train.with_values(values)


def as_seen(values: Floats, seen: Floats, column: Column) -> Floats:
    """(n,) numbers held inside the range of the (m ≥ 1,) numbers seen, and whole where all of those are."""
    if column.kind == "numeric" and bool((seen == np.round(seen)).all()):
        values = np.round(values)
    return np.clip(values, seen.min(), seen.max())
