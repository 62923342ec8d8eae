"""Boosted trees (scikit-learn's HistGradientBoosting): the default teacher for tables, lightly tuned on validation rows.

Tuning: a few tree shapes from small to large, and for each the number of rounds with the lowest validation loss (cross-entropy to the
labels, or to the teacher's probabilities when it is fitted as a student; squared error for regression). A larger shape is taken only when
it is better by more than the standard error of the paired difference. Trees after the chosen round are cut off.
`max_features` below 1 draws features for each split, so that another seed gives another model and the seed twin means something.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from distillens.data.base import Floats, Split
    from distillens.models.base import Model
    from distillens.models.boosted import BoostedTrees, Preparation
    from distillens.transfer.targets import Targets

SHAPES = ((4, 10), (8, 20), (31, 20))  # (max_leaves, min_rows) tried in tuning
SMALL = 200_000  # cells of a table below which one thread is faster


@dataclass(frozen=True)
class BoostedTreesFamily:
    """max_rounds: boosting rounds at most. learning_rate: "auto" is 0.05. max_leaves, min_rows: None means tuned (31 and 20 untuned).

    l2: penalty of leaf values. max_features: share of features each split may choose from. tune: choose shape and rounds on validation;
    False uses all rounds (with l2=0, min_rows=1 and many rounds it fits training rows perfectly).
    monotone: {feature: −1 | 0 | +1} for numeric and boolean features, binary tasks (log-odds of the second class) and regression.
    """

    kind: ClassVar[str] = "boosted_trees"
    readable: ClassVar[bool] = False

    max_rounds: int = 300
    learning_rate: float | Literal["auto"] = "auto"
    max_leaves: int | None = None
    min_rows: int | None = None
    l2: float = 1.0
    max_features: float = 0.5
    tune: bool = True
    monotone: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from distillens.errors import DataError

        if self.max_rounds < 1:
            raise DataError(f"max_rounds must be at least 1, got {self.max_rounds}.")
        if self.learning_rate != "auto" and not 0 < self.learning_rate <= 1:
            raise DataError(f"learning_rate must be 'auto' or above 0 and at most 1, got {self.learning_rate!r}.")
        if self.max_leaves is not None and self.max_leaves < 2:
            raise DataError(f"max_leaves must be at least 2, got {self.max_leaves}.")
        if self.min_rows is not None and self.min_rows < 1:
            raise DataError(f"min_rows must be at least 1, got {self.min_rows}.")
        if not self.l2 >= 0:
            raise DataError(f"l2 must be zero or positive, got {self.l2}.")
        if not 0 < self.max_features <= 1:
            raise DataError(f"max_features must be above 0 and at most 1, got {self.max_features}.")

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> BoostedTrees:
        """Fit, on soft targets by weighted replication of rows. Without validation rows nothing is tuned. Raises DataError."""
        del out
        from distillens.errors import DataError
        from distillens.models.boosted import BoostedTrees, Preparation
        from distillens.models.monotone import signs
        from distillens.progress import task
        from distillens.students.replication import replicate

        classes = targets.classes
        wanted = signs(self.monotone, targets.table)
        if wanted.any() and len(classes) > 2:
            raise DataError(
                "Monotone constraints of boosted trees are for binary tasks and regression, not for more classes."
            )
        preparation = Preparation.fit(targets.table, weights=targets.weights)
        rows = preparation(targets.table.values)
        copies = 1
        y: Any
        if classes:
            index, y, weights = replicate(targets.probabilities, targets.weights)
            rows, copies = rows[index], len(classes) if len(index) == len(classes) * len(targets) else 1
        else:
            y, weights = targets.outputs[:, 0], targets.weights
        aims = _aims(validation, teacher, classes) if self.tune else None
        shapes = dict.fromkeys((self.max_leaves or leaves, self.min_rows or least) for leaves, least in SHAPES)
        if aims is None:
            shapes = {(self.max_leaves or 31, self.min_rows or 20): None}
        held_out = preparation(validation.table.values) if aims is not None else None
        # Weights of 1 say nothing, but with weights the bins are found five times slower (30 columns of 400 rows: 1 s instead of 0.2).
        even = bool((weights == 1).all())
        best: tuple[Any, int | None, Floats | None] | None = None
        with task("boosted trees", total=len(shapes), unit="settings") as advance, few_threads(rows.size):
            for leaves, least in shapes:
                estimator = self._estimator(preparation, wanted, leaves, least * copies, seed, classifier=bool(classes))
                estimator.fit(rows, y, sample_weight=None if even else weights)
                if held_out is None or aims is None:
                    best = estimator, None, None
                else:
                    rounds, losses = _best_round(estimator, held_out, aims, validation.weights)
                    if best is None or best[2] is None or clearly_lower(losses, best[2]):
                        best = estimator, rounds, losses
                advance(1)
        assert best is not None
        return BoostedTrees.from_sklearn(best[0], preparation, classes=classes, label="boosted trees", rounds=best[1])

    def _estimator(
        self, preparation: Preparation, sign: Any, leaves: int, least: int, seed: int, *, classifier: bool
    ) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        family = HistGradientBoostingClassifier if classifier else HistGradientBoostingRegressor
        return family(
            learning_rate=0.05 if self.learning_rate == "auto" else self.learning_rate,
            max_iter=self.max_rounds,
            max_leaf_nodes=leaves,
            min_samples_leaf=least,
            l2_regularization=self.l2,
            max_features=self.max_features,
            categorical_features=preparation.categorical if preparation.categorical.any() else None,
            monotonic_cst=sign[preparation.order] if sign.any() else None,
            early_stopping=False,
            random_state=seed,
        )


def _aims(validation: Split, teacher: Model | None, classes: tuple[str, ...]) -> Floats | None:
    """(n, K) what validation rows should be answered: the teacher's probabilities, or the labels; None when nothing is known."""
    import numpy as np

    from distillens.models.base import as_probabilities, evaluate

    if not len(validation):
        return None
    if teacher is not None:
        outputs = evaluate(teacher, validation.inputs)
        return as_probabilities(outputs, teacher.output) if classes else outputs
    if validation.labels is None:
        return None
    labels = np.asarray(validation.labels)
    return np.eye(len(classes))[labels.astype(np.int64)] if classes else labels.astype(np.float64)[:, None]


