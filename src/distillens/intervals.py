"""Intervals: exact and score intervals of proportions, and one set of bootstrap resamples shared by all metrics.

Proportions of independent rows use Clopper-Pearson, their paired differences Newcombe's method 10. Everything else uses
the bootstrap over rows (or clusters of rows) with *expanded* percentiles: the plain percentile interval is too narrow by
about the factor sqrt((n − 1) / n) and uses normal instead of t quantiles, so its levels are widened to
Φ(−sqrt(n / (n − 1)) t_{n−1, 1−α/2}) (Hesterberg 2015, The American Statistician 69, section 3.1). The same resamples serve
every metric and every model, so that differences are paired.

"Rows only: the models are fixed": none of these intervals covers what refitting a model would change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

from distillens.errors import InputError
from distillens.estimate import Estimate, Sided

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # (b, n) weights → (b,) values

CHUNK = 4_000_000  # numbers of one block of resample weights: 32 MB


def _tails(level: float, sided: Sided) -> float:
    """The probability left out at each bounded end."""
    if not 0 < level < 1:
        raise InputError(f"A confidence level lies between 0 and 1; got {level}.")
    return (1 - level) / 2 if sided == "two" else 1 - level


def _ends(low: float, high: float, sided: Sided) -> tuple[float, float]:
    return (-math.inf if sided == "upper" else low), (math.inf if sided == "lower" else high)


def clopper_pearson(k: float, n: float, level: float = 0.95, *, sided: Sided = "two") -> Estimate:
    """Exact interval of k successes in n independent trials (Clopper and Pearson 1934); n = 0 is insufficient.

    k and n may be fractions (an effective sample size, Korn and Graubard 1998). Raises InputError for k outside [0, n].
    """
    if n == 0:
        return Estimate.missing("insufficient", "no rows")
    if not 0 <= k <= n * (1 + 1e-12):
        raise InputError(f"{k} successes in {n} trials is impossible.")
    tail = _tails(level, sided)
    k = min(k, n)
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    low, high = _ends(low, high, sided)
    return Estimate(k / n, low, high, level, sided, n=int(n), method="clopper-pearson")


def _wilson_ends(k: float, n: float, z: float) -> tuple[float, float]:
    p = k / n
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(n * p * (1 - p) + z * z / 4)
    # At the ends the algebra gives 0 and 1 exactly; rounding must not.
    return (0.0 if k == 0 else centre - half), (1.0 if k == n else centre + half)


def wilson(k: float, n: float, level: float = 0.95, *, sided: Sided = "two") -> Estimate:
    """Score interval of k successes in n independent trials (Wilson 1927); n = 0 is insufficient."""
    if n == 0:
        return Estimate.missing("insufficient", "no rows")
    if not 0 <= k <= n:
        raise InputError(f"{k} successes in {n} trials is impossible.")
    low, high = _ends(*_wilson_ends(k, n, -float(ndtri(_tails(level, sided)))), sided)
    return Estimate(k / n, low, high, level, sided, n=int(n), method="wilson")


def newcombe_paired(a: float, b: float, c: float, d: float, level: float = 0.95, *, sided: Sided = "two") -> Estimate:
    """Difference p1 − p2 of two proportions on the same rows (Newcombe 1998, Statistics in Medicine 17, 2635, method 10).

    a: rows where both succeed, b: only the first, c: only the second, d: neither; fractions are allowed.
    p1 = (a + b) / n, p2 = (a + c) / n. n = 0 is insufficient.
    """
    n = a + b + c + d
    if n == 0:
        return Estimate.missing("insufficient", "no rows")
    z = -float(ndtri(_tails(level, sided)))
    p1, p2 = (a + b) / n, (a + c) / n
    low1, high1 = _wilson_ends(a + b, n, z)
    low2, high2 = _wilson_ends(a + c, n, z)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    cross = a * d - b * c
    if cross > 0:  # the continuity correction of method 10
        cross = max(cross - n / 2, 0.0)
    phi = cross / math.sqrt(margins) if margins > 0 else 0.0
    below = (p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2
    above = (high1 - p1) ** 2 - 2 * phi * (high1 - p1) * (p2 - low2) + (p2 - low2) ** 2
    value = (b - c) / n
    low, high = _ends(value - math.sqrt(max(below, 0.0)), value + math.sqrt(max(above, 0.0)), sided)
    return Estimate(value, low, high, level, sided, n=round(n), method="newcombe-paired")


def expanded_tail(tail: float, n: float) -> float:
    """The percentile that stands for `tail` when the bootstrap rests on n independent units (Hesterberg 2015)."""
    if n < 2:
        return 0.0
    return float(ndtr(math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, tail))))


@dataclass(frozen=True, eq=False)
class Quantity:
    """One number with its resampled values, from which intervals of any level and paired differences can be made.

    point: the value; NaN when it cannot be computed. draws: (B,) values on the shared resamples, NaN where undefined.
    n: rows used. n_missing: rows left out as NaN. n_clusters: None when rows are independent.
    units: independent units behind it (rows, or clusters). effective: Kish's effective number of rows under row weights.
    outcomes: (N,) 0, 1 or NaN where the number is a proportion of independent or weighted rows; None otherwise.
    weights: (N,) row weights of a proportion. seed: of the resamples. note: said with the estimate.
    """

    point: float
    draws: Floats
    n: int
    n_missing: int = 0
    n_clusters: int | None = None
    units: float = 0.0
    effective: float = 0.0
    outcomes: Floats | None = None
    weights: Floats | None = None
    seed: int | None = None
    note: str = ""

    def estimate(self, level: float = 0.95, *, sided: Sided = "two") -> Estimate:
        """Clopper-Pearson for proportions, otherwise the expanded percentiles of the resamples."""
        if self.n == 0 or math.isnan(self.point):
            note = self.note or ("no rows" if self.n == 0 else "cannot be computed on these rows")
            return Estimate.missing("insufficient" if self.n == 0 else "not_available", note, n=self.n)
        if self.outcomes is not None:
            exact = self._exact(level, sided)
            if exact is not None:
                return exact
        return self._percentiles(self.draws, self.point, level, sided)

    def difference(self, other: Quantity, level: float = 0.95, *, sided: Sided = "two") -> Estimate:
        """self − other on the same rows: Newcombe's method 10 for unweighted proportions, otherwise paired resamples."""
        if math.isnan(self.point) or math.isnan(other.point):
            return Estimate.missing("not_available", self.note or other.note or "one side has no value", n=self.n)
        if self.outcomes is not None and other.outcomes is not None:
            both = ~np.isnan(self.outcomes) & ~np.isnan(other.outcomes)
            first, second = self.outcomes[both], other.outcomes[both]
            weights = np.ones(len(first)) if self.weights is None else self.weights[both]
            cells = [float(weights @ (x * y)) for x in (first, 1 - first) for y in (second, 1 - second)]
            clustered = self.n_clusters is not None
            # Without a single differing row resamples of clusters do not vary: fall back on clusters as the trials.
            if not clustered or cells[1] + cells[2] == 0:
                trials = float(self.n_clusters) if self.n_clusters is not None else _kish(weights)
                scale = trials / max(float(weights.sum()), 1e-300)
                made = newcombe_paired(
                    cells[0] * scale, cells[1] * scale, cells[2] * scale, cells[3] * scale, level, sided=sided
                )
                return _with(made, self, n=int(both.sum()), extra=_suffix(clustered, self.weights is not None))
        return self._percentiles(self.draws - other.draws, self.point - other.point, level, sided)

    def relative_difference(self, other: Quantity, level: float = 0.95, *, sided: Sided = "two") -> Estimate:
        """self / other − 1 on the same rows, by paired resamples; not available where the other is not positive."""
        if math.isnan(self.point) or not other.point > 0:
            return Estimate.missing(
                "not_available", self.note or other.note or "the reference is not positive", n=self.n
            )
        ratio = np.divide(self.draws, other.draws, out=np.full_like(self.draws, np.nan), where=other.draws > 0)
        return self._percentiles(ratio - 1, self.point / other.point - 1, level, sided)

    def _exact(self, level: float, sided: Sided) -> Estimate | None:
        clustered = self.n_clusters is not None
        if clustered and 0 < self.point < 1:
            return None
        trials = float(self.n_clusters) if self.n_clusters is not None else self.effective
        point = min(max(self.point, 0.0), 1.0)
        successes = round(point * trials) if trials == self.n else point * trials
        made = clopper_pearson(successes, trials, level, sided=sided)
        return _with(made, self, n=self.n, extra=_suffix(clustered, self.weights is not None), value=point)

    def _percentiles(self, draws: Floats, point: float, level: float, sided: Sided) -> Estimate:
        defined = draws[~np.isnan(draws)]
        method = "bootstrap-percentile" if self.n_clusters is None else "cluster-bootstrap-percentile"
        if self.units < 2 or len(defined) < max(20, len(draws) // 2):
            why = "one independent row or cluster" if self.units < 2 else "undefined on most resamples"
            return Estimate(point, -math.inf, math.inf, level, sided, self.n, self.n_missing, self.n_clusters, method,
                            self.seed, "insufficient", self.note or why)  # fmt: skip
        tail = expanded_tail(_tails(level, sided), self.units)
        low, high = (float(q) for q in np.quantile(defined, [tail, 1 - tail]))
        low, high = _ends(min(low, point), max(high, point), sided)
        return Estimate(point, low, high, level, sided, self.n, self.n_missing, self.n_clusters, method, self.seed,
                        "ok", self.note)  # fmt: skip


def _suffix(clustered: bool, weighted: bool) -> str:
    return "-clusters" if clustered else "-effective-n" if weighted else ""


def _with(made: Estimate, source: Quantity, *, n: int, extra: str, value: float | None = None) -> Estimate:
    """The same interval with the counts of the quantity it was made for."""
    return Estimate(made.value if value is None else value, made.low, made.high, made.level, made.sided, n,
                    source.n_missing, source.n_clusters, made.method + extra, None, made.status, source.note)  # fmt: skip


def _kish(weights: Floats) -> float:
    total, squares = float(weights.sum()), float((weights**2).sum())
    if squares == 0:
        return 0.0
    effective = total * total / squares
    return float(round(effective)) if abs(effective - round(effective)) < 1e-9 * effective else effective


class Resamples:
    """Bootstrap resamples of n rows as count weights, drawn once and shared by every metric and model.

    n: rows. clusters: (n,) ids of rows that belong together (they are drawn together), or None.
    weights: (n,) non-negative row weights that multiply the counts, or None. draws: resamples. seed: of their generator.
    """

    def __init__(
        self,
        n: int,
        *,
        clusters: NDArray[np.int64] | None = None,
        weights: Floats | None = None,
        draws: int = 1000,
        seed: int = 0,
    ) -> None:
        if draws < 100:
            raise InputError(f"An interval needs at least 100 resamples; got draws={draws}.")
        self.n, self.draws, self.seed = n, draws, seed
        self.base = np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)
        self.weighted = weights is not None and bool(np.ptp(self.base) > 0) if n else False
        codes = None if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
        # one row per cluster is no clustering: exact intervals stay exact
        self.clusters = codes if codes is not None and n and codes.max() + 1 < n else None
        rng = np.random.default_rng(seed)
        units = n if self.clusters is None else int(self.clusters.max()) + 1
        counts = np.empty((draws, n), dtype=np.uint16)
        for draw in range(draws if units else 0):
            drawn = np.bincount(rng.integers(0, units, size=units), minlength=units)
            counts[draw] = drawn if self.clusters is None else drawn[self.clusters]
        self.counts = counts

    def _units(self, used: NDArray[np.bool_]) -> tuple[float, int | None]:
        if self.clusters is None:
            return float(used.sum()), None
        number = len(np.unique(self.clusters[used]))
        return float(number), number

    def _over_draws(self, statistic: Statistic) -> Floats:
        step = max(1, CHUNK // max(self.n, 1))
        out = np.empty(self.draws)
        for start in range(0, self.draws, step):
            out[start : start + step] = statistic(self.counts[start : start + step] * self.base)
        return out

    def statistic(self, statistic: Statistic, *, used: NDArray[np.bool_] | None = None, note: str = "") -> Quantity:
        """Any function of weights: `statistic((b, n) weights) -> (b,)`, NaN where undefined. used: rows it rests on."""
        rows = np.ones(self.n, dtype=np.bool_) if used is None else used
        n = int(rows.sum())
        units, clusters = self._units(rows)
        if n == 0:
            return Quantity(math.nan, np.full(self.draws, np.nan), 0, self.n, clusters, note=note)
        point = float(statistic(self.base[None, :])[0])
        draws = self._over_draws(statistic)
        return Quantity(point, draws, n, self.n - n, clusters, units, _kish(self.base[rows]), seed=self.seed, note=note)

    def masses(self, bins: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """(B,) mass of each of B groups of rows, and (draws, B) the same on every resample; bins: (n, B) which rows are in which."""
        inside = bins.astype(np.float64)
        step = max(1, CHUNK // max(self.n, 1))
        drawn = [self.counts[at : at + step] * self.base @ inside for at in range(0, self.draws, step)]
        return self.base @ inside, np.concatenate(drawn)

    def mean(self, values: Floats, *, missing: int | None = None, note: str = "") -> Quantity:
        """Weighted mean of one value per row; NaN rows are left out and counted.

        missing: how many of the NaN rows count as missing (the others are outside the question); None: all of them.
        """
        values = np.asarray(values, dtype=np.float64)
        used = ~np.isnan(values)
        filled = np.where(used, values, 0.0)
        both = np.stack([filled, used.astype(np.float64)], axis=1)

        def weighted_mean(weights: Floats) -> Floats:
            sums = weights @ both
            with np.errstate(invalid="ignore", divide="ignore"):  # a draw without any of these rows is undefined
                return np.asarray(sums[:, 0] / sums[:, 1])

        made = self.statistic(weighted_mean, used=used, note=note)
        return made if missing is None else replace(made, n_missing=missing)

    def proportion(self, outcomes: Floats, *, missing: int | None = None, note: str = "") -> Quantity:
        """Share of rows with outcome 1 among those with 0 or 1; NaN rows as in `mean`. Intervals are exact."""
        outcomes = np.asarray(outcomes, dtype=np.float64)
        made = self.mean(outcomes, missing=missing, note=note)
        return replace(made, outcomes=outcomes, weights=self.base if self.weighted else None)


def corrected_resampled_t(
    differences: Floats, *, train: int, test: int, level: float = 0.95, sided: Sided = "two"
) -> Estimate:
    """Mean of J differences from J random splits of one data set, with Nadeau and Bengio's corrected variance.

    (2003, "Inference for the Generalization Error", Machine Learning 52, 239, section 3): the splits share their rows, so that
    s² / J is far too small; mean ± t_{J−1} √((1/J + n_test / n_train) s²) makes up for it, approximately.
    differences: (J,), one a split. train, test: rows of each side of a split. Unlike the other intervals here this one covers
    refitting the models on other rows. One split is insufficient. Raises InputError for NaN or impossible counts.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not np.isfinite(d).all():
        raise InputError(f"Differences are finite numbers, one a split; got an array of shape {d.shape}.")
    if train < 1 or test < 1:
        raise InputError(f"Each side of a split has at least one row; got train={train} and test={test}.")
    if len(d) < 2:
        return Estimate.missing("insufficient", "an interval needs at least two splits", n=len(d))
    tail, mean = _tails(level, sided), float(d.mean())
    half = -float(stdtrit(len(d) - 1, tail)) * math.sqrt((1 / len(d) + test / train) * float(d.var(ddof=1)))
    low, high = _ends(mean - half, mean + half, sided)
    return Estimate(mean, low, high, level, sided, n=len(d), method="corrected-resampled-t")
