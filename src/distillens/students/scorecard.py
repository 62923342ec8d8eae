"""Scorecard student: weights of evidence and a logistic regression on the teacher's probabilities, scaled to points (Siddiqi 2006).

1. Each feature is binned (`students/binning.py`): numbers into ranges, levels into groups, missing and unseen apart.
2. Each bin's weight of evidence, with the teacher's probabilities as counts: WoE = ln( share of the good / share of the adverse ).
3. Logistic regression of good on the WoE of all features, by the cross-entropy to the teacher's probabilities (or labels), with
   coefficients that are never negative: a negative one would give more points to the worse bin. A coefficient of zero drops the feature.
4. Points: score = offset + factor · log-odds of good, factor = PDO / ln 2, offset = base score − factor · ln(base odds).

Query rows that the teacher labelled count like training rows. Nothing is drawn: the same targets give the same card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from distillens.data.base import Floats, Split, Table
    from distillens.models.base import Model
    from distillens.models.scorecard import Characteristic, ScorecardModel
    from distillens.transfer.targets import Targets

POINTS_FILE = "points.csv"
NOTHING = 1e-12  # an information value below this is rounding


@dataclass(frozen=True)
class ScorecardStudent:
    """base_score, base_odds, pdo: `base_score` points mean `base_odds` good to one adverse, `pdo` points more double the odds.

    integer: round the points (the rounded card is the model; what it costs is stated). adverse: the class that few points mean; null:
    `task.adverse` of the recipe, else the second class. binning: optimal (information value less `min_gain` a bin is largest) or quantile.
    max_bins, min_share: bins of a feature at most, and the share of the rows in each at least. min_gain: information value that one bin
    more must add. min_iv: features below it are left off the card. smoothing: average rows added to each bin. l2: ridge penalty.
    monotone: {feature: −1 | 0 | +1}, the direction of the log-odds of the second class. shapes: "monotone" makes every other number rise
    or fall, too, whichever tells more.
    """

    kind: ClassVar[str] = "scorecard"
    readable: ClassVar[bool] = True
    tasks: ClassVar[tuple[str, ...]] = ("binary",)

    base_score: float = 600.0
    base_odds: float = 50.0
    pdo: float = 20.0
    integer: bool = True
    adverse: str | None = None
    binning: Literal["optimal", "quantile"] = "optimal"
    max_bins: int = 6
    min_share: float = 0.05
    min_gain: float = 0.005
    min_iv: float = 0.02
    smoothing: float = 0.5
    l2: float = 1e-3
    shapes: Literal["free", "monotone"] = "free"
    monotone: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from distillens.errors import DataError

        for name, low in (("max_bins", 2),):
            if getattr(self, name) < low:
                raise DataError(f"{name} must be at least {low}, got {getattr(self, name)}.")
        for name in ("base_odds", "pdo"):
            if not getattr(self, name) > 0:
                raise DataError(f"{name} must be above 0, got {getattr(self, name)}.")
        for name in ("min_gain", "min_iv", "smoothing", "l2"):
            if not getattr(self, name) >= 0:
                raise DataError(f"{name} must be zero or positive, got {getattr(self, name)}.")
        if not 0 <= self.min_share <= 0.5:
            raise DataError(f"min_share must be between 0 and 0.5, got {self.min_share}.")
        for name, options in (("binning", ("optimal", "quantile")), ("shapes", ("free", "monotone"))):
            if getattr(self, name) not in options:
                raise DataError(f"{name} must be {' or '.join(options)}, got {getattr(self, name)!r}.")

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> ScorecardModel:
        """out: the card is also written there, as `points.csv`. Raises DataError, also for tasks that are not binary."""
        del validation, teacher, seed
        import numpy as np

        from distillens.errors import DataError
        from distillens.models.monotone import signs
        from distillens.models.scorecard import ScorecardModel
        from distillens.students.linear import soft_cross_entropy

        if len(targets.classes) != 2:
            what = f"{len(targets.classes)} classes" if targets.classes else "a number to predict"
            raise DataError(
                f"A scorecard decides between two classes, and there is {what}; use linear, tree or additive."
            )
        adverse = self._adverse(targets.classes)
        table, p = targets.table, targets.probabilities
        good, bad = targets.weights * p[:, 1 - adverse], targets.weights * p[:, adverse]
        totals = (float(good.sum()), float(bad.sum()))
        # WoE is evidence of good; the constraint speaks of the log-odds of the second class
        rises = signs(self.monotone, table) * (1 if adverse == 0 else -1)
        found = [self._characteristic(table, j, good, bad, totals, int(rises[j])) for j in range(len(table.columns))]
        kept = [c for c in found if c.iv >= self.min_iv]
        weights = targets.weights / targets.weights.sum()
        x = np.column_stack([_looked_up(table, c, c.woe) for c in kept]) if kept else np.empty((len(table), 0))
        coefficients, intercepts = soft_cross_entropy(
            x, p[:, [adverse, 1 - adverse]], weights, l2=self.l2, sign=np.ones(len(kept), dtype=np.int64)
        )
        factor = self.pdo / float(np.log(2))
        intercept = float(intercepts[0])
        exact = self.base_score - factor * float(np.log(self.base_odds)) + factor * intercept
        base_points = float(np.rint(exact)) if self.integer else exact
        card, change = [], np.full(len(table), base_points - exact)
        for c, coefficient in zip(kept, coefficients[0], strict=True):
            if coefficient <= 0:
                continue
            points = factor * float(coefficient) * c.woe
            used = np.rint(points) + 0.0 if self.integer else points  # + 0.0: no points are 0, not −0
            change += _looked_up(table, c, used - points)
            card.append(_with_points(c, float(coefficient), used))
        on_card = {c.feature for c in card}
        rounding = (float(weights @ np.abs(change)) / factor, float(np.abs(change).max()) / factor)
        model = ScorecardModel(
            table.columns, targets.classes, "scorecard", adverse, float(self.base_score), float(self.base_odds), float(self.pdo),
            self.integer, intercept, base_points, tuple(card),
            tuple((c.feature, c.iv) for c in found if c.feature not in on_card), rounding if self.integer else (0.0, 0.0),
        )  # fmt: skip
        if out is not None:
            from distillens.store import write_text

            write_text(out / POINTS_FILE, model.points_csv())
        return model

    def _adverse(self, classes: tuple[str, ...]) -> int:
        from distillens.errors import DataError, did_you_mean

        if self.adverse is None:
            return 1
        if self.adverse not in classes:
            raise DataError(
                f"adverse: {self.adverse!r} is not one of the classes.{did_you_mean(self.adverse, classes)}"
            )
        return classes.index(self.adverse)

    def _characteristic(
        self, table: Table, j: int, good: Floats, bad: Floats, totals: tuple[float, float], rises: int
    ) -> Characteristic:
        """The bins of one feature with their weights of evidence; no points yet."""
        import numpy as np

        from distillens.errors import DataError
        from distillens.models.additive import bin_count, bins_of, float32_ceiling
        from distillens.models.encoding import as_float32
        from distillens.models.scorecard import Characteristic
        from distillens.students.binning import (
            bin_numbers,
            group_levels,
            information_value,
            weight_in_bins,
            weight_of_evidence,
        )

        column, x = table.columns[j], as_float32(table.values[:, j])
        if np.isinf(x).any():
            raise DataError(
                f"The feature {column.name!r} holds infinite numbers or numbers beyond ±3.4e38; rescale it or leave those rows out."
            )
        min_weight = self.min_share * sum(totals)
        cuts, groups = np.empty(0), np.empty(0, dtype=np.int64)
        if column.kind == "categorical":
            levels = len(column.categories)
            known = x >= 0  # neither missing (NaN) nor unseen
            code = x[known].astype(np.int64)
            g, a = (weight_in_bins(code, part[known], levels) for part in (good, bad))
            groups = group_levels(g, a, totals, max_bins=self.max_bins, min_weight=min_weight, min_gain=self.min_gain, smoothing=self.smoothing)  # fmt: skip
            bins = int(groups.max(initial=-1)) + 3
            place = np.concatenate([[0], np.where(groups < 0, bins - 1, groups + 1), [bins - 1]])
            where = place[bins_of(x, column, cuts)]
        elif column.kind == "boolean":
            cuts, bins = np.array([0.5]), 4
            where = bins_of(x, column, cuts)
        else:
            known = ~np.isnan(x) & (good + bad > 0)
            if known.any():
                directions = (rises,) if rises or self.shapes == "free" else (1, -1)
                cuts = float32_ceiling(
                    bin_numbers(
                        x[known], good[known], bad[known], totals, binning=self.binning, max_bins=self.max_bins,
                        min_weight=min_weight, min_gain=self.min_gain, smoothing=self.smoothing, directions=directions,
                    )
                )  # fmt: skip
            bins = bin_count(column, cuts)
            where = bins_of(x, column, cuts)
        g, a = (weight_in_bins(where, part, bins) for part in (good, bad))
        empty = g + a == 0  # nothing is known of an empty bin: it gets what the average row has
        woe = np.zeros(bins)
        woe[~empty] = weight_of_evidence(g[~empty], a[~empty], totals, smoothing=self.smoothing)
        if rises and column.kind == "boolean" and rises * (woe[2] - woe[1]) < 0:
            cuts, where = np.empty(0), np.where(where == 0, 0, 1)  # the two values are merged
            g, a = (np.array([part[0], part[1] + part[2], 0.0]) for part in (g, a))
            empty = g + a == 0
            woe = np.zeros(3)
            woe[~empty] = weight_of_evidence(g[~empty], a[~empty], totals, smoothing=self.smoothing)
        iv = information_value(g, a, woe, totals)
        iv = iv if iv > NOTHING else 0.0
        return Characteristic(j, cuts, groups, g, a, woe, iv, 0.0, np.zeros(len(woe)))


def _with_points(c: Characteristic, coefficient: float, points: Floats) -> Characteristic:
    from dataclasses import replace

    return replace(c, coefficient=coefficient, points=points)


def _looked_up(table: Table, c: Characteristic, values: Floats) -> Floats:
    """(n,) the number of each row's bin."""
    from distillens.models.additive import bins_of

    looked: Floats = c.by_code(values)[bins_of(table.values[:, c.feature], table.columns[c.feature], c.cuts)]
    return looked
