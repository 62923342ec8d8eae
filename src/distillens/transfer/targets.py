"""`Targets`: what the teacher says about which rows, and how that was obtained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from distillens.errors import DataError
from distillens.models.base import as_logits, as_probabilities, log_odds
from distillens.store import content_hash

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Inputs, Split, Table
    from distillens.estimate import Estimate
    from distillens.models.base import Model, Output

Origin = Literal["labels", "in_sample", "out_of_fold"]


@dataclass(frozen=True, eq=False)
class Targets:
    """What the teacher says about rows, and where that came from.

    inputs: n rows (training rows first, then query rows). outputs: (n, K) teacher outputs, `output` names their kind.
    classes: names in output order, empty for regression. weights: (n,).
    labels: (n,) float64; the true class index or value, NaN where unknown (query rows); None when nothing is known.
    origin: how the outputs of training rows were made: "labels" (no teacher: one-hot labels), "in_sample", "out_of_fold".
    is_query: (n,) rows made up and labelled by the teacher.
    saturation: held-out minus in-sample entropy of the teacher's answers (see transfer/saturation.py); None if not measured.
    asked: (n) rows that the teacher was asked about, where those are others than `inputs` (permuted answers); None: the same.
    """

    inputs: Inputs
    outputs: Floats
    output: Output
    classes: tuple[str, ...]
    weights: Floats
    labels: Floats | None
    origin: Origin
    is_query: Bools
    saturation: Estimate | None = None
    asked: Inputs | None = None

    def __post_init__(self) -> None:
        n, k = len(self.inputs), len(self.classes) or 1
        if self.outputs.shape != (n, k):
            raise DataError(f"Targets for {n} rows need outputs of shape ({n}, {k}), got {self.outputs.shape}.")
        if not np.isfinite(self.outputs).all():
            raise DataError("The teacher's answers contain NaN or infinity; a student cannot learn from them.")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def table(self) -> Table:
        """The inputs, known to be a table; DataError when they are images."""
        from distillens.data.base import as_table

        return as_table(self.inputs)

    @property
    def probabilities(self) -> Floats:
        """(n, K) soft targets of a classifier."""
        return as_probabilities(self.outputs, self.output)

    @property
    def logits(self) -> Floats:
        """(n, K) centred log-probabilities or logits of a classifier."""
        return as_logits(self.outputs, self.output)

    def log_odds(self, target: int) -> Floats:
        """(n,) log-odds of one class, or the values for regression."""
        return log_odds(self.outputs, output=self.output, target=target)

    @classmethod
    def from_labels(cls, split: Split, classes: tuple[str, ...]) -> Targets:
        """Targets without a teacher: one-hot labels or true values. The undistilled control is fitted on these."""
        if split.labels is None:
            raise DataError("Targets from labels need labels, and these rows have none.")
        n = len(split)
        labels = np.asarray(split.labels, dtype=np.float64)
        if not np.isfinite(labels).all():
            raise DataError(
                f"{int((~np.isfinite(labels)).sum())} of {n} labels are NaN; drop those rows or fill the target."
            )
        outputs = np.eye(len(classes))[labels.astype(np.int64)] if classes else labels[:, None]
        weights = np.ones(n) if split.weights is None else np.asarray(split.weights, dtype=np.float64)
        return cls(split.inputs, outputs, "probabilities" if classes else "values", classes, weights, labels,
                   "labels", np.zeros(n, dtype=np.bool_))  # fmt: skip

    @classmethod
    def from_outputs(
        cls, split: Split, outputs: Floats, *, output: Output, classes: tuple[str, ...], origin: Origin = "in_sample"
    ) -> Targets:
        """Targets from (n, K) teacher answers on a split's rows."""
        n = len(split)
        weights = np.ones(n) if split.weights is None else np.asarray(split.weights, dtype=np.float64)
        labels = None if split.labels is None else np.asarray(split.labels, dtype=np.float64)
        return cls(
            split.inputs,
            np.asarray(outputs, dtype=np.float64),
            output,
            classes,
            weights,
            labels,
            origin,
            np.zeros(n, dtype=np.bool_),
        )

    def hardened(self) -> Targets:
        """The same rows with the teacher's top class as if it were the label: equal information, but no probabilities.

        Raises DataError for regression, where answers have no harder form.
        """
        if not self.classes:
            raise DataError("A regression teacher's answers are values; they have no harder form.")
        top = self.probabilities.argmax(axis=1)
        return replace(
            self,
            outputs=np.eye(len(self.classes))[top],
            output="probabilities",
            labels=top.astype(np.float64),
            origin="labels",
        )

    def with_saturation(self, saturation: Estimate) -> Targets:
        return replace(self, saturation=saturation)

    @property
    def fingerprint(self) -> str:
        arrays: dict[str, NDArray[Any]] = {
            **{name: array for name, array in self.inputs.arrays.items() if name != "row_ids"},
            "outputs": self.outputs,
            "weights": self.weights,
            "is_query": self.is_query,
        }
        if self.labels is not None:
            arrays["labels"] = self.labels
        return content_hash({"output": self.output, "classes": list(self.classes), "origin": self.origin}, arrays)

    def as_output(self, outputs: Floats, output: Output) -> Floats:
        """(n, K) answers of kind `output` as the kind these targets hold. DataError between classes and values."""
        if output == self.output:
            return outputs
        if "values" in (output, self.output):
            raise DataError(
                f"The targets are {self.output} and the answers are {output}: one is a regression, the other is not."
            )
        return as_logits(outputs, output) if self.output == "logits" else as_probabilities(outputs, output)


class Family(Protocol):
    """Anything that learns a model from targets: a student family, or a teacher's."""

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> Model: ...
