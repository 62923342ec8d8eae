"""A fitted scikit-learn classifier, regressor or pipeline as a `Model`.

What it is called with depends on how it was fitted: an estimator that knows feature names (`feature_names_in_`, fitted on a data
frame) gets `Table.to_frame()`, the user's own names and values; any other gets the array of codes. Frames turn boolean columns whose
two values are False and True, or numbers, back into booleans or numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Column
from distillens.errors import ModelError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Floats, Ints, Table
    from distillens.models.base import Output


def is_fitted(estimator: Any) -> bool:
    """Whether a scikit-learn estimator has been fitted."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def frame_of(table: Table) -> pd.DataFrame:
    """`Table.to_frame()` with boolean columns as booleans or numbers where their two values are such."""
    frame = table.to_frame()
    for j, column in enumerate(table.columns):
        if column.kind == "boolean" and (values := _plain_values(column)) is not None:
            code = table.values[:, j]
            known = code >= 0  # neither missing nor unseen
            picked: NDArray[Any] = np.array(values)[np.where(known, code, 0).astype(np.int64)]
            frame[column.name] = picked if known.all() else np.where(known, picked.astype(np.float64), np.nan)
    return frame


def _plain_values(column: Column) -> list[bool] | list[float] | None:
    if column.categories == ("False", "True"):
        return [False, True]
    try:
        return [float(name) for name in column.categories]
    except ValueError:
        return None


def text_of_class(value: Any) -> str:
    """The name of a class as the data would write it: 1.0 is "1", True is "True"."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


@dataclass(frozen=True, eq=False)
class EstimatorModel:
    """A fitted estimator with the data's columns and classes.

    classes: names in the order wanted; the estimator's own `classes_` are found by name, or are the label codes 0 … K−1.
    Raises ModelError when it is not fitted, has other features or classes, or a classifier without probabilities.
    """

    estimator: Any
    columns: tuple[Column, ...]
    classes: tuple[str, ...]
    label: str

    def __post_init__(self) -> None:
        if not is_fitted(self.estimator):
            raise ModelError(
                f"The estimator {self.label!r} is not fitted; call its fit first, or give it to EstimatorFamily."
            )
        from sklearn.base import is_classifier, is_regressor

        if self.classes and not is_classifier(self.estimator):
            raise ModelError(
                f"The data have classes {self.classes}, but the estimator {self.label!r} is not a classifier."
            )
        if not self.classes and not is_regressor(self.estimator):
            raise ModelError(f"The data are for regression, but the estimator {self.label!r} is not a regressor.")
        if self.classes and not hasattr(self.estimator, "predict_proba"):
            raise ModelError(
                f"The classifier {self.label!r} has no predict_proba; wrap it in sklearn.calibration.CalibratedClassifierCV."
            )
        expected = getattr(self.estimator, "n_features_in_", len(self.columns))
        if self.names is None and expected != len(self.columns):
            raise ModelError(
                f"The estimator {self.label!r} was fitted on {expected} features, but the data have {len(self.columns)}."
            )
        for name in self.names or ():
            known = [column.name for column in self.columns]
            if name not in known:
                raise ModelError(
                    f"The estimator {self.label!r} was fitted on a feature {name!r} that the data do not have.{did_you_mean(name, known)}"
                )
        if self.classes:
            self._order  # noqa: B018 (raises when the classes do not fit)

    @property
    def output(self) -> Output:
        return "probabilities" if self.classes else "values"

    @property
    def names(self) -> tuple[str, ...] | None:
        """The feature names it was fitted with, when it was fitted on a frame."""
        names = getattr(self.estimator, "feature_names_in_", None)
        return None if names is None else tuple(str(name) for name in names)

    @cached_property
    def _order(self) -> Ints:
        own = [text_of_class(value) for value in self.estimator.classes_]
        if len(own) != len(self.classes):
            raise ModelError(
                f"The estimator {self.label!r} knows {len(own)} classes, but the data have {len(self.classes)}."
            )
        if set(own) == set(self.classes):
            return np.array([own.index(name) for name in self.classes], dtype=np.int64)
        codes = [str(k) for k in range(len(own))]
        if sorted(own) == sorted(codes):  # fitted on label codes
            return np.array([own.index(code) for code in codes], dtype=np.int64)
        strange = next(name for name in own if name not in self.classes)
        raise ModelError(
            f"The estimator {self.label!r} knows a class {strange!r} that the data do not have.{did_you_mean(strange, self.classes)}"
        )

    @cached_property
    def fingerprint(self) -> str | None:
        """Hash of the estimator's state in memory (nothing is unpickled); None when it cannot be hashed."""
        import pickle

        import joblib

        try:
            state = joblib.hash(self.estimator, hash_name="sha1")
        except (pickle.PicklingError, TypeError, AttributeError, ValueError):
            return None
        from distillens.store import content_hash

        columns = [column.to_json() for column in self.columns]
        return content_hash({"estimator": state, "columns": columns, "classes": list(self.classes)})

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) probabilities or (n, 1) values."""
        rows: Any = inputs.values if self.names is None else frame_of(inputs)[list(self.names)]
        try:
            answer = self.estimator.predict_proba(rows) if self.classes else self.estimator.predict(rows)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(f"The estimator {self.label!r} could not be queried with these rows: {error}") from error
        answers = np.asarray(answer, dtype=np.float64)
        return answers[:, self._order] if self.classes else answers.reshape(len(inputs), 1)