def _best_round(estimator: Any, rows: Floats, aims: Floats, weights: Floats | None) -> tuple[int, Floats]:
    """After how many rounds the mean validation loss is lowest, and its (n,) weighted terms there (their mean is the loss)."""
    import numpy as np
    from scipy.special import log_softmax

    w = np.ones(len(rows)) if weights is None else weights / weights.mean()
    best, after, terms = np.inf, 1, np.empty(0)
    classifier = hasattr(estimator, "classes_")
    for i, scores in enumerate(
        estimator.staged_decision_function(rows) if classifier else estimator.staged_predict(rows)
    ):
        if not classifier:
            per_row = (scores - aims[:, 0]) ** 2
        elif aims.shape[1] == 2:
            s = scores.reshape(-1)
            per_row = np.logaddexp(0.0, s) - aims[:, 1] * s
        else:
            per_row = -(aims * log_softmax(scores, axis=1)).sum(axis=1)
        loss = float((w * per_row).mean())
        if loss < best:
            best, after, terms = loss, i + 1, w * per_row
    return after, terms


def clearly_lower(losses: Floats, than: Floats) -> bool:
    """Whether the mean of (n,) losses is lower than another's by more than the standard error of the paired difference."""
    gain = than - losses
    return len(gain) > 1 and float(gain.mean()) > float(gain.std(ddof=1)) / len(gain) ** 0.5


@contextlib.contextmanager
def few_threads(cells: int) -> Iterator[None]:
    """One OpenMP thread while a small table is fitted: starting and joining threads for every node costs more than it saves.

    On a busy machine it costs far more: threads that wait for each other at a barrier spin.
    """
    import sklearn.ensemble  # noqa: F401 (a limit reaches only the OpenMP libraries that are already loaded)
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(limits=1 if cells < SMALL else None, user_api="openmp"):
        yield
