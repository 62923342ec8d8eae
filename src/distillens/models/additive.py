"""A generalised additive model of shape functions, with pairs: intercept + Σ f_j(x_j) + Σ f_jk(x_j, x_k), by look-up in binned tables.

Bins of a numeric or boolean feature: bin 0 = missing (for a boolean unseen too);
bins 1 … len(cuts)+1 = 1 + the number of cuts ≤ float32(x); the last bin = unknown.
Bins of a categorical feature: bin 0 = missing; bins 1 … C = codes 0 … C−1; the last bin = unseen (−1).
Cuts are stored as the smallest float32 not below the learnt one, so that float32 arithmetic cannot flip a row.

Contributions are exact on the scale of the logits. Scores are centred over the training rows, so a contribution is a deviation from
the average training row. What a pair contributes is split half and half between its two features, which is what Shapley would do with a
pair term that is purified (no main effects left in it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Column
from distillens.errors import ModelError
from distillens.models.base import from_log_odds
from distillens.models.encoding import as_float32
from distillens.models.store import fingerprint

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Table
    from distillens.models.base import Output, Scale


@dataclass(frozen=True, eq=False)
class Term:
    """One shape function (one feature) or one pair of features.

    features: one or two raw features. cuts: per feature the ascending cuts, empty for a categorical one.
    scores: (bins_1, K') or (bins_1, bins_2, K'). importance: mean |score| over the training rows (and outputs).
    bounds: per feature the smallest and largest number in training, for drawing; (0, 0) for a categorical one.
    spread: like scores, the standard deviation of each score over refits on other rows; None where it was fitted once. For reading only.
    """

    features: tuple[int, ...]
    cuts: tuple[Floats, ...]
    scores: Floats
    importance: float = 0.0
    bounds: tuple[tuple[float, float], ...] = ()
    spread: Floats | None = None


def float32_ceiling(cuts: Floats) -> Floats:
    """(n,) the smallest float32 ≥ each cut, as float64: cut ≤ x and ceiling ≤ x agree for every float32 x."""
    rounded = np.asarray(cuts, dtype=np.float64).astype(np.float32)
    above = np.nextafter(rounded, np.float32(np.inf))
    return np.where(rounded.astype(np.float64) < cuts, above, rounded).astype(np.float64)


def bins_of(values: Floats, column: Column, cuts: Floats) -> Ints:
    """(n,) bin of each coded value of one feature."""
    x = as_float32(values)
    missing = np.isnan(x)
    if column.kind == "categorical":
        count = len(column.categories)
        code = np.where(missing, 0, x).astype(np.int64)
        bins = np.where((code >= 0) & (code < count), code + 1, count + 1)
    else:
        bins = np.searchsorted(cuts, x, side="right").astype(np.int64) + 1
        if column.kind == "boolean":
            missing = missing | (x < 0)
    return np.where(missing, 0, bins)


def bin_count(column: Column, cuts: Floats) -> int:
    """Bins of one feature, missing and unknown included."""
    return (len(column.categories) if column.kind == "categorical" else len(cuts) + 1) + 2


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

    def __post_init__(self) -> None:
        width = len(self.intercepts)
        if width != (len(self.classes) if len(self.classes) > 2 else 1):
            raise ModelError(f"An additive model of {len(self.classes)} classes cannot have {width} intercepts.")
        for term in self.terms:
            shape = (
                *(bin_count(self.columns[j], cuts) for j, cuts in zip(term.features, term.cuts, strict=True)),
                width,
            )
            if term.scores.shape != shape:
                raise ModelError(
                    f"A term on features {term.features} needs scores of shape {shape}, got {term.scores.shape}."
                )

    def _parts(self, inputs: Table) -> Iterator[tuple[Term, Floats]]:
        """Each term with its (n, K') scores; a binning that several terms share is done once."""
        done: dict[tuple[int, int, bytes], Ints] = {}
        for term in self.terms:
            index = []
            for j, cuts in zip(term.features, term.cuts, strict=True):
                key = (j, len(cuts), cuts.tobytes())
                if key not in done:
                    done[key] = bins_of(inputs.values[:, j], self.columns[j], cuts)
                index.append(done[key])
            yield term, term.scores[tuple(index)]

    def scores(self, inputs: Table) -> Floats:
        """(n, K') scores: log-odds of class 1, logits of each class, or values."""
        total = np.tile(self.intercepts, (len(inputs), 1))
        for _, part in self._parts(inputs):
            total += part
        return total

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) logits or values."""
        scores = self.scores(inputs)
        return from_log_odds(scores[:, 0]) if len(self.classes) == 2 else scores

    def contributions(self, inputs: Table) -> tuple[Floats, Floats]:
        """Contributions (n, F, K) and base (K,); base + sum over features = outputs. A pair is split half and half."""
        out = np.zeros((len(inputs), len(self.columns), len(self.intercepts)))
        for term, part in self._parts(inputs):
            for j in term.features:
                out[:, j] += part / len(term.features)
        if len(self.classes) == 2:
            return np.concatenate([-out / 2, out / 2], axis=2), from_log_odds(self.intercepts)[0]
        return out, self.intercepts.copy()

    def describe(self) -> dict[str, Any]:
        """What people read: the shape functions, most important first; `bins` name the entries of `scores` along each feature."""
        outputs = ([self.classes[1]] if len(self.classes) == 2 else list(self.classes)) or ["value"]
        terms = []
        for term in sorted(self.terms, key=lambda t: -t.importance):
            features = []
            for place, (j, cuts) in enumerate(zip(term.features, term.cuts, strict=True)):
                column = self.columns[j]
                features.append({
                    "name": column.name,
                    "kind": column.kind,
                    "bins": self._bin_names(column, cuts),
                    "cuts": cuts.tolist(),
                    "bounds": list(term.bounds[place]) if term.bounds else None,
                })  # fmt: skip
            spread = None if term.spread is None else term.spread.tolist()
            terms.append(
                {"features": features, "importance": term.importance, "scores": term.scores.tolist(), "spread": spread}
            )
        return {
            "form": "additive",
            "scale": "log-odds" if len(self.classes) == 2 else "logit" if self.classes else "value",
            "outputs": outputs,
            "intercepts": self.intercepts.tolist(),
            "terms": terms,
        }

    @staticmethod
    def _bin_names(column: Column, cuts: Floats) -> list[str]:
        if column.kind == "categorical":
            return ["(missing)", *column.categories, "(unseen)"]
        shown = [f"{cut:.6g}" for cut in cuts]
        if not shown:
            middle = ["any"]
        else:
            inner = [f"{low} to {high}" for low, high in pairwise(shown)]
            middle = [f"< {shown[0]}", *inner, f"≥ {shown[-1]}"]
        if column.kind == "boolean" and len(middle) == 2:
            middle = list(column.categories)
        return ["(missing)", *middle, "(unknown)"]

    def complexity(self) -> dict[str, int]:
        """terms, pairs, parameters (entries of the score tables), nonzero entries, size_bytes."""
        arrays = self.to_record()[1]
        return {
            "terms": len(self.terms),
            "pairs": sum(len(t.features) == 2 for t in self.terms),
            "parameters": int(sum(t.scores.size for t in self.terms) + self.intercepts.size),
            "nonzero": int(sum(np.count_nonzero(t.scores) for t in self.terms)),
            "size_bytes": int(sum(a.nbytes for name, a in arrays.items() if not name.endswith(".spread"))),
        }

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        arrays: dict[str, NDArray[Any]] = {"intercepts": self.intercepts}
        terms = []
        for i, term in enumerate(self.terms):
            arrays[f"term.{i}.scores"] = term.scores
            arrays |= {} if term.spread is None else {f"term.{i}.spread": term.spread}
            arrays |= {f"term.{i}.cuts.{place}": cuts for place, cuts in enumerate(term.cuts)}
            terms.append(
                {
                    "features": list(term.features),
                    "importance": term.importance,
                    "bounds": [list(b) for b in term.bounds],
                }
            )
        columns = [c.to_json() for c in self.columns]
        return {"columns": columns, "classes": list(self.classes), "label": self.label, "terms": terms}, arrays

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> AdditiveModel:
        terms = tuple(
            Term(
                tuple(t["features"]),
                tuple(arrays[f"term.{i}.cuts.{place}"] for place in range(len(t["features"]))),
                arrays[f"term.{i}.scores"],
                t["importance"],
                tuple((low, high) for low, high in t["bounds"]),
                arrays.get(f"term.{i}.spread"),
            )
            for i, t in enumerate(meta["terms"])
        )
        columns = tuple(Column.from_json(c) for c in meta["columns"])
        return cls(columns, tuple(meta["classes"]), meta["label"], arrays["intercepts"], terms)
