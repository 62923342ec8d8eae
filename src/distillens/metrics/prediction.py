"""Does the student answer as the teacher? Pure functions of the two models' answers.

Functions "of weights" take (b, n) row weights and return (b,) values: integer weights equal replicating rows, so that
one call evaluates a block of bootstrap resamples. A value that does not exist is NaN.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distillens.similarity import Floats

Ints = NDArray[np.int64]


def agrees(first: Ints, second: Ints, *, within: NDArray[np.bool_] | None = None) -> Floats:
    """(n,) 1 where two decisions are the same, else 0; NaN outside `within`."""
    same = (first == second).astype(np.float64)
    return same if within is None else np.where(within, same, np.nan)


def cohen_kappa(first: Ints, second: Ints, weights: Floats) -> Floats:
    """Cohen's κ = (p_o − p_e) / (1 − p_e) of two decisions (Cohen 1960); (b, n) weights → (b,).

    NaN where both always decide the same one class (p_e = 1).
    """
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):  # an empty draw is NaN
        observed = weights @ (first == second) / total
        expected = np.zeros(len(weights))
        for value in np.intersect1d(first, second):
            expected += (weights @ (first == value) / total) * (weights @ (second == value) / total)
        return np.where(expected < 1 - 1e-12, (observed - expected) / (1 - expected), np.nan)


def r2_to_teacher(reference: Floats, values: Floats, weights: Floats) -> Floats:
    """1 − Σ w (values − reference)² / Σ w (reference − mean)²; (b, n) weights → (b,). NaN for a constant reference.

    This is the share of variance reproduced as it stands, not a squared correlation: a shifted copy loses.
    """
    total = weights.sum(axis=1)
    centred = reference - reference.mean()  # for the digits; the weighted mean is removed below
    with np.errstate(invalid="ignore", divide="ignore"):  # an empty draw or a constant reference is NaN
        mean = weights @ centred / total
        variance = weights @ centred**2 - total * mean**2
        floor = 1e-20 * total * max(float(np.abs(reference).max(initial=0.0)) ** 2, 1e-300)
        return np.where(variance > floor, 1 - weights @ (values - reference) ** 2 / variance, np.nan)


def rmse(reference: Floats, values: Floats, weights: Floats) -> Floats:
    """Root mean squared difference; (b, n) weights → (b,)."""
    with np.errstate(invalid="ignore", divide="ignore"):  # an empty draw is NaN
        return np.asarray(np.sqrt(weights @ (values - reference) ** 2 / weights.sum(axis=1)))


def within(reference: Floats, values: Floats, tolerance: float) -> Floats:
    """(n,) 1 where |values − reference| ≤ tolerance, else 0."""
    return (np.abs(values - reference) <= tolerance).astype(np.float64)


def flips(teacher: Ints, student: Ints, labels: Ints) -> tuple[Floats, Floats]:
    """(n,) good flips (teacher wrong, student right) and (n,) bad flips (teacher right, student wrong)."""
    teacher_right, student_right = teacher == labels, student == labels
    return (~teacher_right & student_right).astype(np.float64), (teacher_right & ~student_right).astype(np.float64)


def error_copy_ratio(teacher_wrong: NDArray[np.bool_], student_wrong: NDArray[np.bool_], weights: Floats) -> Floats:
    """P(student wrong | teacher wrong) / P(student wrong); (b, n) weights → (b,). NaN when either never errs."""
    with np.errstate(invalid="ignore", divide="ignore"):  # no errors: NaN
        given = weights @ (teacher_wrong & student_wrong) / (weights @ teacher_wrong)
        return np.asarray(given / (weights @ student_wrong / weights.sum(axis=1)))
