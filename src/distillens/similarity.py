"""Pure formulas with more than one caller: divergences of distributions, correlations of rows, weighted correlations, likeness of layers.

Rows are compared one by one: two (n, F) arrays in, (n,) values out, NaN where a value is undefined (a constant row).
`weights` of shape (b, n) evaluate b weightings at once; integer weights equal replicating rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def kl_divergence(log_p: Floats, log_q: Floats) -> Floats:
    """KL(p‖q) = Σ p (log p − log q) in nats of each row of (n, K) log-probabilities; p = 0 adds 0."""
    with np.errstate(invalid="ignore"):  # −inf − −inf where p = 0 is replaced by 0
        terms = np.where(np.isneginf(log_p), 0.0, np.exp(log_p) * (log_p - log_q))
    return np.asarray(np.maximum(terms.sum(axis=1), 0.0))


def js_divergence(log_p: Floats, log_q: Floats) -> Floats:
    """Jensen-Shannon divergence in nats of each row, between 0 and log 2."""
    log_mean = np.logaddexp(log_p, log_q) - np.log(2.0)
    return (kl_divergence(log_p, log_mean) + kl_divergence(log_q, log_mean)) / 2


def total_variation(p: Floats, q: Floats) -> Floats:
    """½ Σ |p − q| of each row of (n, K) probabilities."""
    return np.asarray(np.abs(p - q).sum(axis=1) / 2)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    out = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def cosine(a: Floats, b: Floats) -> Floats:
    """Cosine of each pair of rows; NaN where either is all zeros."""
    norms = np.sqrt((a * a).sum(axis=1)) * np.sqrt((b * b).sum(axis=1))
    return np.clip(_ratio((a * b).sum(axis=1), norms), -1.0, 1.0)


def pearson(a: Floats, b: Floats) -> Floats:
    """Pearson correlation of each pair of rows; NaN where either is constant."""
    a, b = _centred(a), _centred(b)
    return cosine(a, b)


def _centred(a: Floats) -> Floats:
    centred = a - a.mean(axis=1, keepdims=True)
    # a constant row leaves rounding errors, which must not correlate with anything
    size = np.abs(a).max(axis=1, keepdims=True, initial=0.0)
    constant = np.abs(centred).max(axis=1, keepdims=True, initial=0.0) <= 1e-12 * size
    return np.where(constant, 0.0, centred)


def midranks(a: Floats) -> Floats:
    """Ranks 1…F within each row, ties sharing their mean rank."""
    n, f = a.shape
    if f == 0:
        return np.zeros((n, 0))
    order = np.argsort(a, axis=1, kind="stable")
    ordered = np.take_along_axis(a, order, axis=1)
    new = np.ones((n, f), dtype=np.bool_)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    position = np.broadcast_to(np.arange(f), (n, f))
    first = np.maximum.accumulate(np.where(new, position, 0), axis=1)
    ends = np.ones((n, f), dtype=np.bool_)
    ends[:, :-1] = new[:, 1:]
    last = np.minimum.accumulate(np.where(ends, position, f)[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty((n, f))
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=1)
    return ranks


def spearman(a: Floats, b: Floats) -> Floats:
    """Spearman's rank correlation of each pair of rows, ties at their mean rank; NaN where either is constant."""
    return pearson(midranks(a), midranks(b))


def kendall_tau_b(a: Floats, b: Floats) -> Floats:
    """Kendall's tau-b of each pair of rows (ties corrected); NaN where either is constant. Memory n × F."""
    n, f = a.shape
    concordance, untied_a, untied_b = np.zeros(n), np.zeros(n), np.zeros(n)
    for j in range(f - 1):
        sign_a = np.sign(a[:, j + 1 :] - a[:, j : j + 1])
        sign_b = np.sign(b[:, j + 1 :] - b[:, j : j + 1])
        concordance += (sign_a * sign_b).sum(axis=1)
        untied_a += np.abs(sign_a).sum(axis=1)
        untied_b += np.abs(sign_b).sum(axis=1)
    return _ratio(concordance, np.sqrt(untied_a * untied_b))


