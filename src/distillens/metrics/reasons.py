"""Are the reasons the same? Agreement of two attributions of the same rows, one value per row.

All functions take two (n, F) arrays of attributions of the same units and return (n,) values; NaN where a value does not
exist (both maps all zero where a direction is needed). Ties are shared: a map against itself scores 1. Magnitudes that
differ by less than 1e-9 of the row's largest count as tied, because equal contributions differ by rounding.

Krishna et al. 2022, "The disagreement problem in explainable machine learning", eq. 1–4: feature, rank, sign and
signed-rank agreement, all divided by k. Different here: ties are shared instead of broken by position, and a sign counts
only where the contribution exceeds its standard error.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distillens.similarity import Floats, midranks

Bools = NDArray[np.bool_]

PERSISTENCE = 0.8  # p of rank-biased overlap: about 90 % of the weight on the first six ranks


def magnitudes(values: Floats) -> Floats:
    """(n, F) |values| relative to the row's largest, rounded to nine digits so that rounding errors tie."""
    size = np.abs(values)
    largest = size.max(axis=1, keepdims=True, initial=0.0)
    return np.asarray(np.round(np.divide(size, largest, out=np.zeros_like(size), where=largest > 0), 9))


def top_k(values: Floats, k: int) -> Floats:
    """(n, F) membership in the k largest |values|, between 0 and 1: units tied at the cut share what is left."""
    size = magnitudes(values)
    k = min(k, size.shape[1])
    cut = -np.partition(-size, k - 1, axis=1)[:, k - 1 : k]
    above, tied = size > cut, size == cut
    share = (k - above.sum(axis=1, keepdims=True)) / tied.sum(axis=1, keepdims=True)
    return np.asarray(above + tied * share)


def top_k_overlap(first: Floats, second: Floats, *, k: int = 4) -> Floats:
    """(n,) Σ min of the two memberships / k: the share of main reasons that are the same."""
    k = min(k, first.shape[1])
    return np.asarray(np.minimum(top_k(first, k), top_k(second, k)).sum(axis=1) / k)


def _reliable(values: Floats, stderr: Floats | None) -> Bools:
    """(n, F) whether a sign can be told: the contribution exceeds its standard error (and is not zero)."""
    known: Bools = np.abs(values) > (0.0 if stderr is None else stderr)
    return known


def _agreement(first: Floats, second: Floats, k: int, *, same: Bools, known: Bools | None = None) -> Floats:
    """Shared membership of the units that are the `same`, over k; units of unknown sign leave both sides."""
    k = min(k, first.shape[1])
    shared = np.minimum(top_k(first, k), top_k(second, k))
    whole = np.full(len(first), float(k))
    if known is not None:
        whole = whole - (shared * ~known).sum(axis=1)
        same = same & known
    out = np.full(len(first), np.nan)
    np.divide((shared * same).sum(axis=1), whole, out=out, where=whole > 1e-12)
    return np.asarray(np.minimum(out, 1.0))


def sign_agreement(
    first: Floats,
    second: Floats,
    *,
    k: int = 4,
    first_stderr: Floats | None = None,
    second_stderr: Floats | None = None,
) -> Floats:
    """(n,) share of the k main reasons that are common and of equal sign; units of unknown sign are left out."""
    known = _reliable(first, first_stderr) & _reliable(second, second_stderr)
    return _agreement(first, second, k, same=np.sign(first) == np.sign(second), known=known)


def _same_rank(first: Floats, second: Floats) -> Bools:
    same: Bools = midranks(magnitudes(first)) == midranks(magnitudes(second))
    return same


def rank_agreement(first: Floats, second: Floats, *, k: int = 4) -> Floats:
    """(n,) share of the k main reasons that are common and at the same rank."""
    return _agreement(first, second, k, same=_same_rank(first, second))


def signed_rank_agreement(
    first: Floats,
    second: Floats,
    *,
    k: int = 4,
    first_stderr: Floats | None = None,
    second_stderr: Floats | None = None,
) -> Floats:
    """(n,) share of the k main reasons that are common, at the same rank and of equal sign."""
    known = _reliable(first, first_stderr) & _reliable(second, second_stderr)
    same = _same_rank(first, second) & (np.sign(first) == np.sign(second))
    return _agreement(first, second, k, same=same, known=known)


def rank_biased_overlap(first: Floats, second: Floats, *, p: float = PERSISTENCE, depth: int = 100) -> Floats:
    """(n,) extrapolated rank-biased overlap of the two rankings by magnitude (Webber, Moffat and Zobel 2010, eq. 23).

    RBO = A_D p^D + (1 − p) / p Σ_{d ≤ D} A_d p^d with A_d the overlap of the first d ranks, ties shared; D = min(F, depth).
    """
    last = min(first.shape[1], depth)
    total, overlap = np.zeros(len(first)), np.zeros(len(first))
    for d in range(1, last + 1):
        overlap = top_k_overlap(first, second, k=d)
        total += overlap * p**d
    return np.asarray(np.minimum(overlap * p**last + (1 - p) / p * total, 1.0))


def mass_overlap(first: Floats, second: Floats) -> Floats:
    """(n,) Σ min of the two shares of absolute contribution; NaN where a map is all zeros."""
    shares = []
    for values in (first, second):
        size = np.abs(values)
        total = size.sum(axis=1, keepdims=True)
        shares.append(np.divide(size, total, out=np.full_like(size, np.nan), where=total > 0))
    return np.asarray(np.minimum(shares[0], shares[1]).sum(axis=1))
