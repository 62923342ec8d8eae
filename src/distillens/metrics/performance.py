"""How well a model predicts the labels. Functions of (b, n) row weights, as in prediction.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from distillens.similarity import Floats

Statistic = Callable[[Floats], Floats]


def _by_score(score: Floats, positive: NDArray[np.bool_]) -> Callable[[Floats], tuple[Floats, Floats]]:
    """A function of weights giving the mass of positives and negatives at each distinct score, ascending: two (b, u)."""
    unique, codes = np.unique(score, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(unique)))
    is_positive = positive[order].astype(np.float64)

    def masses(weights: Floats) -> tuple[Floats, Floats]:
        ordered = weights[:, order]
        above = ordered * is_positive
        return np.add.reduceat(above, starts, axis=1), np.add.reduceat(ordered - above, starts, axis=1)

    return masses


def roc_auc(score: Floats, positive: NDArray[np.bool_]) -> Statistic:
    """Area under the ROC curve, ties counting one half (Mann-Whitney); a function of weights, NaN without both classes."""
    masses = _by_score(score, positive)

    def of(weights: Floats) -> Floats:
        p, q = masses(weights)
        below = np.cumsum(q, axis=1) - q / 2
        with np.errstate(invalid="ignore", divide="ignore"):  # one class missing: NaN
            return np.asarray((p * below).sum(axis=1) / (p.sum(axis=1) * q.sum(axis=1)))

    return of


def gini(score: Floats, positive: NDArray[np.bool_]) -> Statistic:
    """2 AUC − 1; a function of weights."""
    auc = roc_auc(score, positive)
    return lambda weights: 2 * auc(weights) - 1


def average_precision(score: Floats, positive: NDArray[np.bool_]) -> Statistic:
    """Σ (R_k − R_{k−1}) P_k over the distinct thresholds, without interpolation; a function of weights."""
    masses = _by_score(score, positive)

    def of(weights: Floats) -> Floats:
        p, q = (m[:, ::-1] for m in masses(weights))
        true, everything = np.cumsum(p, axis=1), np.cumsum(p + q, axis=1)
        precision = np.divide(true, everything, out=np.zeros_like(true), where=everything > 0)
        with np.errstate(invalid="ignore", divide="ignore"):  # no positives: NaN
            return np.asarray((p * precision).sum(axis=1) / p.sum(axis=1))

    return of


def kolmogorov_smirnov(score: Floats, positive: NDArray[np.bool_]) -> Statistic:
    """max |F₁ − F₀| of the two classes' score distributions; a function of weights."""
    masses = _by_score(score, positive)

    def of(weights: Floats) -> Floats:
        p, q = (np.cumsum(m, axis=1) for m in masses(weights))
        with np.errstate(invalid="ignore", divide="ignore"):  # one class missing: NaN
            return np.asarray(np.abs(p / p[:, -1:] - q / q[:, -1:]).max(axis=1))

    return of


def log_loss(log_probabilities: Floats, labels: NDArray[np.int64]) -> Floats:
    """(n,) −log p of the true class from (n, K) log-probabilities."""
    return np.asarray(-log_probabilities[np.arange(len(labels)), labels])
