"""Binning by weight of evidence: which values of a feature a scorecard treats alike.

With good and adverse weights g_b, a_b of bin b, their totals G, A over all bins of the feature (missing included), N = G + A:

    WoE_b = ln( (g_b + m G/N) / (a_b + m A/N) ) − ln(G / A)        m = smoothing; m = 0 is the textbook ln( (g_b/G) / (a_b/A) )
    IV    = Σ_b (g_b/G − a_b/A) · WoE_b

(Siddiqi 2006, ch. 6.) The smoothing adds m rows of the average kind to each bin: an empty bin has WoE 0, a pure one a finite WoE.
Rows count by their weights, and by the teacher's probabilities: a row of weight 2 with p(adverse) = 0.3 adds 1.4 to g and 0.6 to a.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from distillens.errors import DataError

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints

PREBINS = 40  # how finely numbers are cut before neighbours are merged
_TIE = 1e-12  # a bin more must be better by more than rounding


def weight_of_evidence(good: Floats, adverse: Floats, totals: tuple[float, float], *, smoothing: float) -> Floats:
    """WoE of bins with (…) good and adverse weights. DataError when it is infinite."""
    g, a = totals
    if g <= 0 or a <= 0:
        raise DataError("Weights of evidence need rows of both classes, and all rows here are of one class.")
    n = g + a
    with np.errstate(divide="ignore", invalid="ignore"):
        woe = np.log((good + smoothing * g / n) / (adverse + smoothing * a / n)) - np.log(g / a)
    if not np.isfinite(woe).all():
        raise DataError(
            "A bin holds rows of one class only, so its weight of evidence is infinite; set smoothing above zero."
        )
    return np.asarray(woe, dtype=np.float64)


def information_value(good: Floats, adverse: Floats, woe: Floats, totals: tuple[float, float]) -> float:
    """Σ (g/G − a/A) · WoE over the bins; 0 = tells nothing, below 0.02 weak, above 0.3 strong (Siddiqi 2006)."""
    return float(((good / totals[0] - adverse / totals[1]) * woe).sum())


def weight_in_bins(where: Ints, weights: Floats, bins: int) -> Floats:
    """(bins,) sums of (n,) weights."""
    return np.bincount(where, weights=weights, minlength=bins).astype(np.float64)


def weighted_cuts(x: Floats, weights: Floats, *, bins: int) -> Floats:
    """Ascending cuts that split (n,) known numbers into at most `bins` bins of about equal weight; bin b holds cut_b ≤ x < cut_b+1.

    A cut is the shortest decimal number that separates the two values it stands between, so people can read it.
    """
    values, place = np.unique(x, return_inverse=True)
    if len(values) < 2:
        return np.empty(0)
    below = np.cumsum(np.bincount(place, weights=weights, minlength=len(values)))
    if len(values) <= bins:
        ends = np.arange(len(values) - 1)
    else:
        shares = np.arange(1, bins) / bins * below[-1]
        ends = np.unique(np.searchsorted(below, shares * (1 - 1e-9)))
        ends = ends[ends < len(values) - 1]
    return np.array([short_number(float(values[i]), float(values[i + 1])) for i in ends])


def short_number(low: float, high: float) -> float:
    """The number in (low, high] with the fewest significant digits, rounded down from `high`."""
    if high == 0:
        return 0.0
    size = int(np.floor(np.log10(abs(high))))
    for digits in range(1, 9):
        step = digits - 1 - size
        number = float(f"{np.floor(high * 10.0**step)}e{-step}") if abs(step) < 300 else high
        if low < number <= high:
            return number
    return high


def merged(
    good: Floats,
    adverse: Floats,
    totals: tuple[float, float],
    *,
    max_bins: int,
    min_weight: float,
    min_gain: float,
    smoothing: float,
    direction: int = 0,
) -> Ints:
    """Merge (P,) ordered fine bins so that IV − min_gain · bins is largest: the first fine bin of each bin, by dynamic programming.

    Every bin weighs at least `min_weight` (unless all together weigh less). direction: +1 or −1 asks that WoE rises or falls from bin to
    bin. The optimum over all ways to merge neighbours.
    """
    p = len(good)
    g, a = (np.concatenate([[0.0], np.cumsum(part)]) for part in (good, adverse))
    sum_g, sum_a = g[None, :] - g[:, None], a[None, :] - a[:, None]  # [i, j]: fine bins i … j−1
    upper = np.triu(np.ones((p + 1, p + 1), dtype=np.bool_), 1)
    woe = np.zeros((p + 1, p + 1))
    woe[upper] = weight_of_evidence(sum_g[upper], sum_a[upper], totals, smoothing=smoothing)
    value = np.where(upper, (sum_g / totals[0] - sum_a / totals[1]) * woe - min_gain, -np.inf)
    value[sum_g + sum_a < min_weight * (1 - 1e-9)] = -np.inf
    value[0, p] = max(value[0, p], -1e9)  # one bin for everything is always allowed
    best = np.full((p + 1, p + 1), -np.inf)  # best total whose last bin is [i, j]
    best[0] = value[0]
    tables, origins = [best], [np.full((p + 1, p + 1), -1)]
    for _ in range(1, max_bins):
        before, now, origin = tables[-1], np.full((p + 1, p + 1), -np.inf), np.full((p + 1, p + 1), -1)
        for i in range(1, p):
            reachable = np.repeat(before[:i, i][:, None], p - i, axis=1)
            if direction:
                step = direction * (woe[i, i + 1 :][None, :] - woe[:i, i][:, None])
                reachable[step < 0] = -np.inf
            h = reachable.argmax(axis=0)
            now[i, i + 1 :] = reachable[h, np.arange(p - i)] + value[i, i + 1 :]
            origin[i, i + 1 :] = h
        tables.append(now)
        origins.append(origin)
    k, top = 0, float(tables[0][0, p])
    for number, table in enumerate(tables[1:], start=1):
        if float(table[:, p].max()) > top + _TIE:
            k, top = number, float(table[:, p].max())
    i, j, starts = int(tables[k][:, p].argmax()), p, []
    while True:
        starts.append(i)
        if k == 0:
            break
        i, j, k = int(origins[k][i, j]), i, k - 1
    return np.array(starts[::-1], dtype=np.int64)


def pooled(good: Floats, adverse: Floats, *, min_weight: float, direction: int = 0) -> Ints:
    """Merge only what must be merged: bins lighter than `min_weight` with their lighter neighbour, then neighbours that break `direction`.

    The second is the pool-adjacent-violators algorithm on the share of good rows. Returns the first fine bin of each bin.
    """
    starts = list(range(len(good)))

    def sums() -> tuple[Floats, Floats]:
        edges = np.array(starts)
        return np.add.reduceat(good, edges), np.add.reduceat(adverse, edges)

    while len(starts) > 1:
        g, a = sums()
        weight = g + a
        light = int(weight.argmin())
        if weight[light] >= min_weight * (1 - 1e-9):
            break
        left = light > 0 and (light == len(starts) - 1 or weight[light - 1] <= weight[light + 1])
        del starts[light if left else light + 1]
    while direction and len(starts) > 1:
        g, a = sums()
        share = g / np.maximum(g + a, 1e-300)
        broken = np.flatnonzero(direction * np.diff(share) < 0)
        if not len(broken):
            break
        del starts[int(broken[0]) + 1]
    return np.array(starts, dtype=np.int64)


def bin_numbers(
    x: Floats,
    good: Floats,
    adverse: Floats,
    totals: tuple[float, float],
    *,
    binning: Literal["optimal", "quantile"],
    max_bins: int,
    min_weight: float,
    min_gain: float,
    smoothing: float,
    directions: tuple[int, ...],
) -> Floats:
    """Cuts of (n,) known numbers with (n,) good and adverse weights; of several `directions` the one with the highest IV."""
    fine = weighted_cuts(x, good + adverse, bins=PREBINS if binning == "optimal" else max_bins)
    place = np.searchsorted(fine, x, side="right")
    g, a = (weight_in_bins(place, part, len(fine) + 1) for part in (good, adverse))
    best, highest = np.empty(0), -np.inf
    for direction in directions:
        if binning == "optimal":
            starts = merged(
                g, a, totals, max_bins=max_bins, min_weight=min_weight, min_gain=min_gain, smoothing=smoothing,
                direction=direction,
            )  # fmt: skip
        else:
            starts = pooled(g, a, min_weight=min_weight, direction=direction)
        gs, as_ = np.add.reduceat(g, starts), np.add.reduceat(a, starts)
        iv = information_value(gs, as_, weight_of_evidence(gs, as_, totals, smoothing=smoothing), totals)
        if iv > highest + _TIE:
            best, highest = fine[starts[1:] - 1], iv
    return best


def group_levels(
    good: Floats,
    adverse: Floats,
    totals: tuple[float, float],
    *,
    max_bins: int,
    min_weight: float,
    min_gain: float,
    smoothing: float,
) -> Ints:
    """(C,) the group of each level with (C,) good and adverse weights: levels in order of WoE, neighbours merged; group 0 has the lowest WoE.

    Levels that no row has are in group −1.
    """
    present = np.flatnonzero(good + adverse > 0)
    out = np.full(len(good), -1, dtype=np.int64)
    if not len(present):
        return out
    woe = weight_of_evidence(good[present], adverse[present], totals, smoothing=max(smoothing, 1e-9))
    order = present[np.lexsort((present, np.round(woe, 9)))]
    starts = merged(
        good[order], adverse[order], totals, max_bins=max_bins, min_weight=min_weight, min_gain=min_gain, smoothing=smoothing
    )  # fmt: skip
    for group, (start, end) in enumerate(pairwise([*starts, len(order)])):
        out[order[start:end]] = group
    return out
