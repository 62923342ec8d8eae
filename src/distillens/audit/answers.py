"""What every model answers on the audited rows, in the teacher's class order, and the facts the whole audit shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Bools, Floats, Ints
from distillens.errors import InputError, ModelError, did_you_mean
from distillens.models.base import Decision, as_probabilities, evaluate, log_odds, log_probabilities

if TYPE_CHECKING:
    from distillens.data.base import Inputs
    from distillens.intervals import Resamples
    from distillens.metrics.base import Task
    from distillens.models.base import Model, Output, Scale


@dataclass(frozen=True, eq=False)
class Reordered:
    """A model with its outputs in another order of the same classes; everything else is the model's."""

    model: Model
    order: tuple[int, ...]

    @property
    def label(self) -> str:
        return self.model.label

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.model.classes[i] for i in self.order)

    @property
    def output(self) -> Output:
        return self.model.output

    @property
    def fingerprint(self) -> str | None:
        return self.model.fingerprint

    def __call__(self, inputs: Inputs) -> Floats:
        return evaluate(self.model, inputs)[:, list(self.order)]


def in_order(model: Model, classes: tuple[str, ...]) -> Model:
    """The model with its outputs in the order of `classes`. ModelError when the classes are not the same set."""
    if tuple(model.classes) == classes:
        if bool(classes) == (model.output == "values"):
            raise ModelError(f"The model {model.label!r} has {len(classes)} classes but output {model.output!r}.")
        return model
    if len(model.classes) != len(classes):
        raise ModelError(
            f"The model {model.label!r} answers with {len(model.classes) or 'no'} classes, the teacher with "
            f"{len(classes) or 'none'}; only models of the same classes can be compared."
        )
    for name in model.classes:
        if name not in classes:
            raise ModelError(
                f"The model {model.label!r} has a class {name!r} that the teacher does not have."
                f"{did_you_mean(name, classes)}"
            )
    if len(set(model.classes)) != len(classes):
        raise ModelError(f"The model {model.label!r} names a class twice: {model.classes!r}.")
    return Reordered(model, tuple(model.classes.index(name) for name in classes))


@dataclass(frozen=True, eq=False)
class Answers:
    """One model's answers on n rows.

    score: (n,) what is ranked and explained: log-odds of the explained class, or the value. decisions: (n,) class
    indices; None for regression. probabilities, log_probabilities: (n, K); None for regression.
    """

    label: str
    fingerprint: str | None
    output: Output
    score: Floats
    decisions: Ints | None
    probabilities: Floats | None
    log_probabilities: Floats | None

    @property
    def decided(self) -> Ints:
        """The decisions of a classifier."""
        if self.decisions is None:
            raise ModelError(f"The model {self.label!r} is a regression; it has no decisions.")
        return self.decisions

    @property
    def p(self) -> Floats:
        """(n, K) probabilities of a classifier."""
        if self.probabilities is None:
            raise ModelError(f"The model {self.label!r} is a regression; it has no probabilities.")
        return self.probabilities

    @property
    def log_p(self) -> Floats:
        """(n, K) log-probabilities of a classifier."""
        if self.log_probabilities is None:
            raise ModelError(f"The model {self.label!r} is a regression; it has no probabilities.")
        return self.log_probabilities


@dataclass(frozen=True, eq=False)
class Case:
    """The rows of an audit, in the order of their ids, with every model's answers.

    labels: (n,) class indices or values as floats, NaN unknown; None without labels. target: (n,) explained class of
    each row: the adverse class of a binary task, the teacher's top class of several, 0 for regression.
    answers: by role: teacher, student and the controls. models: by the same roles, in the teacher's class order.
    """

    task: Task
    classes: tuple[str, ...]
    decision: Decision
    inputs: Inputs
    labels: Floats | None
    target: Ints
    models: Mapping[str, Model]
    answers: Mapping[str, Answers]
    resamples: Resamples
    tolerance: float
    k: int
    seed: int

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def teacher(self) -> Answers:
        return self.answers["teacher"]

    @property
    def student(self) -> Answers:
        return self.answers["student"]

    @property
    def controls(self) -> tuple[str, ...]:
        return tuple(role for role in self.answers if role not in {"teacher", "student"})

    @property
    def labelled(self) -> Bools:
        """(n,) rows with a known label."""
        return np.zeros(len(self), dtype=np.bool_) if self.labels is None else np.isfinite(self.labels)

    @property
    def scale(self) -> Scale:
        return "log_odds" if self.classes else "value"

    @property
    def groups(self) -> Ints:
        """(n,) the teacher's decision, within which rows are shuffled; zeros for regression."""
        return np.zeros(len(self), dtype=np.int64) if self.teacher.decisions is None else self.teacher.decided


def answers_of(model: Model, inputs: Inputs, *, decision: Decision, target: Ints | None) -> Answers:
    """Query a model (already in the teacher's class order). target None: the model's own top class."""
    raw = evaluate(model, inputs)
    if model.output == "values":
        return Answers(model.label, model.fingerprint, "values", raw[:, 0], None, None, None)
    probabilities = as_probabilities(raw, model.output)
    sums = probabilities.sum(axis=1)
    if (probabilities < -1e-6).any() or (np.abs(sums - 1) > 1e-3).any():
        raise ModelError(
            f"The model {model.label!r} says it returns {model.output}, but its probabilities do not sum to 1."
        )
    at = probabilities.argmax(axis=1).astype(np.int64) if target is None else target
    score = log_odds(raw, output=model.output, target=at)
    return Answers(model.label, model.fingerprint, model.output, score, decision(probabilities), probabilities,
                   log_probabilities(raw, model.output))  # fmt: skip


def decision_of(classes: tuple[str, ...], adverse: str | int | None, threshold: float | None) -> Decision:
    """The decision rule; InputError with a suggestion for an unknown class or a threshold outside (0, 1)."""
    if isinstance(adverse, str):
        if adverse not in classes:
            raise InputError(
                f"The adverse class {adverse!r} is not one of the classes.{did_you_mean(adverse, classes)}"
            )
        adverse = classes.index(adverse)
    if adverse is not None and not 0 <= adverse < max(len(classes), 1):
        raise InputError(f"The adverse class must be an index below {len(classes)}; got {adverse}.")
    if threshold is not None and not 0 < threshold < 1:
        raise InputError(f"The decision threshold must lie between 0 and 1; got {threshold}.")
    index = (1 if len(classes) == 2 else 0) if adverse is None else int(adverse)
    return Decision(index, 0.5 if threshold is None else float(threshold))


def known_labels(labels: NDArray[Any] | None, n: int, classes: tuple[str, ...]) -> Floats | None:
    """(n,) labels as floats; None when there are none. InputError when they are no class indices or of another length."""
    if labels is None:
        return None
    try:
        known = np.asarray(labels, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(
            "Labels must be class indices or values; texts need to be coded by the teacher's classes."
        ) from error
    if known.shape != (n,):
        raise InputError(f"{n} rows need {n} labels; got an array of shape {known.shape}.")
    finite = known[np.isfinite(known)]
    if classes and ((finite != np.round(finite)) | (finite < 0) | (finite >= len(classes))).any():
        raise InputError(
            f"Labels must be class indices from 0 to {len(classes) - 1}; got {finite.min():g} to {finite.max():g}."
        )
    return np.where(np.isfinite(known), known, np.nan) if finite.size else None
