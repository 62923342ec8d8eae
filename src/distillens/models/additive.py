"""A generalised additive model of shape functions, with pairs: intercept + Σ f_j(x_j) + Σ f_jk(x_j, x_k), by look-up in binned tables.

Bins of a numeric or boolean feature: bin 0 = missing; bins 1 … len(cuts)+1 = 1 + the number of cuts ≤ float32(x); the last bin = unknown.
Bins of a categorical feature: bin 0 = missing; bins 1 … C = codes 0 … C−1; the last bin = unseen (−1).
Cuts are stored as the smallest float32 not below the learnt one, so that float32 arithmetic cannot flip a row.

Contributions are exact on the scale of the logits. Scores are centred over the training rows, so a contribution is a deviation from
the average training row. What a pair contributes is split half and half between its two features, which is what Shapley would do with a
pair term that is purified (no main effects left in it).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Column
from distillens.models.base import from_log_odds
from distillens.models.store import fingerprint

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Table
    from distillens.models.base import Output, Scale


@dataclass(frozen=True, eq=False)
class Term:
    """One shape function (one feature) or one pair of features.

    features: one or two raw features. cuts: per feature the ascending cuts, empty for a categorical one.
    scores: (bins_1, K') or (bins_1, bins_2, K').
    """

    features: tuple[int, ...]
    cuts: tuple[Floats, ...]
    scores: Floats


@dataclass(frozen=True, eq=False)
class AdditiveModel:
    """A fitted additive model.

    intercepts: (K',), terms: shape functions and pairs; K' = 1 for regression and for binary tasks, where the score is the log-odds of
    class index 1; K' = K for more classes.
    """

    kind: ClassVar[str] = "additive"

    columns: tuple[Column, ...]
    classes: tuple[str, ...]
    label: str
    intercepts: Floats
    terms: tuple[Term, ...]

    @property
    def output(self) -> Output:
        return "logits" if self.classes else "values"

    @property
    def contribution_scale(self) -> Scale:
        return "logit" if self.classes else "value"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self)
