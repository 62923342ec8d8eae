"""Interpolation queries: rows between a row of the data and the most similar other one.

SMOTE's idea (Chawla et al. 2002, section 4.2) with two differences: partners are sought by Gower's distance among all
rows, of whatever class, because the teacher says what the new row is; categories are drawn from the two rows, not
voted. The rows lie where the data lie, never outside: they refine the teacher's picture and do not extend it.
"""

from __future__ import annotations

import math

import numpy as np

from distillens.data.base import Table
from distillens.errors import DataError, InputError
from distillens.transfer.rows.manifold import nearest
from distillens.transfer.rows.noise import as_seen


def interpolated(train: Table, *, rows: int, seed: int, candidates: int = 200) -> Table:
    """(rows, F) rows between two, row ids −1, from as equal a number of copies of every row as possible.

    Each starts at a row, and goes a uniform share u of the way to the nearest of `candidates` other rows drawn anew (so that a
    row has many partners, and large data cost no more). Numbers: a + u (b − a), whole where the column is whole. Categories,
    and numbers of which one is missing: b's with probability u, else a's.
    Raises DataError for fewer than two rows, InputError for impossible numbers.
    """
    if rows < 0 or candidates < 1:
        raise InputError(f"Interpolation needs rows ≥ 0 and candidates ≥ 1, got {rows!r} and {candidates!r}.")
    if len(train) < 2:
        raise DataError(f"Interpolation is between two rows, and there are {len(train)}.")
    rng = np.random.default_rng(seed)
    n, f = train.values.shape
    made: list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = []
    for _ in range(math.ceil(rows / n)):
        order = rng.permutation(n)
        # Half of the rows look for a partner in the other half, and the other way round: nobody meets itself.
        halves = order[: n // 2], order[n // 2 :]
        partner = np.empty(n, dtype=np.int64)
        for own, others in (halves, halves[::-1]):
            pool = others[:candidates]
            partner[own] = pool[nearest(train.take(own), train.take(pool))[0]]
        base = rng.permutation(n)
        a, b, u = train.values[base], train.values[partner[base]], rng.random((n, 1))
        chosen = np.where(rng.random((n, f)) < u, b, a)
        mixed = a + u * (b - a)
        for j, column in enumerate(train.columns):
            seen = train.values[~np.isnan(train.values[:, j]), j]
            if column.kind == "numeric" and len(seen):
                between = ~np.isnan(mixed[:, j])
                chosen[between, j] = as_seen(mixed[between, j], seen, column)
        made.append(chosen)
    values = np.concatenate(made)[:rows] if made else np.empty((0, f))
    return train.with_values(values)