def weighted_pearson(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Pearson correlation over n rows for each of b weightings. x, y: (n,) or (b, n); weights: (b, n) → (b,)."""
    total = weights.sum(axis=1)
    x = x - _ratio((weights * x).sum(axis=1), total)[:, None]
    y = y - _ratio((weights * y).sum(axis=1), total)[:, None]
    xx, yy, xy = (weights * x * x).sum(axis=1), (weights * y * y).sum(axis=1), (weights * x * y).sum(axis=1)
    floor = 1e-24 * total  # rounding of a constant
    scale_x, scale_y = np.max(np.abs(x), axis=1) ** 2 * floor, np.max(np.abs(y), axis=1) ** 2 * floor
    varies = (xx > scale_x) & (yy > scale_y)
    return np.clip(_ratio(xy, np.where(varies, np.sqrt(xx * yy), 0.0)), -1.0, 1.0)


def weighted_midranks(x: Floats, weights: Floats) -> Floats:
    """(b, n) mid-ranks of n values where each row counts `weights` times, up to a constant of each weighting."""
    unique, codes = np.unique(x, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(unique)))
    mass = np.add.reduceat(weights[:, order], starts, axis=1)
    return np.asarray((np.cumsum(mass, axis=1) - mass / 2)[:, codes])


def weighted_spearman(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Spearman's correlation over n rows for each of b weightings (b, n) → (b,); NaN where either is constant."""
    return weighted_pearson(weighted_midranks(x, weights), weighted_midranks(y, weights), weights)


def hsic_unbiased(gram_a: Floats, gram_b: Floats) -> float:
    """Unbiased estimate of the Hilbert-Schmidt independence criterion from two (n, n) Gram matrices of the same n ≥ 4 rows.

    Song et al. 2012, "Feature Selection via Dependence Maximization", equation 5: with zero diagonals,
    [tr(KL) + 1ᵀK1 · 1ᵀL1 / ((n − 1)(n − 2)) − 2 · 1ᵀKL1 / (n − 2)] / (n (n − 3)). May be below 0.
    """
    n = len(gram_a)
    if gram_a.shape != (n, n) or gram_b.shape != (n, n) or n < 4:
        raise ValueError(
            f"two (n, n) Gram matrices with n of at least 4 are needed, got {gram_a.shape} and {gram_b.shape}"
        )
    a, b = gram_a.copy(), gram_b.copy()
    np.fill_diagonal(a, 0.0)
    np.fill_diagonal(b, 0.0)
    rows_a, rows_b = a.sum(axis=1), b.sum(axis=1)
    total = float((a * b).sum()) + float(rows_a.sum() * rows_b.sum()) / ((n - 1) * (n - 2))
    return (total - 2 * float(rows_a @ rows_b) / (n - 2)) / (n * (n - 3))


def debiased_cka(a: Floats, b: Floats) -> float:
    """Debiased linear CKA of (n, P) and (n, Q) features of the same n ≥ 4 rows: 1 for equal ones up to rotation, shift and scale.

    Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited", with unbiased HSIC in place of the biased one
    (Nguyen, Raghu and Kornblith 2021): unrelated features score 0 on average however many there are. May be a little below 0;
    NaN where one side is constant.
    """
    grams = []
    for features in (a, b):
        centred = features - features.mean(axis=0)  # changes nothing but rounding: unbiased HSIC does not see shifts
        # rounding errors of a constant must not correlate with anything
        noise = np.abs(centred).max(initial=0.0) <= 1e-12 * np.abs(features).max(initial=0.0)
        grams.append(np.zeros((len(a), len(a))) if noise else centred @ centred.T)
    return cka_of(
        hsic_unbiased(grams[0], grams[1]), hsic_unbiased(grams[0], grams[0]), hsic_unbiased(grams[1], grams[1])
    )


def cka_of(hsic_ab: float, hsic_aa: float, hsic_bb: float) -> float:
    """CKA from three (sums of) HSIC; NaN where a layer does not vary."""
    return float(hsic_ab / np.sqrt(hsic_aa * hsic_bb)) if hsic_aa > 0 and hsic_bb > 0 else float("nan")
