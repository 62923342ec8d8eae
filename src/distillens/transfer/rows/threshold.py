"""Queries near the decision threshold: rows where the teacher's probability of the adverse class is close to where it changes its mind.

With p the teacher's probability and t the threshold, a candidate x lies d = |logit p(x) − logit t| away from the decision and is drawn with
probability in proportion to the defensive mixture (Hesterberg 1995)

    q(x) = a + (1 − a) · exp(−(d / b)² / 2)           b = bandwidth in log-odds, 0 < a ≤ 1 the uniform part

so that no region is left out. Drawing more rows somewhere tells a student that the world lies there. What a row weighs says whether it believes it:

    importance:  w ∝ 1 / q      the weighted candidates have the distribution they had; only the *resolution* is finer near the threshold.
                                No row weighs more than 1 / a times another.
    flat:        w ∝ 1          the student minimises its loss weighted by q: it gives accuracy far from the threshold for accuracy near it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.special import logit

from distillens.errors import InputError, ModelError
from distillens.models.base import evaluate, log_odds

if TYPE_CHECKING:
    from distillens.data.base import Floats, Table
    from distillens.models.base import Decision, Model

Weighting = Literal["importance", "flat"]


@dataclass(frozen=True)
class NearThreshold:
    """How query rows are drawn near the threshold; see above. Raises InputError."""

    bandwidth: float = 1.0
    uniform: float = 0.25
    weights: Weighting = "importance"

    def __post_init__(self) -> None:
        if not (self.bandwidth > 0 and math.isfinite(self.bandwidth)) or not 0 < self.uniform <= 1:
            raise InputError(
                f"Queries near the threshold need bandwidth > 0 and 0 < uniform ≤ 1, got {self.bandwidth!r} and {self.uniform!r}."
            )
        if self.weights not in ("importance", "flat"):
            raise InputError(f"Weights of queries near the threshold are importance or flat, not {self.weights!r}.")


def closeness(log_odds_adverse: Floats, *, threshold: float, settings: NearThreshold) -> Floats:
    """(n,) q(x) in [uniform, 1] from the teacher's log-odds of the adverse class."""
    distance = (log_odds_adverse - float(logit(threshold))) / settings.bandwidth
    return np.asarray(settings.uniform + (1 - settings.uniform) * np.exp(-0.5 * distance**2), dtype=np.float64)


def near_threshold(
    candidates: Table, teacher: Model, decision: Decision, *, rows: int, seed: int, settings: NearThreshold
) -> tuple[Table, Floats, dict[str, Any]]:
    """At most `rows` of the candidates, their (m,) relative weights with mean 1, and what was done, for the record.

    Rows are drawn with replacement, so that the importance weights are exact, and a row drawn several times stands there once with
    their weights added. Raises ModelError unless the teacher has two classes.
    """
    if len(teacher.classes) != 2:
        raise ModelError("Queries near the threshold are for two classes; more classes and values have no threshold.")
    if not len(candidates) or rows < 1:
        return candidates.take(np.empty(0, dtype=np.int64)), np.empty(0), {}
    score = log_odds(evaluate(teacher, candidates), output=teacher.output, target=decision.adverse)
    q = closeness(score, threshold=decision.threshold, settings=settings)
    drawn = np.random.default_rng(seed).choice(len(candidates), size=rows, replace=True, p=q / q.sum())
    chosen, times = np.unique(drawn, return_counts=True)
    weight = times / q[chosen] if settings.weights == "importance" else times.astype(np.float64)
    weight = weight * len(chosen) / weight.sum()
    record = {
        "threshold": decision.threshold,
        "bandwidth": settings.bandwidth,
        "uniform": settings.uniform,
        "weights": settings.weights,
        "within_bandwidth": float((np.abs(score[chosen] - logit(decision.threshold)) <= settings.bandwidth).mean()),
        "largest_weight": float(weight.max()),
        "effective_rows": float(weight.sum() ** 2 / (weight**2).sum()),
    }
    return candidates.take(chosen), np.asarray(weight, dtype=np.float64), record
