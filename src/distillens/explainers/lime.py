"""LIME for tables: a weighted linear model of the model's scores around one row (Ribeiro, Singh & Guestrin 2016).

Sampling follows the authors' package for tables. `quartiles` (its default): a numeric feature falls into one of the four bins between
the background's quartiles; bins and categories are drawn by their frequency, a value inside a bin from a normal distribution with the
bin's mean and spread, cut off at its edges. The linear model sees 1 where a sample falls into the row's own bin or category and
0 elsewhere, so an attribution is the effect of being in that bin. `gaussian`: numeric features are drawn from a normal distribution
with the background's mean and spread, `around_row`: with the row's own value as its mean; the linear model then sees the value
in units of the spread, and an attribution is slope × (the row's value − the background's mean).

A sample at distance d weighs exp(−d² / (2 width²)), width 0.75 √features unless given; then ridge regression with a free
intercept. base + Σ φ is the linear model's answer at the row, the residual what it misses there.

Unlike the package: the samples do not depend on the row (`quartiles`, `gaussian`), so that the model answers for them once for
all rows; a missing value is a bin of its own, and a value in a bin where no sample falls (an unseen category) gets 0; no features
are selected away; the score is the log-odds unless told otherwise; and there is a standard error: the heteroscedasticity-consistent
one of weighted least squares (White 1980) for draws of samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np

from distillens.errors import InputError, did_you_mean
from distillens.explainers.settings import (
    BackgroundSettings,
    ScaleName,
    check_background,
    check_count,
    check_scale,
)

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Ints, Table
    from distillens.explainers.base import Explanation, Need
    from distillens.models.base import Model

Sampling = Literal["quartiles", "gaussian", "around_row"]
NARROWEST = 1e-11  # added to a bin's spread, so that a bin of equal values can be divided by it


def _thousand() -> BackgroundSettings:
    return {"from": "train", "rows": 1000}


@dataclass(frozen=True, eq=False)
class Bins:
    """One feature's bins: quartiles of a numeric feature, categories, and missing values.

    edges: (e,) between numeric bins, None for other features, whose bin k holds `values[k]`. share: (bins,) in the background.
    low, high, mean, spread: (bins,) of a numeric bin's background values; the last bin may be the missing one (`missing`).
    """

    edges: Floats | None
    values: Floats
    share: Floats
    low: Floats
    high: Floats
    mean: Floats
    spread: Floats
    missing: int

    @classmethod
    def of(cls, column: Floats, *, numeric: bool) -> Bins:
        """Bins of a background column (b,); NaN makes a bin of its own."""
        known = column[~np.isnan(column)]
        if not numeric or not len(known):
            values, count = np.unique(column, return_counts=True)  # NaN is last and counted once
            none = np.empty(0)
            missing = len(values) - 1 if np.isnan(values[-1]) else -1
            return cls(None, values, count / len(column), none, none, none, none, missing)
        edges = np.unique(np.percentile(known, [25, 50, 75]))
        place = np.searchsorted(edges, known)
        bins = len(edges) + 1
        count = np.bincount(place, minlength=bins).astype(np.float64)
        filled = np.maximum(count, 1.0)
        mean = np.bincount(place, weights=known, minlength=bins) / filled
        spread = np.sqrt(np.bincount(place, weights=(known - mean[place]) ** 2, minlength=bins) / filled) + NARROWEST
        low, high = np.concatenate([[known.min()], edges]), np.concatenate([edges, [known.max()]])
        gone = len(column) - len(known)
        share = np.concatenate([count, [gone]]) / len(column)
        return cls(edges, np.empty(0), share, low, high, mean, spread, bins)

    def index(self, values: Floats) -> Ints:
        """(n,) bin of each value; −1 for a category the background does not hold."""
        if self.edges is not None:
            return np.where(np.isnan(values), self.missing, np.searchsorted(self.edges, values)).astype(np.int64)
        known = len(self.values) - (self.missing >= 0)
        place = np.searchsorted(self.values[:known], values)
        found = (place < known) & (self.values[np.minimum(place, max(known - 1, 0))] == values)
        return np.where(found, place, np.where(np.isnan(values), self.missing, -1)).astype(np.int64)

    def draw(self, size: int, rng: np.random.Generator) -> tuple[Ints, Floats]:
        """(size,) bins drawn by their share and a value in each."""
        from scipy.special import ndtr, ndtri

        place = rng.choice(len(self.share), size=size, p=self.share)
        if self.edges is None:
            return place, self.values[place]
        value = np.full(size, np.nan)
        inside = place != self.missing
        k = place[inside]
        low, high = (self.low[k] - self.mean[k]) / self.spread[k], (self.high[k] - self.mean[k]) / self.spread[k]
        # A normal variable cut off at both ends, by inverting its distribution function on the side with the longer tail.
        flip = low > 0
        low, high = np.where(flip, -high, low), np.where(flip, -low, high)
        below, above = ndtr(low), ndtr(high)
        z = np.clip(ndtri(below + rng.random(len(k)) * (above - below)), low, high)
        value[inside] = self.mean[k] + self.spread[k] * np.where(flip, -z, z)
        return place, value


def local_linear(design: Floats, score: Floats, weights: Floats, *, ridge: float) -> tuple[Floats, float, Floats]:
    """Coefficients (F,), intercept and standard errors (F,) of ridge regression with a free intercept.

    Minimises Σ w (score − a − design · c)² + ridge · |c|². The errors are White's (1980) for the coefficients at this penalty.
    """
    total = weights.sum()
    mean, level = weights @ design / total, float(weights @ score / total)
    centred = design - mean
    weighted = centred * weights[:, None]
    gram = centred.T @ weighted
    gram[np.diag_indices_from(gram)] += ridge
    inverse = np.linalg.pinv(gram, hermitian=True)
    coefficients = inverse @ (weighted.T @ (score - level))
    missed = score - level - centred @ coefficients
    influence = (weighted * missed[:, None]) @ inverse
    return coefficients, level - float(mean @ coefficients), np.sqrt((influence**2).sum(axis=0))


@dataclass(frozen=True)
class Lime:
    """A weighted linear model around each row, on quartile bins and categories (or on numbers).

    samples: how many are drawn. sampling: quartiles, gaussian or around_row. width: of the kernel; None = 0.75 √features.
    ridge: penalty. background: rows whose bins, frequencies and spreads are sampled from. rows: how many test rows a
    pipeline explains. scale: log_odds (for regression: the value), probability, logit or value.
    """

    kind: ClassVar[str] = "lime"
    differentiable: ClassVar[bool] = False
    needs: ClassVar[frozenset[Need]] = frozenset({"call"})

    samples: int = 5000
    sampling: Sampling = "quartiles"
    width: float | None = None
    ridge: float = 1.0
    background: BackgroundSettings = field(default_factory=_thousand)
    rows: int = 100
    scale: ScaleName = "log_odds"

    def __post_init__(self) -> None:
        check_count("lime: samples", self.samples, least=10)
        if self.sampling not in get_args(Sampling):
            raise InputError(
                f"lime: there is no sampling {self.sampling!r}.{did_you_mean(str(self.sampling), get_args(Sampling))}"
            )
        for name, value, least in (("width", self.width, "above 0"), ("ridge", self.ridge, "of at least 0")):
            if value is None and name == "width":
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)
            if value is None or not number or value < 0 or (name == "width" and value == 0):
                raise InputError(f"lime: {name} should be a number {least}, but is {value!r}.")
        check_background(self.kind, self.background)
        check_count("lime: rows", self.rows, least=1)
        check_scale(self.kind, self.scale)

    def __call__(
        self, model: Model, inputs: Table, *, target: Ints, background: Table | None, seed: int
    ) -> Explanation:
        """Explain every row of `inputs`; the samples depend on the background and the seed (and for around_row on the row).

        Raises InputError, also for missing numbers unless the sampling is quartiles; ModelError.
        """
        from distillens.explainers.base import Explanation, library_versions
        from distillens.explainers.masking import resolved_scale
        from distillens.explainers.shapley import required_background
        from distillens.models.base import evaluate, on_scale

        background = required_background(background, inputs, self.kind)
        if background.columns != inputs.columns or not len(background):
            raise InputError(
                "The background should have rows, with the same columns as the rows to explain, in the same order."
            )
        scale = resolved_scale(model, self.scale)
        targets = np.asarray(np.broadcast_to(target, (len(inputs),)), dtype=np.int64)
        own = evaluate(model, inputs)
        output = on_scale(own, output=model.output, target=targets, scale=scale)
        samples = _Samples(inputs, background, self.sampling, self.samples - 1, seed)
        features = len(inputs.columns)
        width = 0.75 * np.sqrt(features) if self.width is None else self.width
        phi, stderr = np.empty((len(inputs), features)), np.empty((len(inputs), features))
        base = np.empty(len(inputs))
        shared = None if self.sampling == "around_row" else _answers(model, samples.values(None))
        from distillens.progress import task

        with task("LIME", total=len(inputs), unit="rows") as advance:
            for i in range(len(inputs)):
                answers = _answers(model, samples.values(i)) if shared is None else shared
                score = on_scale(answers, output=model.output, target=int(targets[i]), scale=scale)
                design = samples.design(i)
                distance = ((design - design[0]) ** 2).sum(axis=1)
                coefficients, intercept, error = local_linear(
                    design, np.concatenate([output[i : i + 1], score]), np.exp(-distance / (2 * width**2)), ridge=self.ridge
                )  # fmt: skip
                centre = samples.centre
                phi[i], base[i] = coefficients * (design[0] - centre), intercept + coefficients @ centre
                stderr[i] = error * np.abs(design[0] - centre)
                advance(1)
        return Explanation(
            values=phi, base=base, output=output, residual=output - base - phi.sum(axis=1), stderr=stderr, units=inputs.names,
            target=targets, scale=scale, method=self.kind, exact=False, row_ids=inputs.row_ids, background_ids=background.row_ids,
            budget=self.samples, seed=seed, model_label=model.label, model_fingerprint=model.fingerprint,
            versions=library_versions("numpy", "scipy"),
        )  # fmt: skip


def _answers(model: Model, samples: Table) -> Floats:
    """(samples, K) checked outputs, a chunk at a time."""
    from distillens.explainers.masking import MEMORY_BYTES, rows_that_fit
    from distillens.models.base import evaluate

    size = rows_that_fit(len(samples.columns), MEMORY_BYTES)
    pieces = [samples.with_values(samples.values[at : at + size]) for at in range(0, len(samples), size)]
    return np.concatenate([evaluate(model, piece) for piece in pieces])


class _Samples:
    """The rows that stand around the explained ones, and what the linear model sees of them."""

    def __init__(self, inputs: Table, background: Table, sampling: Sampling, size: int, seed: int) -> None:
        self.inputs, self.sampling = inputs, sampling
        self.numeric: Bools = np.array([c.kind == "numeric" for c in inputs.columns]) & (sampling != "quartiles")
        self.mean, self.spread = np.zeros(len(self.numeric)), np.ones(len(self.numeric))
        rng = np.random.default_rng(seed)
        values, places, own = [], [], []
        for j, column in enumerate(inputs.columns):
            x, theirs = inputs.values[:, j], background.values[:, j]
            if self.numeric[j]:
                if np.isnan(x).any() or np.isnan(theirs).any():
                    raise InputError(
                        f"The feature {column.name!r} has missing values, which have no place in a normal distribution; use the sampling 'quartiles'."
                    )
                self.mean[j], self.spread[j] = theirs.mean(), theirs.std() or 1.0
                values.append(rng.standard_normal(size) * self.spread[j] + self.mean[j])
                places.append(np.zeros(size, dtype=np.int64))
                own.append(np.zeros(len(x), dtype=np.int64))
                continue
            bins = Bins.of(theirs, numeric=column.kind == "numeric")
            place, value = bins.draw(size, rng)
            values.append(value)
            places.append(place)
            own.append(bins.index(x))
        self.drawn, self.places, self.own = np.stack(values, 1), np.stack(places, 1), np.stack(own, 1)
        # what an attribution is measured from: the background's mean for a number, "another bin" for a bin
        self.centre = np.where(self.numeric, self.mean / self.spread, 0.0)

    def values(self, row: int | None) -> Table:
        """The drawn rows; around a row, moved there in the numeric features."""
        drawn = self.drawn
        if self.sampling == "around_row" and row is not None:
            drawn = drawn + np.where(self.numeric, self.inputs.values[row] - self.mean, 0.0)
        return self.inputs.with_values(drawn)

    def design(self, row: int) -> Floats:
        """(1 + samples, F): the row itself first; 1 where a sample shares the row's bin, numbers in units of their spread."""
        seen = (self.places == self.own[row]).astype(np.float64)
        first = seen.any(axis=0, keepdims=True).astype(np.float64)  # a bin that holds the row alone tells nothing: 0
        if self.numeric.any():
            j = self.numeric
            seen[:, j] = self.values(row).values[:, j] / self.spread[j]
            first[0, j] = self.inputs.values[row, j] / self.spread[j]
        return np.concatenate([first, seen])
