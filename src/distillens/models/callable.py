"""Any Python function as a `Model`, and the same classes in another order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from distillens.errors import ModelError, did_you_mean
from distillens.models.base import Model, evaluate
from distillens.store import content_hash

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Table
    from distillens.models.base import Output


@dataclass(frozen=True, eq=False)
class CallableModel:
    """A function from a `Table` of n rows to (n, K) outputs: an endpoint, a formula, a model of another library.

    function: may return (n,) for one output. classes: names in output order, empty for regression. output: what it returns.
    fingerprint: a content hash, if you have one; None otherwise. version: what you call this state of it, for the record.
    Raises ModelError on construction when classes and output do not fit, on a call when shapes or numbers do not.
    """

    function: Callable[[Table], ArrayLike]
    classes: tuple[str, ...]
    output: Output
    label: str
    fingerprint: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if bool(self.classes) == (self.output == "values"):
            raise ModelError(
                f"The model {self.label!r} has {len(self.classes)} classes and returns {self.output}; "
                "a classifier returns logits or probabilities, a regression (no classes) returns values."
            )
        if len(self.classes) == 1:
            raise ModelError(f"The model {self.label!r} has one class only; a classifier needs at least two.")

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) finite float64."""
        return evaluate(_Called(self), inputs)


@dataclass(frozen=True, eq=False)
class _Called:
    """What `evaluate` asks: the function itself behind the model's names."""

    model: CallableModel

    @property
    def label(self) -> str:
        return self.model.label

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def output(self) -> Output:
        return self.model.output

    @property
    def fingerprint(self) -> str | None:
        return self.model.fingerprint

    def __call__(self, inputs: Table) -> Floats:
        return np.asarray(self.model.function(inputs), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ReorderedModel:
    """The same model with its outputs in another order of the classes. order: (K,) position of each class in the model's own outputs."""

    model: Model
    classes: tuple[str, ...]
    order: Ints

    @property
    def label(self) -> str:
        return self.model.label

    @property
    def output(self) -> Output:
        return self.model.output

    @cached_property
    def fingerprint(self) -> str | None:
        inner = self.model.fingerprint
        return None if inner is None else content_hash({"reordered": inner, "classes": list(self.classes)})

    def __call__(self, inputs: Table) -> Floats:
        return evaluate(self.model, inputs)[:, self.order]


def align_classes(model: Model, classes: tuple[str, ...]) -> Model:
    """The model with its outputs in the order of `classes`; the model itself when they are so already.

    Raises ModelError when the model knows other classes than the data (or is a regression where the data have classes).
    """
    order = class_order(model, classes)
    if np.array_equal(order, np.arange(len(classes))):
        return model
    return ReorderedModel(model, tuple(classes), order)


def class_order(model: Model, classes: tuple[str, ...]) -> Ints:
    """(K,) position of each of `classes` in the model's outputs; empty for regression. ModelError as `align_classes`."""
    own = tuple(model.classes)
    if own == tuple(classes):
        return np.arange(len(own), dtype=np.int64)
    if bool(own) != bool(classes):
        has, wants = (
            (f"the classes {own}" if own else "no classes (regression)"),
            (f"the classes {classes}" if classes else "none (regression)"),
        )
        raise ModelError(f"The model {model.label!r} has {has}, but the data have {wants}.")
    strange = [name for name in own if name not in classes]
    if strange:
        raise ModelError(
            f"The model {model.label!r} has a class {strange[0]!r} that the data do not have.{did_you_mean(strange[0], classes)}"
        )
    missing = [name for name in classes if name not in own]
    if missing or len(own) != len(classes):
        what = repr(missing[0]) if missing else "each class once"
        raise ModelError(f"The model {model.label!r} has no output for {what}; its classes are {own}.")
    return np.array([own.index(name) for name in classes], dtype=np.int64)
