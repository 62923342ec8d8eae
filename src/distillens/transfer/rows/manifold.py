"""How usual is a made-up row? Gower's distance to the nearest training row, held against the data's own nearest neighbours.

A query that no applicant resembles costs a small student capacity for answers nobody will ask for. The score is a
conformal p-value (Vovk, Gammerman and Shafer 2005, with the nearest-neighbour distance as measure of strangeness): a fresh
row of the training distribution scores below α in about a share α of cases.
Distance: Gower 1971, "A General Coefficient of Similarity": the mean over columns of |a − b| / range for numbers, 0 or 1
for categories. Missing is here a value of its own: 0 from itself, 1 from everything else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distillens.data.base import Floats, Ints, Table
from distillens.errors import DataError, InputError

CELLS = 4_000_000  # distances of one block: 32 MB


@dataclass(frozen=True, eq=False)
class Manifold:
    """Training rows and how far each lies from its nearest other. train: n rows. own: (n,) distances, ascending."""

    train: Table
    own: Floats

    @classmethod
    def of(cls, train: Table) -> Manifold:
        """Raises DataError for fewer than two rows."""
        if len(train) < 2:
            raise DataError(f"Nearest neighbours need at least two rows, and there are {len(train)}.")
        return cls(train, np.sort(nearest(train, train, skip_self=True)[1]))

    def score(self, rows: Table) -> Floats:
        """(m,) in (0, 1]: (1 + training rows at least as far from their nearest other) / (n + 1). High is usual."""
        distance = nearest(rows, self.train)[1]
        at_least = len(self.own) - np.searchsorted(self.own, distance - 1e-12, side="left")
        return np.asarray((1 + at_least) / (len(self.own) + 1), dtype=np.float64)

    def ratio(self, rows: Table) -> Floats:
        """(m,) distance to the nearest training row over the data's median one; infinite when half the rows have a twin."""
        distance, usual = nearest(rows, self.train)[1], float(np.median(self.own))
        return distance / usual if usual > 0 else np.where(distance > 0, np.inf, 0.0)

    def keep(self, rows: Table, *, least: float = 0.05) -> Table:
        """The rows that score at least `least`, in their order. InputError unless 0 ≤ least ≤ 1."""
        if not 0 <= least <= 1:
            raise InputError(f"The least score of a row to keep lies between 0 and 1, got {least!r}.")
        return rows.take(np.flatnonzero(self.score(rows) >= least))


def nearest(rows: Table, train: Table, *, skip_self: bool = False) -> tuple[Ints, Floats]:
    """(m,) positions of the nearest training row of each row, and Gower's distance to it; ties go to the first.

    skip_self: rows are the training rows themselves, and no row is its own neighbour. Ranges are those of `train`.
    Memory is bounded by `CELLS`. Raises DataError for other columns.
    """
    if rows.columns != train.columns:
        raise DataError("Distances are between rows of the same columns.")
    n, f = train.values.shape
    position, distance = np.empty(len(rows), dtype=np.int64), np.empty(len(rows))
    step = max(1, CELLS // max(n, 1))
    for start in range(0, len(rows), step):
        block = rows.values[start : start + step]
        total = np.zeros((len(block), n))
        for j, column in enumerate(train.columns):
            a, b = block[:, j, None], train.values[None, :, j]
            gap = np.abs(a - b)
            if column.kind == "numeric":
                seen = b[~np.isnan(b)]
                spread = float(np.ptp(seen)) if len(seen) else 0.0
                gap = np.minimum(gap / spread, 1.0) if spread > 0 else np.where(gap > 0, 1.0, gap)
            else:
                gap = np.where(gap > 0, 1.0, gap)
            missing = np.isnan(gap)
            if missing.any():
                gap = np.where(missing, np.isnan(a) != np.isnan(b), gap)
            total += gap
        if skip_self:
            total[np.arange(len(block)), start + np.arange(len(block))] = np.inf
        position[start : start + step] = total.argmin(axis=1)
        distance[start : start + step] = total.min(axis=1) / f
    return position, distance
