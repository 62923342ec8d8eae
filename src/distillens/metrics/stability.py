"""Population stability: how far the rows of now lie from the rows that a model was developed on.

    PSI = Σ_b (q_b − p_b) ln(q_b / p_b)

with p the shares of the reference rows (development) in B bins and q those of the current rows: the symmetric divergence of
Jeffreys, KL(p‖q) + KL(q‖p) (Lewis 1994; Siddiqi 2006). Conventions, because publications differ:

- bins: cut at the deciles of the *reference*, each cut belonging to the bin below it; fewer bins where values tie. A level of a
  categorical feature is a bin; missing values and unseen levels are bins of their own;
- empty bins: half an average row is added to every bin of both samples, so that no share is 0 and the index is finite;
- a bin that is empty in both samples is left out;
- weights: a row counts as often as its weight says, relative to the average weight of its sample.

Below 0.1 is commonly called stable, 0.1 to 0.25 some shift, above 0.25 a shift to act on. That is a convention and no test: without any
shift n reference and m current rows give about (1/n + 1/m) χ²_{B−1} (Yurdakul and Naranjo 2020, "Statistical properties of the population
stability index", J. Risk Model Validation 14(4)), which alone passes 0.1 where the rows are few. `unshifted` says how much that is.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from distillens.similarity import Floats

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

HALF = 0.5  # of an average row, added to every bin


def reference_cuts(reference: Floats, weights: Floats | None = None, *, bins: int = 10) -> Floats:
    """Up to bins − 1 ascending inner cuts at weighted quantiles of (n,) reference values without NaN; each is a value of theirs.

    The cut at share s is the smallest value at or below which at least s of the weight lies. A cut that no value exceeds is left out.
    """
    values, where = np.unique(reference, return_inverse=True)
    mass = np.bincount(where, weights=weights, minlength=len(values)).astype(np.float64)
    values, mass = values[mass > 0], mass[mass > 0]
    if not len(values):
        return np.empty(0)
    below = np.cumsum(mass) / mass.sum()
    wanted = np.linspace(0, 1, bins + 1)[1:-1]
    cuts = values[np.searchsorted(below, wanted - 1e-12, side="left")]
    return np.unique(cuts[cuts < values[-1]])


def members(values: Floats, cuts: Floats) -> Ints:
    """(n,) bin of each value: 0 … len(cuts), and len(cuts) + 1 for NaN."""
    bins = np.searchsorted(cuts, np.where(np.isnan(values), 0.0, values), side="left")
    return np.where(np.isnan(values), len(cuts) + 1, bins).astype(np.int64)


def psi(
    expected: Floats, actual: Floats, *, expected_row: Floats | float = 1.0, actual_row: Floats | float = 1.0
) -> Floats:
    """(b,) population stability index of (b, B) masses of the reference rows and of the current ones.

    expected_row, actual_row: (b,) mass of an average row of each sample, half of which is added to every bin. NaN where a sample has no mass.
    """
    used = (expected > 0).any(axis=0) | (actual > 0).any(axis=0)
    shares = []
    for masses, row in ((expected, expected_row), (actual, actual_row)):
        filled = masses[:, used] + HALF * np.reshape(np.broadcast_to(row, len(masses)), (-1, 1))
        with np.errstate(invalid="ignore", divide="ignore"):  # no rows at all: NaN
            shares.append(
                np.where(masses.sum(axis=1, keepdims=True) > 0, filled / filled.sum(axis=1, keepdims=True), np.nan)
            )
    p, q = shares
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=1))


def unshifted(bins: int, reference: float, current: float, *, level: float = 0.95) -> float:
    """The index that two samples of one population stay below with probability `level`: (1/n + 1/m) χ²_{B−1, level}; 0 for one bin."""
    if bins < 2:
        return 0.0
    return float((1 / reference + 1 / current) * chdtri(bins - 1, 1 - level))


def one_hot(bins: Ints, count: int) -> Bools:
    """(n, count) which bin each row is in."""
    return np.asarray(bins[:, None] == np.arange(count))


def score_psi(reference: Floats, values: Floats, weights: Floats, *, cuts: Floats) -> Floats:
    """The index of two scores of the same n rows, such as teacher and student; (b, n) weights → (b,)."""
    row = weights.sum(axis=1) / weights.shape[1]
    masses = [
        weights @ one_hot(members(score, cuts), len(cuts) + 1).astype(np.float64) for score in (reference, values)
    ]
    return psi(*masses, expected_row=row, actual_row=row)
