"""A linear model on encoded columns: logistic, softmax or least-squares regression. Readable, exact to explain.

    z_k(x) = intercept_k + Σ_d coefficient_kd · e_d(x)        e = `Encoding` of the raw features

Contribution of a raw feature to output k: Σ_{d of the feature} coefficient_kd (e_d(x) − mean of e_d in training), which is its Shapley
value when features are independent; base: z_k at the training means.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Column
from distillens.models.base import from_log_odds
from distillens.models.encoding import Encoding
from distillens.models.store import fingerprint

if TYPE_CHECKING:
    from distillens.data.base import Floats, Table
    from distillens.models.base import Output, Scale


@dataclass(frozen=True, eq=False)
class LinearModel:
    """A fitted linear model.

    columns: F raw features. classes: empty for regression. encoding: F raw features to D encoded columns.
    coefficients: (K', D), intercepts: (K',); K' = 1 for regression and for binary tasks, where the score is the log-odds of
    class index 1; K' = K for more classes. base_mean: (D,) weighted training means of the encoded columns.
    """

    kind: ClassVar[str] = "linear"

    columns: tuple[Column, ...]
    classes: tuple[str, ...]
    label: str
    encoding: Encoding
    coefficients: Floats
    intercepts: Floats
    base_mean: Floats

    @property
    def output(self) -> Output:
        return "logits" if self.classes else "values"

    @property
    def contribution_scale(self) -> Scale:
        return "logit" if self.classes else "value"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self)

    def scores(self, inputs: Table) -> Floats:
        """(n, K') scores: log-odds of class 1, logits of each class, or values."""
        scores: Floats = self.encoding(inputs.values) @ self.coefficients.T + self.intercepts
        return scores

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) logits or values."""
        scores = self.scores(inputs)
        return from_log_odds(scores[:, 0]) if len(self.classes) == 2 else scores

    def contributions(self, inputs: Table) -> tuple[Floats, Floats]:
        """Contributions (n, F, K) and base (K,); base + sum over features = outputs."""
        deviation = self.encoding(inputs.values) - self.base_mean
        parts = np.stack([self.encoding.to_raw(deviation * row) for row in self.coefficients], axis=2)
        base = self.intercepts + self.coefficients @ self.base_mean
        if len(self.classes) == 2:
            return np.concatenate([-parts / 2, parts / 2], axis=2), from_log_odds(base)[0]
        return parts, base

    def describe(self) -> dict[str, Any]:
        """What people read: one line per encoded column, by size of its effect (|coefficient| × spread is left to the reader:
        numeric columns are standardised, so their coefficients are per standard deviation; `per_unit` is per raw unit)."""
        outputs = ([self.classes[1]] if len(self.classes) == 2 else list(self.classes)) or ["value"]
        rows = []
        for d, (name, j, part) in enumerate(
            zip(self.encoding.names, self.encoding.feature, self.encoding.part, strict=True)
        ):
            scale = float(self.encoding.scale[j]) if part == "value" else 1.0
            rows.append({
                "name": name,
                "feature": self.columns[int(j)].name,
                "coefficients": self.coefficients[:, d].tolist(),
                "per_unit": (self.coefficients[:, d] / scale).tolist(),
                "training_mean": float(self.base_mean[d]),
            })  # fmt: skip
        return {
            "form": "linear",
            "scale": "log-odds" if len(self.classes) == 2 else "logit" if self.classes else "value",
            "outputs": outputs,
            "intercepts": self.intercepts.tolist(),
            "coefficients": rows,
        }

    def complexity(self) -> dict[str, int]:
        """parameters, nonzero coefficients, size_bytes."""
        arrays = self.to_record()[1]
        return {
            "parameters": int(self.coefficients.size + self.intercepts.size),
            "nonzero": int(np.count_nonzero(self.coefficients)),
            "size_bytes": int(sum(a.nbytes for a in arrays.values())),
        }

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        meta, arrays = self.encoding.to_record()
        meta = {"encoding": meta, "classes": list(self.classes), "label": self.label}
        return meta, arrays | {
            "coefficients": self.coefficients,
            "intercepts": self.intercepts,
            "base_mean": self.base_mean,
        }

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> LinearModel:
        encoding = Encoding.from_record(meta["encoding"], arrays)
        return cls(encoding.columns, tuple(meta["classes"]), meta["label"], encoding,
                   arrays["coefficients"], arrays["intercepts"], arrays["base_mean"])  # fmt: skip
