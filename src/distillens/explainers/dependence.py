"""SHAP dependence: a feature's value against its attribution, row by row, for one model or for several side by side.

    from distillens.explainers.dependence import dependence

    found = dependence({"teacher": of_teacher, "student": of_student}, rows, "income")
    found.to_frame()             # a line a row: the value in words and as coded, and every model's attribution
    found.summary()              # the same in bins

Lundberg et al. 2020, section 2.7 ("SHAP dependence plots"). Beside PDP, ICE and ALE (effects.py), which ask the model about rows that
do not exist: this is a view of explanations that exist, and asks nothing. The vertical spread at one value is what other features
add to this one's attribution. Where student and teacher agree on every decision but not here, they decide for different reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.errors import InputError, did_you_mean
from distillens.similarity import spearman

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Floats, Ints, Table
    from distillens.explainers.base import Explanation
    from distillens.models.base import Scale


@dataclass(frozen=True, eq=False)
class Dependence:
    """One feature of n rows. values: (n,) as coded, NaN where missing; labels: the same in the user's words.

    attributions: model → (n,) φ of the feature. stderr: model → (n,), None where exact. kind: of the feature.
    """

    feature: str
    kind: str
    row_ids: Ints
    values: Floats
    labels: tuple[str, ...]
    attributions: Mapping[str, Floats]
    stderr: Mapping[str, Floats | None]
    scale: Scale
    method: str

    def to_frame(self) -> pd.DataFrame:
        """A line a row: row_id, the feature in words, its code, and for every model its attribution and standard error."""
        import pandas as pd

        columns: dict[str, Any] = {"row_id": self.row_ids, self.feature: self.labels, "code": self.values}
        for model, found in self.attributions.items():
            error = self.stderr[model]
            columns |= {model: found, f"{model} stderr": np.full(len(found), np.nan) if error is None else error}
        return pd.DataFrame(columns)

    def summary(self, *, bins: int = 8) -> list[dict[str, Any]]:
        """The rows in up to `bins` quantile bins of a number, or by category; rows where it is missing last.

        Each: label, rows, and for every model the mean attribution and its standard deviation over the rows.
        """
        place, names = self._bins(bins)
        found = []
        for k, name in enumerate(names):
            here = place == k
            if not here.any():
                continue
            means = {model: float(phi[here].mean()) for model, phi in self.attributions.items()}
            spreads = {model: float(phi[here].std()) for model, phi in self.attributions.items()}
            found.append({"label": name, "rows": int(here.sum()), "mean": means, "spread": spreads})
        return found

    def _bins(self, bins: int) -> tuple[Ints, list[str]]:
        """(n,) bin of every row, and what the bins are called."""
        if bins < 1:
            raise InputError(f"A summary needs at least one bin, but {bins} were asked for.")
        missing = np.isnan(self.values)
        if self.kind != "numeric":
            names = sorted({*self.labels}, key=lambda text: float(self.values[self.labels.index(text)]))
            names = [n for n in names if n != "missing"] + ["missing"]
            return np.array([names.index(text) for text in self.labels], dtype=np.int64), names
        known = self.values[~missing]
        if not len(known):
            return np.zeros(len(missing), dtype=np.int64), ["missing"]
        edges = np.unique(np.quantile(known, np.linspace(0, 1, bins + 1), method="inverted_cdf"))
        count = max(1, len(edges) - 1)
        place = np.clip(np.searchsorted(edges, self.values, side="left"), 1, count) - 1
        place = np.where(missing, count, place).astype(np.int64)
        names = []
        for k in range(count):
            inside = self.values[place == k]
            low, high = (float(inside.min()), float(inside.max())) if len(inside) else (np.nan, np.nan)
            names.append(f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}")
        return place, [*names, "missing"]

    def rank_correlation(self) -> dict[str, float | None]:
        """Model → Spearman's correlation of the feature's known values with their attributions; None for categories, and for constants.

        It says which way the model goes with the feature. It is only one number where every row has the same target: flipping
        the class row by row destroys it.
        """
        known = ~np.isnan(self.values)
        if self.kind == "categorical" or known.sum() < 2:
            return dict.fromkeys(self.attributions)
        made = {
            m: float(spearman(self.values[known][None], phi[known][None])[0]) for m, phi in self.attributions.items()
        }
        return {model: value if np.isfinite(value) else None for model, value in made.items()}

    def to_json(self) -> dict[str, Any]:
        """Every row's value and attributions, the summary and the rank correlations."""
        return {
            "effect": "dependence", "feature": self.feature, "method": self.method, "scale": self.scale, "row_ids": self.row_ids.tolist(),
            "values": [None if np.isnan(v) else float(v) for v in self.values], "labels": list(self.labels),
            "attributions": {model: phi.tolist() for model, phi in self.attributions.items()},
            "stderr": {model: None if e is None else e.tolist() for model, e in self.stderr.items()},
            "summary": self.summary(), "rank_correlation": self.rank_correlation(),
        }  # fmt: skip


def dependence(explanations: Explanation | Mapping[str, Explanation], inputs: Table, feature: str) -> Dependence:
    """A feature's value against its attribution in every explained row.

    explanations: one, or model → explanation (teacher and student) of the same rows, target, scale and units. inputs: a table that
    holds the explained rows, in any order. feature: a column that is explained by itself, not in a group.
    Raises InputError when the feature or a row is not there, or when the explanations cannot be laid side by side.
    """
    given = (
        dict(explanations) if isinstance(explanations, Mapping) else {explanations.model_label or "model": explanations}
    )
    if not given:
        raise InputError("A dependence needs at least one explanation.")
    first_name, first = next(iter(given.items()))
    column = inputs.columns[inputs.index_of(feature)]
    if feature not in first.units:
        raise InputError(
            f"The feature {feature!r} was not explained by itself; it is part of a group.{did_you_mean(feature, first.units)}"
        )
    place = {int(row): i for i, row in enumerate(inputs.row_ids)}
    absent = [int(row) for row in first.row_ids if int(row) not in place]
    if absent:
        raise InputError(f"The table does not hold the explained row {absent[0]}; give the rows that were explained.")
    attributions: dict[str, Floats] = {}
    stderr: dict[str, Floats | None] = {}
    for name, other in given.items():
        for what in ("scale", "units", "method"):
            if getattr(other, what) != getattr(first, what):
                raise InputError(
                    f"The explanations of {first_name} and {name} have different {what}; explain both models the same way."
                )
        at = {int(row): i for i, row in enumerate(other.row_ids)}
        if at.keys() != {int(row) for row in first.row_ids} or len(at) != len(other):
            raise InputError(f"The explanations of {first_name} and {name} are not of the same rows.")
        order = np.array([at[int(row)] for row in first.row_ids], dtype=np.int64)
        if (other.target[order] != first.target).any():
            raise InputError(f"The explanations of {first_name} and {name} explain different classes of the same row.")
        unit = other.index_of(feature)
        attributions[name] = other.values[order, unit]
        stderr[name] = None if other.stderr is None else other.stderr[order, unit]
    j = inputs.index_of(feature)
    values = inputs.values[[place[int(row)] for row in first.row_ids], j]
    labels = tuple(inputs.text_of(float(v), j) or "missing" for v in values)
    return Dependence(
        feature, column.kind, first.row_ids, values, labels, attributions, stderr, first.scale, first.method
    )
