"""Anything people have as a `Model`: one as it is, a fitted scikit-learn estimator wrapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distillens.errors import ModelError
from distillens.models.base import Model

if TYPE_CHECKING:
    from distillens.data.base import Inputs


def as_models(teacher: Any, student: Any, inputs: Inputs) -> tuple[Model, Model]:
    """Two models of the same rows. An estimator takes its class names from the other model when that has some.

    Raises ModelError for anything that is neither a Model nor a fitted scikit-learn estimator.
    """
    known = next((tuple(m.classes) for m in (teacher, student) if isinstance(m, Model)), None)
    return _as_model(teacher, inputs, known), _as_model(student, inputs, known)


def _as_model(thing: Any, inputs: Inputs, classes: tuple[str, ...] | None) -> Model:
    if isinstance(thing, Model):
        return thing
    if not (hasattr(thing, "get_params") and hasattr(thing, "predict")):
        raise ModelError(
            f"Expected a Model or a fitted scikit-learn estimator, got a {type(thing).__name__}; "
            "wrap a function in distillens.models.callable.CallableModel."
        )
    from distillens.models.estimator import EstimatorModel, text_of_class

    if classes is None:
        classes = tuple(text_of_class(value) for value in getattr(thing, "classes_", ()))
    return EstimatorModel(thing, inputs.columns, classes, type(thing).__name__)
