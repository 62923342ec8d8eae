"""What one feature does to a model over its whole range: PDP, ICE and ALE of any model.

    ICE_i(z) = score(row i with the feature set to z)                      Goldstein, Kapelner, Bleich & Pitkin 2015
    PDP(z)   = mean over rows of ICE_i(z)                                  Friedman 2001
    ALE(z)   = Σ over bins up to z of the mean change of the score between a bin's edges, over the rows *inside* the bin,
               minus its mean over all rows                                Apley & Zhu 2020, equations 15 and 16

A PDP asks the model about rows that may not exist when features are correlated; ALE moves each row only within its own bin. For
an additive model all three have the same shape.

Bin edges of ALE are quantiles of the rows, so that bins hold about equally many; equal quantiles are merged. Its value is
known at the edges and linear in between. ALE needs an order: numeric and boolean features have one, categories do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from distillens.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Floats, Ints, Table
    from distillens.models.base import Model, Scale

Method = Literal["pdp", "ice", "ale"]


@dataclass(frozen=True, eq=False)
class Effect:
    """The effect of one feature on one target's score.

    grid: (g,) coded values of the feature; labels: the same in the user's words. values: (g,) mean effect. stderr: (g,) standard
    error of that mean over rows, the model being fixed; for ALE that of the rise since the first edge. curves: (n, g) one curve
    a row for ICE, otherwise None. count: (g,) for ALE rows in the bin that ends there (0 at the first edge), otherwise all n.
    """

    method: Method
    feature: str
    grid: Floats
    values: Floats
    stderr: Floats
    curves: Floats | None
    count: Ints
    labels: tuple[str, ...]
    scale: Scale
    target: int
    model_label: str

    def to_frame(self) -> pd.DataFrame:
        """A line a grid point: feature's value in words and as coded, effect, standard error, rows."""
        import pandas as pd

        return pd.DataFrame(
            {
                self.feature: self.labels,
                "code": self.grid,
                "effect": self.values,
                "stderr": self.stderr,
                "rows": self.count,
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Everything but the single rows' curves."""
        lists = {name: getattr(self, name).tolist() for name in ("grid", "values", "stderr", "count")}
        return lists | {"method": self.method, "feature": self.feature, "labels": list(self.labels), "scale": self.scale,
                        "target": self.target, "model": self.model_label}  # fmt: skip


def feature_grid(inputs: Table, feature: str, *, points: int = 20) -> Floats:
    """Up to `points` values of a feature: quantiles of a numeric one, both codes of a boolean, all categories.

    Raises InputError when the feature is not there or has no known value.
    """
    j = inputs.index_of(feature)
    column = inputs.columns[j]
    if column.kind != "numeric":
        return np.arange(2 if column.kind == "boolean" else len(column.categories), dtype=np.float64)
    if points < 2:
        raise InputError(f"A grid needs at least 2 points, but {points} were asked for.")
    known = inputs.values[~np.isnan(inputs.values[:, j]), j]
    if not len(known):
        raise InputError(f"The feature {feature!r} has no known value in these rows.")
    return np.unique(np.quantile(known, np.linspace(0, 1, points), method="inverted_cdf"))


def individual_conditional_expectation(
    model: Model,
    inputs: Table,
    feature: str,
    *,
    grid: Sequence[float] | Floats | None = None,
    points: int = 20,
    target: int = 1,
    scale: Scale = "log_odds",
    weights: Floats | None = None,
) -> Effect:
    """Curves (n, g) of every row, and their mean as `values`.

    grid: coded values; None: `feature_grid`. target: class index. scale: as in `models.base.on_scale`; log_odds is the value for
    regression. weights: (n,) of the rows in the mean. Raises InputError, ModelError.
    """
    return _dependence("ice", model, inputs, feature, grid, points, target, scale, weights)


def partial_dependence(
    model: Model,
    inputs: Table,
    feature: str,
    *,
    grid: Sequence[float] | Floats | None = None,
    points: int = 20,
    target: int = 1,
    scale: Scale = "log_odds",
    weights: Floats | None = None,
) -> Effect:
    """Mean score of all rows with the feature set to each grid value. Arguments as in `individual_conditional_expectation`."""
    return _dependence("pdp", model, inputs, feature, grid, points, target, scale, weights)


def accumulated_local_effects(
    model: Model,
    inputs: Table,
    feature: str,
    *,
    bins: int = 20,
    target: int = 1,
    scale: Scale = "log_odds",
    weights: Floats | None = None,
) -> Effect:
    """First-order ALE at the edges of up to `bins` quantile bins; its weighted mean over the rows is zero.

    Rows whose value is missing are left out. A constant feature has one edge and no effect. Raises InputError for categories and when
    no value is known, ModelError.
    """
    j = inputs.index_of(feature)
    if inputs.columns[j].kind == "categorical":
        raise InputError(
            f"The categories of {feature!r} have no order, which accumulated local effects need; look at its partial dependence instead."
        )
    if bins < 1:
        raise InputError(f"ALE needs at least one bin, but {bins} were asked for.")
    known = ~np.isnan(inputs.values[:, j])
    if inputs.columns[j].kind == "boolean":
        known &= inputs.values[:, j] >= 0
    rows = inputs.take(known)
    if not len(rows):
        raise InputError(f"The feature {feature!r} has no known value in these rows.")
    w = _weights(weights, len(inputs))[known]
    if w.sum() <= 0:
        raise InputError(f"The rows that know {feature!r} have no weight.")
    x = rows.values[:, j]
    edges = np.unique(np.quantile(x, np.linspace(0, 1, bins + 1), method="inverted_cdf"))
    last = len(edges) - 1
    if last == 0:
        mean, error, count = np.zeros(1), np.zeros(1), np.zeros(1, dtype=np.int64)
    else:
        place = np.clip(np.searchsorted(edges, x, side="left"), 1, last)  # bin k lies between edges k − 1 and k
        steps = np.diff(_scores(model, rows, j, np.stack([edges[place - 1], edges[place]], 1), target, scale), axis=1)[
            :, 0
        ]
        mass = np.bincount(place, weights=w, minlength=last + 1)
        step = np.divide(
            np.bincount(place, weights=w * steps, minlength=last + 1), mass, out=np.zeros(last + 1), where=mass > 0
        )
        squares = np.bincount(place, weights=(w * (steps - step[place])) ** 2, minlength=last + 1)
        variance = np.divide(squares, mass**2, out=np.zeros(last + 1), where=mass > 0)
        rise = np.cumsum(step)
        # Centring: a row in bin k counts as the mean of its bin's two edges (equation 16 of the paper).
        middle = (rise[place - 1] + rise[place]) / 2
        mean, error = rise - (w * middle).sum() / w.sum(), np.sqrt(np.cumsum(variance))
        count = np.bincount(place, minlength=last + 1)
    return Effect(
        "ale", feature, edges, mean, error, None, count.astype(np.int64), _labels(inputs, j, edges), _resolved(model, scale), target,
        model.label,
    )  # fmt: skip


def _dependence(
    method: Literal["pdp", "ice"], model: Model, inputs: Table, feature: str, grid: Sequence[float] | Floats | None, points: int,
    target: int, scale: Scale, weights: Floats | None,
) -> Effect:  # fmt: skip
    if not len(inputs):
        raise InputError("There are no rows to average over.")
    j = inputs.index_of(feature)
    at = feature_grid(inputs, feature, points=points) if grid is None else np.asarray(grid, dtype=np.float64)
    if at.ndim != 1 or not len(at):
        raise InputError(f"A grid should be a list of coded values, but has shape {at.shape}.")
    w = _weights(weights, len(inputs))
    w = w / w.sum()
    curves = _scores(model, inputs, j, np.broadcast_to(at, (len(inputs), len(at))), target, scale)
    mean = w @ curves
    error = np.sqrt(w**2 @ (curves - mean) ** 2)
    count = np.full(len(at), len(inputs), dtype=np.int64)
    return Effect(
        method, feature, at, mean, error, curves if method == "ice" else None, count, _labels(inputs, j, at), _resolved(model, scale),
        target, model.label,
    )  # fmt: skip


def _scores(model: Model, inputs: Table, j: int, settings: Floats, target: int, scale: Scale) -> Floats:
    """(n, g) scores of every row with feature j set to each of its (n, g) settings."""
    from distillens.explainers.masking import MEMORY_BYTES, rows_that_fit
    from distillens.models.base import evaluate, on_scale
    from distillens.progress import task

    n, g = settings.shape
    size = max(1, rows_that_fit(len(inputs.columns), MEMORY_BYTES) // g)
    resolved = _resolved(model, scale)
    scores = np.empty((n, g))
    with task("effects", total=n * g, unit="forwards") as advance:
        for start in range(0, n, size):
            rows = np.repeat(inputs.values[start : start + size], g, axis=0)
            rows[:, j] = settings[start : start + size].reshape(-1)
            outputs = evaluate(model, inputs.with_values(rows))
            score = on_scale(outputs, output=model.output, target=target, scale=resolved)
            scores[start : start + size] = score.reshape(-1, g)
            advance(len(rows))
    return scores


def _resolved(model: Model, scale: Scale) -> Scale:
    from distillens.explainers.masking import resolved_scale

    return resolved_scale(model, scale)


def _weights(weights: Floats | None, n: int) -> Floats:
    if weights is None:
        return np.ones(n)
    w = np.asarray(weights, dtype=np.float64)
    if w.shape != (n,) or not np.isfinite(w).all() or (w < 0).any() or w.sum() <= 0:
        raise InputError(f"Weights should be {n} non-negative numbers with a positive sum.")
    return w


def _labels(inputs: Table, j: int, grid: Floats) -> tuple[str, ...]:
    return tuple(inputs.text_of(float(z), j) or "missing" for z in grid)
