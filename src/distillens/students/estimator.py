"""A scikit-learn estimator as a family that can be refitted: by clone, with another seed, on labels or soft targets. Python only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path

    from distillens.data.base import Split
    from distillens.models.base import Model
    from distillens.models.estimator import EstimatorModel
    from distillens.transfer.targets import Targets


@dataclass(frozen=True, eq=False)
class EstimatorFamily:
    """estimator: fitted or not; it is cloned and never changed. Every `random_state` among its parameters is set to the seed.

    frame: fit on a data frame with the user's names and values (pipelines that select columns by name) instead of the array of codes;
    None: as the estimator was fitted before, on codes if it never was.
    """

    kind: ClassVar[str] = "estimator"
    readable: ClassVar[bool] = False

    estimator: Any
    frame: bool | None = None

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> EstimatorModel:
        """Fit a clone. Soft targets of a classifier need weights: rows are replicated once per class.

        DataError when a classifier (or a step of a pipeline) that takes no sample weights is given soft targets or weights.
        """
        del validation, teacher, out
        import numpy as np
        from sklearn.base import clone

        from distillens.errors import DataError
        from distillens.models.estimator import EstimatorModel, frame_of
        from distillens.students.replication import replicate

        label = type(self.estimator).__name__
        fresh = clone(self.estimator)
        seeds = {name: seed for name in fresh.get_params() if name.split("__")[-1] == "random_state"}
        fresh.set_params(**seeds)
        as_frame = hasattr(self.estimator, "feature_names_in_") if self.frame is None else self.frame
        rows: Any = frame_of(targets.table) if as_frame else targets.table.values
        if as_frame and hasattr(self.estimator, "feature_names_in_"):
            rows = rows[list(self.estimator.feature_names_in_)]
        y: Any
        if targets.classes:
            index, codes, weights = replicate(targets.probabilities, targets.weights)
            index, codes, weights = index[weights > 0], codes[weights > 0], weights[weights > 0]
            rows = rows.iloc[index] if as_frame else rows[index]
            # Label codes, unless the names are codes themselves: then the names, which EstimatorModel looks at first.
            named = sorted(targets.classes) == sorted(str(k) for k in range(len(targets.classes)))
            y = np.array([int(name) for name in targets.classes])[codes] if named else codes
        else:
            y, weights = targets.outputs[:, 0], targets.weights
        if (weights == weights[0]).all():
            return EstimatorModel(fresh.fit(rows, y), targets.table.columns, targets.classes, label)
        key = _weight_name(fresh)
        if key is None:
            raise DataError(
                f"{label} takes no sample weights, so it can be fitted neither on soft targets nor on weighted rows; "
                "use targets from labels, or another estimator."
            )
        return EstimatorModel(fresh.fit(rows, y, **{key: weights}), targets.table.columns, targets.classes, label)


def _weight_name(estimator: Any) -> str | None:
    """What sample weights are called in this estimator's `fit`; None when it takes none."""
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import has_fit_parameter

    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        inner = _weight_name(last)
        return None if inner is None else f"{name}__{inner}"
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None
