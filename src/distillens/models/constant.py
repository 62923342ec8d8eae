"""The constant control: the same answer to every row. It must fail an audit."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.errors import DataError, ModelError
from distillens.models.store import fingerprint

if TYPE_CHECKING:
    from distillens.data.base import Floats, Table
    from distillens.models.base import Output


@dataclass(frozen=True, eq=False)
class ConstantModel:
    """classes: empty for regression. answer: (K,) probabilities, or (1,) the value. Raises ModelError when they do not fit."""

    kind: ClassVar[str] = "constant"

    classes: tuple[str, ...]
    answer: Floats
    label: str = "constant"

    def __post_init__(self) -> None:
        expected = len(self.classes) or 1
        if self.answer.shape != (expected,) or not np.isfinite(self.answer).all():
            raise ModelError(
                f"A constant model of {len(self.classes)} classes needs {expected} finite numbers, got {self.answer!r}."
            )
        if self.classes and (abs(float(self.answer.sum()) - 1) > 1e-9 or (self.answer < 0).any()):
            raise ModelError(
                f"The probabilities of a constant model must not be negative and must sum to 1, got {self.answer!r}."
            )

    @classmethod
    def from_labels(
        cls, labels: NDArray[Any], classes: tuple[str, ...], *, weights: Floats | None = None, label: str = "constant"
    ) -> ConstantModel:
        """The (weighted) class frequencies of (n,) class indices, or the mean of (n,) values; labels that are NaN are left out.

        Raises DataError when no label is known.
        """
        known = np.asarray(labels, dtype=np.float64)
        w = np.ones(len(known)) if weights is None else np.asarray(weights, dtype=np.float64)
        w, known = w[np.isfinite(known)], known[np.isfinite(known)]
        if not w.sum() > 0:
            raise DataError("A constant model needs at least one label with positive weight.")
        if not classes:
            return cls((), np.array([np.average(known, weights=w)]), label)
        return cls(classes, np.bincount(known.astype(np.int64), weights=w, minlength=len(classes)) / w.sum(), label)

    @property
    def output(self) -> Output:
        return "probabilities" if self.classes else "values"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self)

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) the same row n times."""
        return np.tile(self.answer, (len(inputs), 1))

    def complexity(self) -> dict[str, int]:
        return {"parameters": int(self.answer.size), "size_bytes": int(self.answer.nbytes)}

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        return {"classes": list(self.classes), "label": self.label}, {"answer": self.answer}

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> ConstantModel:
        return cls(tuple(meta["classes"]), arrays["answer"], meta["label"])
