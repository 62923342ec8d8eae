"""A scorecard: points for the bin each feature falls into, added up; many points mean a good risk. Binary tasks.

    log-odds of good = intercept + Σ_j coefficient_j · WoE_j(bin of x_j)
    score            = offset + factor · log-odds of good        factor = PDO / ln 2,   offset = base score − factor · ln(base odds)

so that `base_score` points mean odds of `base_odds` good to one adverse, and `pdo` points more double them (Siddiqi 2006, ch. 7). The card:

    score = base points + Σ_j points_j(bin)       base points = offset + factor · intercept,   points_j = factor · coefficient_j · WoE_j

With `integer` all of these are rounded, and the rounded card *is* the model: log-odds of good = (score − offset) / factor exactly.
What rounding changed is in `rounding`.

Bins are those of `models/additive.py`: 0 = missing, then ranges or groups of levels, then unseen. A scorecard is an additive model, and
answers, explains and exports as one. Contributions are centred on the training rows: the deviation from the average row's points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Column
from distillens.errors import ModelError
from distillens.models.additive import AdditiveModel, Term
from distillens.models.store import fingerprint

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Floats, Ints, Table
    from distillens.models.base import Output, Scale


@dataclass(frozen=True, eq=False)
class Characteristic:
    """One line of the card: a feature and its bins ("attributes").

    feature: raw feature. cuts: ascending, of a numeric or boolean feature. groups: (C,) group of each level of a categorical one,
    −1 for levels that training never had, which count as unseen. good, adverse: (bins,) training weight of either class.
    woe: (bins,), iv: its information value. coefficient: of the regression. points: (bins,), as the card has them.
    """

    feature: int
    cuts: Floats
    groups: Ints
    good: Floats
    adverse: Floats
    woe: Floats
    iv: float
    coefficient: float
    points: Floats

    def by_code(self, values: Floats) -> Floats:
        """(bins,) numbers of the bins spread over missing, every level, unseen: as an additive model looks them up."""
        if not len(self.groups):
            return values
        place = np.where(self.groups < 0, len(values) - 1, self.groups + 1)
        return values[np.concatenate([[0], place, [len(values) - 1]]).astype(np.int64)]


@dataclass(frozen=True, eq=False)
class ScorecardModel:
    """A fitted scorecard.

    classes: two. adverse: index of the class that few points mean. characteristics: the card; features it leaves out are in `left_out`
    as (feature, information value). intercept: log-odds of good at WoE 0. base_points: rounded when `integer`.
    rounding: (mean, largest) |change of the log-odds| by rounding over the training rows; zeros without rounding.
    """

    kind: ClassVar[str] = "scorecard"

    columns: tuple[Column, ...]
    classes: tuple[str, ...]
    label: str
    adverse: int
    base_score: float
    base_odds: float
    pdo: float
    integer: bool
    intercept: float
    base_points: float
    characteristics: tuple[Characteristic, ...]
    left_out: tuple[tuple[int, float], ...]
    rounding: tuple[float, float]

    def __post_init__(self) -> None:
        if len(self.classes) != 2:
            raise ModelError(f"A scorecard decides between two classes, got {len(self.classes)}.")

    @property
    def output(self) -> Output:
        return "logits"

    @property
    def contribution_scale(self) -> Scale:
        return "logit"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self)

    @property
    def factor(self) -> float:
        """Points per unit of log-odds: PDO / ln 2."""
        return self.pdo / float(np.log(2))

    @property
    def offset(self) -> float:
        """Points at odds of one to one."""
        return self.base_score - self.factor * float(np.log(self.base_odds))

    @cached_property
    def additive(self) -> AdditiveModel:
        """The same model as shape functions of the log-odds of class index 1, centred on the training rows."""
        sign = (1.0 if self.adverse == 0 else -1.0) / self.factor
        total, terms = self.base_points - self.offset, []
        for c in self.characteristics:
            weight = c.good + c.adverse
            mean = float((weight * c.points).sum() / weight.sum())
            total += mean
            spread = float((weight * np.abs(c.points - mean)).sum() / weight.sum() / self.factor)
            scores = sign * c.by_code(c.points - mean)
            terms.append(Term((c.feature,), (c.cuts,), scores[:, None], spread))
        return AdditiveModel(self.columns, self.classes, self.label, np.array([sign * total]), tuple(terms))

    def __call__(self, inputs: Table) -> Floats:
        """(n, 2) logits."""
        return self.additive(inputs)

    def contributions(self, inputs: Table) -> tuple[Floats, Floats]:
        """Contributions (n, F, 2) and base (2,) on the logits; exact, 0 for features that are not on the card."""
        return self.additive.contributions(inputs)

    def points(self, inputs: Table) -> Floats:
        """(n,) total scores: many points are a good risk."""
        from distillens.models.additive import bins_of

        score = np.full(len(inputs), self.base_points)
        for c in self.characteristics:
            bins = bins_of(inputs.values[:, c.feature], self.columns[c.feature], c.cuts)
            score += c.by_code(c.points)[bins]
        return score

    def attributes_of(self, inputs: Table) -> dict[str, tuple[Ints, int]]:
        """Per feature on the card, (n,) the line of the points table that each row falls into, in the order of `bin_names`, and their number."""
        from distillens.models.additive import bins_of

        out = {}
        for c in self.characteristics:
            code = bins_of(inputs.values[:, c.feature], self.columns[c.feature], c.cuts)
            place = c.by_code(np.arange(len(c.woe), dtype=np.float64)).astype(np.int64)
            out[self.columns[c.feature].name] = (place[code], len(c.woe))
        return out

    def bin_names(self, c: Characteristic) -> list[str]:
        """What each bin holds, in words."""
        column = self.columns[c.feature]
        if not len(c.groups):
            return ["(missing)", *ranges(column, c.cuts), "(unseen)"]
        held = [[column.categories[i] for i in np.flatnonzero(c.groups == g)] for g in range(len(c.woe) - 2)]
        return ["(missing)", *("; ".join(levels) for levels in held), "(unseen)"]

    def rows(self) -> list[dict[str, Any]]:
        """The points table, one entry a bin that a row can fall into; the characteristic with the widest range of points first."""
        out = []
        for c in sorted(self.characteristics, key=lambda c: (-float(np.ptp(c.points)), c.feature)):
            column = self.columns[c.feature]
            total = float((c.good + c.adverse).sum())
            edges = [-np.inf, *c.cuts.tolist(), np.inf]
            for b, label in enumerate(self.bin_names(c)):
                if b == len(c.woe) - 1 and column.kind != "categorical":
                    continue  # an unseen boolean counts as missing, and a number is never unseen
                weight = float(c.good[b] + c.adverse[b])
                known = 0 < b < len(c.woe) - 1
                is_range = known and not len(c.groups)
                out.append({
                    "feature": column.name, "bin": label,
                    "lower": edges[b - 1] if is_range else None, "upper": edges[b] if is_range else None,
                    "share": weight / total, "good": float(c.good[b]), "adverse": float(c.adverse[b]),
                    "adverse_rate": float(c.adverse[b]) / weight if weight > 0 else None,
                    "woe": float(c.woe[b]), "iv": c.iv, "coefficient": c.coefficient, "points": float(c.points[b]),
                })  # fmt: skip
        return out

    def points_table(self) -> pd.DataFrame:
        """The card as banks keep it: the base points, then one row a bin with its counts, adverse rate, WoE, IV and points.

        lower ≤ x < upper for numbers. `good` and `adverse` are the training weights that the card was fitted on.
        """
        import pandas as pd

        base = {"feature": "(base points)", "bin": "", "points": self.base_points}
        table = pd.DataFrame([base | {"coefficient": self.intercept}, *self.rows()])
        order = ["feature", "bin", "lower", "upper", "share", "good", "adverse", "adverse_rate", "woe", "iv", "coefficient", "points"]  # fmt: skip
        table = table.reindex(columns=order)
        return table.astype({"points": np.int64}) if self.integer else table

    def points_csv(self) -> str:
        """`points_table` as CSV. A name that a spreadsheet would take for a formula gets an apostrophe in front."""
        table = self.points_table()
        for name in ("feature", "bin"):
            table[name] = [f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text for text in table[name]]
        return table.to_csv(index=False, lineterminator="\n")

    def score_range(self) -> tuple[float, float]:
        """The fewest and the most points a row can have."""
        ends = [(c.points[self._possible(c)].min(), c.points[self._possible(c)].max()) for c in self.characteristics]
        low, high = (self.base_points + sum(float(e[side]) for e in ends) for side in (0, 1))
        return low, high

    def _possible(self, c: Characteristic) -> slice:
        return slice(None) if self.columns[c.feature].kind == "categorical" else slice(0, -1)

    def rounding_bound(self) -> float:
        """No row's log-odds differ by more from those of the card before rounding."""
        change = abs(self.base_points - (self.offset + self.factor * self.intercept))
        for c in self.characteristics:
            change += float(np.abs(c.points - self.factor * c.coefficient * c.woe).max())
        return change / self.factor

    def describe(self) -> dict[str, Any]:
        """What people read: the points table by feature, and how points, odds and probabilities belong together."""
        features: dict[str, dict[str, Any]] = {}
        for row in self.rows():
            shared = {key: row.pop(key) for key in ("iv", "coefficient")}
            name = row.pop("feature")
            bounds = {key: _finite(row.pop(key)) for key in ("lower", "upper")}
            entry = features.setdefault(name, {"name": name, **shared, "bins": []})
            entry["bins"].append(row | bounds)
        low, high = self.score_range()
        return {
            "form": "scorecard",
            "scale": "points",
            "outputs": [self.classes[1 - self.adverse]],
            "good": self.classes[1 - self.adverse],
            "adverse": self.classes[self.adverse],
            "base_points": self.base_points,
            "base_score": self.base_score,
            "base_odds": self.base_odds,
            "pdo": self.pdo,
            "factor": self.factor,
            "offset": self.offset,
            "intercept": self.intercept,
            "lowest_score": low,
            "highest_score": high,
            "integer": self.integer,
            "rounding": {"mean": self.rounding[0], "largest": self.rounding[1], "bound": self.rounding_bound()}
            if self.integer
            else None,
            "features": list(features.values()),
            "left_out": [{"name": self.columns[j].name, "iv": iv} for j, iv in self.left_out],
        }

    def complexity(self) -> dict[str, int]:
        """characteristics, attributes (bins a row can fall into), parameters (coefficients and their WoE), size_bytes."""
        bins = len(self.rows())
        return {
            "characteristics": len(self.characteristics),
            "attributes": bins,
            "parameters": bins + 1,
            "size_bytes": int(sum(a.nbytes for a in self.to_record()[1].values())),
        }

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        meta = {
            "columns": [c.to_json() for c in self.columns], "classes": list(self.classes), "label": self.label,
            "adverse": self.adverse, "integer": self.integer, "features": [c.feature for c in self.characteristics],
            "left_out": [j for j, _ in self.left_out],
        }  # fmt: skip
        scale = (self.base_score, self.base_odds, self.pdo, self.intercept, self.base_points, *self.rounding)
        arrays: dict[str, NDArray[Any]] = {
            "scale": np.array(scale, dtype=np.float64),
            "left_out.iv": np.array([iv for _, iv in self.left_out], dtype=np.float64),
        }
        for i, c in enumerate(self.characteristics):
            arrays |= {
                f"card.{i}.{name}": getattr(c, name) for name in ("cuts", "groups", "good", "adverse", "woe", "points")
            }
            arrays[f"card.{i}.fit"] = np.array([c.iv, c.coefficient])
        return meta, arrays

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> ScorecardModel:
        base_score, base_odds, pdo, intercept, base_points, mean, largest = (float(v) for v in arrays["scale"])
        characteristics = []
        for i, feature in enumerate(meta["features"]):
            cuts, groups, good, adverse, woe, points = (
                arrays[f"card.{i}.{name}"] for name in ("cuts", "groups", "good", "adverse", "woe", "points")
            )
            iv, coefficient = (float(v) for v in arrays[f"card.{i}.fit"])
            characteristics.append(Characteristic(feature, cuts, groups, good, adverse, woe, iv, coefficient, points))
        left_out = tuple((j, float(iv)) for j, iv in zip(meta["left_out"], arrays["left_out.iv"], strict=True))
        columns = tuple(Column.from_json(c) for c in meta["columns"])
        return cls(columns, tuple(meta["classes"]), meta["label"], meta["adverse"], base_score, base_odds, pdo, meta["integer"],
                   intercept, base_points, tuple(characteristics), left_out, (mean, largest))  # fmt: skip


def ranges(column: Column, cuts: Floats) -> list[str]:
    """The ranges between ascending cuts in words; the two values of a boolean by name."""
    if column.kind == "boolean" and len(cuts) == 1:
        return list(column.categories)
    shown = [f"{cut:.6g}" for cut in cuts]
    if not shown:
        return ["any"]
    inner = [f"{low} to < {high}" for low, high in pairwise(shown)]
    return [f"< {shown[0]}", *inner, f"≥ {shown[-1]}"]


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
