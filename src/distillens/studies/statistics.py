"""Differences between two mechanisms over seeds and test rows, and what may be said when many are looked at.

Every measure is a number y[s, r] for each seed s and test row r (was the row classified correctly? how alike are the two maps?). Seeds are
paired (the same initial weights, batches and labelled rows for every mechanism), rows are the same, so what is looked at is
d[s, r] = y_mechanism − y_reference. Both seeds and rows are drawn from many, and they are crossed:

    d[s, r] = μ + A_s + B_r + E_sr

The mean over rows of one seed is not enough (it says nothing about other rows), nor is a bootstrap of rows (five trained models are taken for
all models; a resample of five seeds is far too narrow as well). Readers and cases of medical imaging studies have this very design, and
their analysis is used here: Dorfman, Berbaum and Metz (1992, Investigative Radiology 27) with Hillis's degrees of freedom (2007, Statistics in
Medicine 26). From the mean squares of the two-way table without replication,

    V  = [MS_seed + max(MS_row − MS_error, 0)] / (S R)
    df = [MS_seed + max(MS_row − MS_error, 0)]² / [MS_seed² / (S − 1)]
    t  = mean(d) / √V,  interval mean(d) ± t_df √V

Exact for neither binary rows nor unequal variances, but close: tests/studies/test_statistics.py measures coverage and false alarms.

It covers training again with other seeds and other test rows of the same kind. It does not cover another teacher, other training rows or
another choice among the configurations that were tried: these are fixed.

Holm (1979, Scandinavian Journal of Statistics 6) corrects the p values of all mechanisms within one measure and one reference. Being equivalent
is two one-sided tests (Schuirmann 1987): the interval of level 1 − 2α lies inside ± a band that was named beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from distillens.errors import InputError
from distillens.estimate import Estimate

Floats = NDArray[np.float64]
METHOD = "crossed-t"


@dataclass(frozen=True)
class Difference:
    """mechanism − reference on one measure. p: two-sided, NaN where it cannot be had. p_holm: corrected within its family.

    estimate: mean difference with its interval (not corrected). seed_sd: deviation of the seeds' mean differences. wins: seeds on which the mechanism
    was ahead. equivalent: whether the 1 − 2α interval lies within the band; None without a band.
    """

    mechanism: str
    reference: str
    measure: str
    estimate: Estimate
    df: float
    p: float
    p_holm: float
    seed_sd: float
    wins: int
    seeds: int
    equivalent: bool | None = None

    def to_json(self) -> dict[str, Any]:
        record = asdict(self) | {"estimate": self.estimate.to_json()}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}


def crossed_t(differences: Floats, *, level: float = 0.95) -> tuple[Estimate, float, float]:
    """(estimate, degrees of freedom, two-sided p) of the mean of a (S, R) table of paired differences, without NaN.

    One seed or one row is insufficient; so is a table without any variation, but for one of zeros alone (two mechanisms that never
    differ), which has the estimate 0 and p = 1. Raises InputError for NaN and other shapes.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 2 or not np.isfinite(d).all():
        raise InputError(f"Differences are finite numbers by seed and row; got an array of shape {d.shape}.")
    seeds, rows = d.shape
    if seeds < 2 or rows < 2:
        return _missing(d, f"an interval over seeds and rows needs two of each, and there are {seeds} and {rows}")
    mean = float(d.mean())
    seed, row, error = mean_squares(d)
    spread = seed + max(row - error, 0.0)
    if spread <= 1e-24 * max(1.0, mean * mean):
        if mean == 0.0:
            return Estimate(0.0, 0.0, 0.0, level, "two", seeds * rows, 0, seeds, METHOD), float(seeds - 1), 1.0
        return _missing(d, "all differences are equal, so that nothing is known about their spread")
    # A table whose seeds do not differ at all rests on its rows alone.
    df = min(spread * spread * (seeds - 1) / (seed * seed), rows - 1.0) if seed > 0 else rows - 1.0
    deviation = math.sqrt(spread / (seeds * rows))
    half = -float(stdtrit(df, (1 - level) / 2)) * deviation
    p = 2 * float(stdtr(df, -abs(mean) / deviation))
    return Estimate(mean, mean - half, mean + half, level, "two", seeds * rows, 0, seeds, METHOD), df, p


def mean_squares(d: Floats) -> tuple[float, float, float]:
    """(MS_seed, MS_row, MS_error) of a two-way table (S, R) without replication."""
    seeds, rows = d.shape
    by_seed, by_row, mean = d.mean(axis=1), d.mean(axis=0), d.mean()
    error = d - by_seed[:, None] - by_row[None, :] + mean
    return (
        float(rows * ((by_seed - mean) ** 2).sum() / (seeds - 1)),
        float(seeds * ((by_row - mean) ** 2).sum() / (rows - 1)),
        float((error**2).sum() / ((seeds - 1) * (rows - 1))),
    )


def _missing(d: Floats, note: str) -> tuple[Estimate, float, float]:
    made = Estimate.missing("insufficient", note, n=d.size)
    return replace(made, value=float(d.mean()) if d.size else math.nan), math.nan, math.nan


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p values of Holm's step-down procedure, in the order given; NaN stays NaN and counts as a member of the family."""
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(np.where(np.isnan(values), np.inf, values), kind="stable")
    adjusted, highest, family = values.copy(), 0.0, len(values)
    for rank, index in enumerate(order):
        if math.isnan(values[index]):
            continue
        highest = max(highest, min(1.0, (family - rank) * values[index]))
        adjusted[index] = highest
    return [float(v) for v in adjusted]


def compare(
    tables: dict[str, Floats], reference: str, measure: str, *, level: float = 0.95, equivalence: float | None = None
) -> list[Difference]:
    """Every mechanism against one of them, by its (S, R) table; rows that are NaN for anybody are left out for all.

    Seeds in which the reference and the mechanism are both there are paired beforehand: all tables have the same seeds.
    """
    known = np.all([np.isfinite(table).all(axis=0) for table in tables.values()], axis=0)
    base = tables[reference][:, known]
    found = []
    for name, table in tables.items():
        if name == reference:
            continue
        d = table[:, known] - base
        estimate, df, p = crossed_t(d, level=level)
        means = d.mean(axis=1) if d.size else np.zeros(len(d))
        deviation = float(means.std(ddof=1)) if len(means) > 1 else math.nan
        same = None
        if equivalence is not None and estimate.status == "ok":
            inner = crossed_t(d, level=1 - 2 * (1 - level))[0]
            same = bool(-equivalence < inner.low and inner.high < equivalence)
        found.append(Difference(name, reference, measure, estimate, df, p, math.nan, deviation, int((means > 0).sum()), len(d), same))  # fmt: skip
    return [replace(difference, p_holm=p) for difference, p in zip(found, holm([f.p for f in found]), strict=True)]
