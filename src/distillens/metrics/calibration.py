"""Do probabilities mean what they say? Brier, slope and intercept, net benefit, reliability bins, debiased ECE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from distillens.similarity import Floats

Statistic = Callable[[Floats], Floats]


def brier(probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """(n,) squared error: (p − y)² of class 1 for two classes, Σ_k (p_k − y_k)² for more (Brier 1950)."""
    truth = np.eye(probabilities.shape[1])[labels]
    squared = ((probabilities - truth) ** 2).sum(axis=1)
    return np.asarray(squared / 2 if probabilities.shape[1] == 2 else squared)


def net_benefit(decided: NDArray[np.bool_], positive: NDArray[np.bool_], threshold: float) -> Floats:
    """(n,) true positives minus false positives × t / (1 − t) (Vickers and Elkin 2006)."""
    return (decided & positive) - (decided & ~positive) * (threshold / (1 - threshold))


def _newton(
    log_odds: Floats, positive: Floats, weights: Floats, *, slope: bool, start: tuple[float, float], steps: int
) -> tuple[Floats, Floats]:
    """Weighted logistic regression of (n,) labels on (n,) log-odds for b weightings: intercepts (b,), slopes (b,).

    Without `slope` it stays 1. NaN where the fit does not settle: separated classes or a constant score.
    """
    a, s = np.full(len(weights), start[0]), np.full(len(weights), start[1])
    out = np.full((2, len(weights)), np.nan)
    active = np.arange(len(weights))
    powers = np.stack([np.ones_like(log_odds), log_odds, log_odds**2], axis=1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # separated draws run away and become NaN
        for _ in range(steps):
            p = expit(a[:, None] + s[:, None] * log_odds)
            w = weights if len(active) == len(weights) else weights[active]
            g0, g1 = ((w * (positive - p)) @ powers[:, :2]).T
            h00, h01, h11 = ((w * (p * (1 - p))) @ powers).T
            if slope:
                determinant = h00 * h11 - h01**2
                singular = determinant <= 1e-12 * h00 * h11
                da = np.where(singular, np.nan, (h11 * g0 - h01 * g1) / determinant)
                ds = np.where(singular, np.nan, (h00 * g1 - h01 * g0) / determinant)
            else:
                da, ds = g0 / h00, np.zeros(len(active))
            da, ds = np.clip(da, -4, 4), np.clip(ds, -4, 4)
            a, s = a + da, s + ds
            # steps shrink quadratically: after one of 1e-6 the error is about 1e-12
            settled = (np.abs(da) < 1e-6) & (np.abs(ds) < 1e-6)
            out[:, active[settled]] = a[settled], s[settled]
            going = ~settled & ~np.isnan(da) & ~np.isnan(ds)
            active, a, s = active[going], a[going], s[going]
            if not active.size:
                break
    return out[0], out[1]


def _calibration(log_odds: Floats, positive: NDArray[np.bool_], *, slope: bool) -> Statistic:
    y = positive.astype(np.float64)
    start: tuple[float, float] | None = None

    def fit(weights: Floats, begin: tuple[float, float], steps: int) -> tuple[Floats, Floats]:
        a, s = _newton(log_odds, y, weights, slope=slope, start=begin, steps=steps)
        lost = np.isnan(a)
        if slope and lost.any():
            # From a slope of 1, probabilities near 0 and 1 (leaves that are certain) throw the first step beyond return; from the
            # fit without a score, where every row has the same curvature, it comes home.
            a[lost], s[lost] = _newton(log_odds, y, weights[lost], slope=True, start=(0.0, 0.0), steps=40)
        return a, s

    def of(weights: Floats) -> Floats:
        nonlocal start
        if start is None:  # resamples start from the solution of all rows: three or four steps instead of ten
            a, s = fit(np.ones((1, len(y))), (0.0, 1.0), 40)
            start = (float(a[0]), float(s[0])) if np.isfinite(a[0] + s[0]) else (0.0, 1.0)
        a, s = fit(weights, start, 25)
        return s if slope else a

    return of


def calibration_slope(log_odds: Floats, positive: NDArray[np.bool_]) -> Statistic:
    """Slope of logit P(y) = a + b · log-odds (Cox 1958); a function of weights. NaN when the classes separate."""
    return _calibration(log_odds, positive, slope=True)


def calibration_intercept(log_odds: Floats, positive: NDArray[np.bool_]) -> Statistic:
    """Calibration in the large: a of logit P(y) = a + log-odds; a function of weights."""
    return _calibration(log_odds, positive, slope=False)


@dataclass(frozen=True, eq=False)
class Bins:
    """Equal-mass reliability bins: (n,) bin of each row and the number of bins."""

    members: NDArray[np.int64]
    number: int


def equal_mass_bins(probability: Floats, *, bins: int = 10, smallest: int = 10) -> Bins:
    """At most `bins` bins of about equal numbers of rows, at least `smallest` each; equal probabilities stay together."""
    number = max(1, min(bins, len(probability) // smallest))
    edges = np.unique(np.quantile(probability, np.linspace(0, 1, number + 1)[1:-1])) if number > 1 else np.zeros(0)
    members = np.searchsorted(edges, probability, side="left")
    _, members = np.unique(members, return_inverse=True)
    return Bins(members.astype(np.int64), int(members.max(initial=-1)) + 1)


def reliability(
    probability: Floats, positive: NDArray[np.bool_], weights: Floats, bins: Bins
) -> list[dict[str, float]]:
    """Each bin's mean probability, observed frequency and number of rows."""
    table = []
    for b in range(bins.number):
        rows = bins.members == b
        w = weights[rows]
        table.append({"mean": float(np.average(probability[rows], weights=w)),
                      "observed": float(np.average(positive[rows], weights=w)), "n": int(rows.sum())})  # fmt: skip
    return table


def ece(probability: Floats, positive: NDArray[np.bool_], bins: Bins, *, layers: int = 1) -> Statistic:
    """Root of Σ_b (n_b/n) [(ȳ_b − p̄_b)² − layers · ȳ_b (1 − ȳ_b) / (n_b − 1)], floored at 0; a function of weights.

    The subtracted term removes the noise of ȳ_b (Kumar, Liang and Ma 2019, "Verified uncertainty calibration", eq. 7).
    A resample of rows carries that noise twice, so its draws are taken with layers=2.
    """
    onehot = (bins.members[:, None] == np.arange(bins.number)).astype(np.float64)
    each = np.concatenate([onehot, onehot * (positive - probability)[:, None], onehot * positive[:, None]], axis=1)

    def of(weights: Floats) -> Floats:
        mass, gaps, truth = np.split(weights @ each, 3, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):  # a bin without rows adds nothing
            gap, observed = gaps / mass, truth / mass
            noise = layers * observed * (1 - observed) / np.maximum(mass - 1, 1)
            squared = np.where(mass > 0, mass * (gap**2 - noise), 0.0).sum(axis=1) / mass.sum(axis=1)
        return np.asarray(np.sqrt(np.maximum(squared, 0.0)))

    return of
