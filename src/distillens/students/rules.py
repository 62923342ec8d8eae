"""Rule list student: separate and conquer (Fürnkranz 1999) on the teacher's probabilities or values.

One rule after the other, on the rows that no rule has answered yet. A rule is a conjunction of conditions, found by beam search; with
S(A) = Σ_{i in A} w_i ‖y_i − mean of A‖², rows R and those C that the rule covers, it should make

    S(R) − S(C) − S(R \\ C) − `purity` · S(C)

large: explain much of what differs, and cover rows that are alike, because what a rule covers is never looked at again. A longer rule
must be better by `LONGER` to win. The answer of a rule is the mean of the rows it covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from distillens.data.base import Bools, Floats, Ints, Split
    from distillens.models.base import Model
    from distillens.models.encoding import Encoding
    from distillens.models.rules import RuleListModel
    from distillens.transfer.targets import Targets

CUTS = 16  # thresholds tried of a number
BEAM = 8  # conjunctions kept while searching
LONGER = 0.05  # a condition more must raise the score by this share
BLOCK = 64  # conditions whose rows are summed at once


class Conditions(NamedTuple):
    """feature, threshold, below: (C,) as in `RuleListModel`; holds: (n, C) where each holds."""

    feature: Ints
    threshold: Floats
    below: Bools
    holds: Bools


@dataclass(frozen=True)
class RulesStudent:
    """max_rules: rules at most, the ELSE not counted. max_conditions: of one rule. min_share: share of all rows that a rule answers at least.

    min_gain: share of the total variation that a rule must explain. purity: how much alike the rows of a rule should be.
    """

    kind: ClassVar[str] = "rules"
    readable: ClassVar[bool] = True

    max_rules: int = 10
    max_conditions: int = 2
    min_share: float = 0.02
    min_gain: float = 0.002
    purity: float = 0.5

    def __post_init__(self) -> None:
        from distillens.errors import DataError

        for name in ("max_rules", "max_conditions"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("min_gain", "purity"):
            if not getattr(self, name) >= 0:
                raise DataError(f"{name} must be zero or positive, got {getattr(self, name)}.")
        if not 0 < self.min_share <= 0.5:
            raise DataError(f"min_share must be above 0 and at most 0.5, got {self.min_share}.")

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> RuleListModel:
        """Nothing is drawn: the same targets give the same list. Raises DataError."""
        del validation, teacher, seed, out
        import numpy as np

        from distillens.models.encoding import Encoding
        from distillens.models.rules import RuleListModel
        from distillens.progress import task

        encoding = Encoding.fit(targets.table, weights=targets.weights, standardize=False, fill_missing=False)
        found = conditions(encoding(targets.table.values), targets.weights, encoding)
        y = targets.probabilities if targets.classes else targets.outputs
        # two probabilities hold one number, and a sum over both would only double every score
        aims = y[:, 1:] if len(targets.classes) == 2 else y
        weights, total = targets.weights, float(targets.weights.sum())
        variation = spread(aims, weights)
        left = np.arange(len(aims))
        chosen: list[list[int]] = []
        values, coverage = [], []
        with task("rule list", total=self.max_rules, unit="rules") as advance:
            while len(chosen) < self.max_rules:
                best = self._search(
                    found, left, aims, weights, min_weight=self.min_share * total, min_gain=self.min_gain * variation
                )
                if best is None:
                    break
                holds = covers(found.holds, left, best)
                covered, left = left[holds], left[~holds]
                chosen.append(best)
                values.append(np.average(y[covered], axis=0, weights=weights[covered]))
                coverage.append(float(weights[covered].sum()) / total)
                advance(1)
        values.append(np.average(y[left], axis=0, weights=weights[left]))
        coverage.append(float(weights[left].sum()) / total)
        picked = np.array([c for rule in chosen for c in rule], dtype=np.int64)
        rule = np.repeat(np.arange(len(chosen)), [len(r) for r in chosen]).astype(np.int64)
        return RuleListModel(
            targets.table.columns, targets.classes, "rules", encoding, rule, found.feature[picked],
            found.threshold[picked], found.below[picked], np.array(values), np.array(coverage),
        )  # fmt: skip

    def _search(
        self, found: Conditions, left: Ints, aims: Floats, weights: Floats, *, min_weight: float, min_gain: float
    ) -> list[int] | None:
        """The best conjunction on the rows that are left, as condition numbers; None when nothing is worth a rule."""
        import numpy as np

        y, w = aims[left], weights[left]
        if float(w.sum()) < 2 * min_weight or not len(found.feature):
            return None
        y = y - np.average(y, axis=0, weights=w)  # the sums below lose less to rounding around zero
        beam: list[tuple[int, ...]] = [()]
        best, highest = None, 0.0
        for _ in range(self.max_conditions):
            scored: dict[tuple[int, ...], tuple[float, float]] = {}
            for start in beam:
                rows = covers(found.holds, left, start)
                gain, score = self._scores(found.holds, left, rows, y, w, min_weight)
                for c in np.argsort(-score, kind="stable")[: BEAM + len(start)]:
                    if int(c) not in start and np.isfinite(score[c]):
                        scored[tuple(sorted((*start, int(c))))] = (float(gain[c]), float(score[c]))
            if not scored:
                break
            beam = sorted(scored, key=lambda key: (-round(scored[key][1], 9), key))[:BEAM]
            for key in beam:
                gain_of, score_of = scored[key]
                limit = highest * (1 + LONGER) if best is not None and len(key) > len(best) else highest
                if gain_of >= min_gain and score_of > limit + 1e-12:
                    best, highest = key, score_of
        return None if best is None else list(best)

    def _scores(
        self, holds: Bools, left: Ints, rows: Bools, y: Floats, w: Floats, min_weight: float
    ) -> tuple[Floats, Floats]:
        """(C,) gains and scores of every condition added to a conjunction that covers `rows` of those left; −∞ where too few rows remain."""
        import numpy as np

        square = (y**2).sum(axis=1)
        table = np.column_stack([w, w * square, w[:, None] * y])  # per row: weight, squares, sums
        whole, part = table.sum(axis=0), table[rows]
        sums = np.empty((holds.shape[1], table.shape[1]))
        index = left[rows]
        for start in range(0, len(sums), BLOCK):
            sums[start : start + BLOCK] = holds[index, start : start + BLOCK].T.astype(np.float64) @ part

        def variation(sums: Floats) -> Floats:
            inside: Floats = sums[:, 1] - (sums[:, 2:] ** 2).sum(axis=1) / np.maximum(sums[:, 0], 1e-300)
            return np.maximum(inside, 0.0)

        covered, rest = variation(sums), variation(whole - sums)
        gain = float(variation(whole[None])[0]) - covered - rest
        score = gain - self.purity * covered
        light = np.minimum(sums[:, 0], whole[0] - sums[:, 0]) < min_weight * (1 - 1e-9)
        gain[light], score[light] = -np.inf, -np.inf
        return gain, score


def covers(holds: Bools, left: Ints, conjunction: Sequence[int]) -> Bools:
    """(len(left),) whether all conditions of a conjunction hold; the empty one covers every row."""
    import numpy as np

    rows = np.ones(len(left), dtype=np.bool_)
    for c in conjunction:
        rows &= holds[left, c]
    return rows


def spread(y: Floats, weights: Floats) -> float:
    """Σ w ‖y − mean‖² of (n, K) answers."""
    import numpy as np

    return float(weights @ ((y - np.average(y, axis=0, weights=weights)) ** 2).sum(axis=1))


def conditions(encoded: Floats, weights: Floats, encoding: Encoding) -> Conditions:
    """Every condition worth trying: both sides of up to `CUTS` thresholds of a number, both answers of a 0/1 column."""
    import numpy as np

    from distillens.models.tree import float32_floor
    from distillens.students.binning import weighted_cuts

    feature, threshold = [], []
    for d in range(encoding.width):
        x = encoded[:, d]
        known = ~np.isnan(x) & (weights > 0)
        values = np.unique(x[known])
        if len(values) < 2:
            continue
        if encoding.part[d] == "value" and encoding.columns[int(encoding.feature[d])].kind == "numeric":
            # a cut stands at the lower end of the upper values, and ≤ asks for the upper end of the lower ones
            cuts = weighted_cuts(x[known], weights[known], bins=CUTS + 1)
            cuts = np.unique([float(values[np.searchsorted(values, cut) - 1]) for cut in cuts])
        else:
            cuts = np.array([0.5])
        feature += [d] * len(cuts)
        threshold += float32_floor(cuts).tolist()
    f, t = np.repeat(np.array(feature, dtype=np.int64), 2), np.repeat(np.array(threshold, dtype=np.float64), 2)
    below = np.tile(np.array([True, False]), len(feature))
    holds = np.empty((len(encoded), len(f)), dtype=np.bool_)
    for c in range(len(f)):
        holds[:, c] = encoded[:, f[c]] <= t[c] if below[c] else encoded[:, f[c]] > t[c]
    return Conditions(f, t, below, holds)
