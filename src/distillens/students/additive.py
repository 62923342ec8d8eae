"""Additive student: interpret's explainable boosting machine (Lou et al. 2012, 2013; Nori et al. 2019) on the teacher's answers.

- binary: least squares on the teacher's log-odds of the second class, clipped to ±`max_log_odds`: beyond that (6 is a probability of
  0.9975) a squared error would spend the student's capacity on differences that change no decision;
- more classes: one model a class on the log-probabilities, floored at −`max_log_odds` and centred over the classes;
- regression: the values;
- labels without a teacher (`Targets.origin == "labels"`, the undistilled control): the boosting *classifier*, because the log-odds of a
  label are infinite.

Feature names never reach interpret. One thread, so that a seed gives the same model everywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from distillens.data.base import Floats, Ints, Split, Table
    from distillens.models.additive import AdditiveModel, Term
    from distillens.models.base import Model
    from distillens.transfer.targets import Targets


@dataclass(frozen=True)
class AdditiveStudent:
    """outer_bags: models averaged; more are smoother and slower. interactions: pairs of features.

    pairs: which: "boosting": those by which main effects miss the teacher's answers most on the training rows (FAST, Lou et al. 2013);
    "teacher": the teacher's own strongest by the H-statistic (students/teacher_pairs.py), also those that the training rows do not show; a student
    without a teacher, such as the undistilled control, has none to ask and takes "boosting"; or a list of pairs by name, and `interactions` says nothing.

    max_terms: terms (curves and pairs) at most: one bag ranks all of them by importance, and the first ones are fitted without the
    others. null: all features and `interactions` pairs.

    max_bins: bins of a feature. max_rounds: boosting rounds at most. max_log_odds: where the teacher's log-odds are clipped.
    monotone: {feature: −1 | 0 | +1} for numeric and boolean features, binary tasks (log-odds of the second class) and regression; a
    constrained feature takes part in no pair, and its curve is made exactly monotone by isotonic regression after boosting.
    """

    kind: ClassVar[str] = "additive"
    readable: ClassVar[bool] = True

    outer_bags: int = 4
    interactions: int = 5
    pairs: Literal["boosting", "teacher"] | tuple[tuple[str, str], ...] = "boosting"
    max_bins: int = 256
    max_rounds: int = 10_000
    max_log_odds: float = 6.0
    max_terms: int | None = None
    monotone: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from distillens.errors import DataError

        for name, low in (("outer_bags", 1), ("interactions", 0), ("max_bins", 4), ("max_rounds", 1)):
            if getattr(self, name) < low:
                raise DataError(f"{name} must be at least {low}, got {getattr(self, name)}.")
        if self.max_terms is not None and self.max_terms < 1:
            raise DataError(f"max_terms must be at least 1, or null for all terms, got {self.max_terms}.")
        if not 0 < self.max_log_odds <= 30:
            raise DataError(f"max_log_odds must be above 0 and at most 30, got {self.max_log_odds}.")

    def fit(
        self, targets: Targets, *, validation: Split, teacher: Model | None, seed: int, out: Path | None = None
    ) -> AdditiveModel:
        """Boosting stops early on rows that interpret sets aside by `seed`. Raises DataError."""
        del validation, out
        from distillens.errors import DataError
        from distillens.models.monotone import signs

        wanted = signs(self.monotone, targets.table)
        if wanted.any() and len(targets.classes) > 2:
            raise DataError(
                "Monotone constraints of an additive student are for binary tasks and regression, not for more classes."
            )
        pairs = self._pairs(targets.table, teacher, wanted, seed)
        if self.max_terms is None:
            return self._boosted(targets, wanted, seed, pairs=pairs)
        first = replace(self, outer_bags=1)._boosted(targets, wanted, seed, pairs=pairs)  # enough to rank the terms
        importance: dict[tuple[int, ...], float] = {}
        for term in first.terms:
            importance[term.features] = importance.get(term.features, 0.0) + term.importance
        ranked = sorted(importance, key=lambda features: (-importance[features], features))
        return self._boosted(targets, wanted, seed, pairs=pairs, keep=frozenset(ranked[: self.max_terms]))

    def _pairs(
        self, table: Table, teacher: Model | None, wanted: Ints, seed: int
    ) -> tuple[tuple[int, int], ...] | None:
        """The pairs to be fitted; None: those that boosting finds."""
        from distillens.errors import DataError

        if isinstance(self.pairs, str):
            if self.pairs == "boosting" or teacher is None or self.interactions == 0:
                return None
            from distillens.students.teacher_pairs import interaction_strengths

            bound = frozenset(j for j in range(len(wanted)) if wanted[j])
            found = interaction_strengths(teacher, table, seed=seed, limit=self.max_log_odds, leave_out=bound)
            return tuple(pair for pair, strength in list(found.items())[: self.interactions] if strength > 1e-9)
        named = []
        for one, other in self.pairs:
            j, k = sorted((table.index_of(one), table.index_of(other)))
            if j == k:
                raise DataError(f"A pair is of two features, and {one!r} is named with itself.")
            bound_one = next((name for name in (one, other) if wanted[table.index_of(name)]), None)
            if bound_one is not None:
                raise DataError(
                    f"The feature {bound_one!r} is monotone, so that it can be in no pair; leave out one of the two."
                )
            named.append((j, k))
        return tuple(dict.fromkeys(named))

    def _boosted(
        self, targets: Targets, wanted: Ints, seed: int, *, pairs: tuple[tuple[int, int], ...] | None,
        keep: frozenset[tuple[int, ...]] | None = None,
    ) -> AdditiveModel:  # fmt: skip
        """pairs: those to be fitted; None: those that boosting finds. keep: the only terms to be fitted; None: all features and pairs."""
        import numpy as np

        from distillens.errors import DataError
        from distillens.models.additive import AdditiveModel
        from distillens.progress import task

        table, classes = targets.table, targets.classes
        rows = prepared(table)
        if targets.origin == "labels" and classes:
            learnt = targets.probabilities.argmax(axis=1)
            present = np.unique(learnt)
            if len(present) < 2:
                raise DataError(
                    f"An additive model needs rows of at least two classes, and all are {classes[int(present[0])]!r}."
                )
            fits = [
                (
                    self._fit(rows, learnt, targets.weights, table, wanted, seed, pairs, keep, classifier=True),
                    self._columns_of(present, len(classes)),
                )
            ]
            absent = np.setdiff1d(np.arange(len(classes)), present)
        else:
            columns = self._aims(targets)
            fits = []
            absent = np.empty(0, dtype=np.int64)
            with task("additive model", total=columns.shape[1], unit="outputs") as advance:
                for k in range(columns.shape[1]):
                    fits.append(
                        (
                            self._fit(rows, columns[:, k], targets.weights, table, wanted, seed, pairs, keep),
                            np.array([k], dtype=np.int64),
                        )
                    )
                    advance(1)
        width = len(classes) if len(classes) > 2 else 1
        intercepts = np.zeros(width)
        terms: dict[tuple[Any, ...], Term] = {}
        for machine, places in fits:
            intercept, learnt_terms = taken_over(machine, table, places, width, monotone=wanted)
            intercepts += intercept
            for term in learnt_terms:
                key = (term.features, *(cuts.tobytes() for cuts in term.cuts))
                terms[key] = added(terms[key], term) if key in terms else term
        intercepts[absent] = intercepts.min() - 2 * self.max_log_odds  # a class that no row has
        return AdditiveModel(table.columns, classes, "additive", intercepts, tuple(terms.values()))

    @staticmethod
    def _columns_of(present: Ints, classes: int) -> Ints:
        """Where the scores of a classifier that saw the classes `present` belong: two classes have one score."""
        import numpy as np

        if classes == 2:
            return np.array([0], dtype=np.int64)
        return present[1:] if len(present) == 2 else present

    def _aims(self, targets: Targets) -> Floats:
        """(n, K') what is regressed: clipped log-odds, centred floored log-probabilities, or values."""
        import numpy as np

        from distillens.models.base import log_probabilities

        if not targets.classes:
            return targets.outputs
        if len(targets.classes) == 2:
            return np.clip(targets.log_odds(1), -self.max_log_odds, self.max_log_odds)[:, None]
        logs = np.maximum(log_probabilities(targets.outputs, targets.output), -self.max_log_odds)
        return np.asarray(logs - logs.mean(axis=1, keepdims=True), dtype=np.float64)

    def _fit(
        self, rows: Floats, y: Any, weights: Floats, table: Table, sign: Ints, seed: int,
        pairs: tuple[tuple[int, int], ...] | None, keep: frozenset[tuple[int, ...]] | None, *, classifier: bool = False,
    ) -> Any:  # fmt: skip
        import numpy as np
        from interpret.glassbox import ExplainableBoostingClassifier, ExplainableBoostingRegressor

        f = rows.shape[1]
        names = [f"f{j}" for j in range(f)]
        constrained = np.flatnonzero(sign)
        exclude: list[tuple[str, ...]] = [
            (names[j], names[other]) for j in constrained for other in range(f) if other != j
        ]
        interactions: Any = min(self.interactions, f * (f - 1) // 2 - len({frozenset(pair) for pair in exclude}))
        if pairs is not None:
            interactions = [(names[j], names[k]) for j, k in pairs]
        if keep is not None:
            interactions = [tuple(names[j] for j in term) for term in sorted(keep) if len(term) == 2]
            exclude = [(names[j],) for j in range(f) if (j,) not in keep]
        family = ExplainableBoostingClassifier if classifier else ExplainableBoostingRegressor
        machine = family(
            feature_names=names,
            feature_types=["nominal" if column.kind == "categorical" else "continuous" for column in table.columns],
            outer_bags=self.outer_bags,
            interactions=interactions,
            exclude=exclude or None,
            max_bins=self.max_bins,
            max_interaction_bins=32,
            max_rounds=self.max_rounds,
            smoothing_rounds=75,  # the default of 500 costs most of the time of a small fit and changes R² by less than 0.002
            interaction_smoothing_rounds=25,
            early_stopping_tolerance=1e-4,
            monotone_constraints=sign.tolist() if len(constrained) else None,
            n_jobs=1,
            random_state=seed,
        )
        with quiet_interpret():
            machine.fit(rows, y, sample_weight=weights)
        return machine


@contextlib.contextmanager
def quiet_interpret() -> Iterator[None]:
    """interpret warns about its own plots, which are not used here: missing values and pairs of multiclass models."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Missing values detected", category=UserWarning)
        warnings.filterwarnings(
            "ignore", message="For multiclass we cannot currently visualize pairs", category=UserWarning
        )
        yield


def prepared(table: Table) -> Floats:
    """(n, F) what interpret sees: float32 numbers and codes; an unseen boolean code is missing; a column that is missing everywhere is 0."""
    import numpy as np

    from distillens.models.encoding import as_float32

    rows = as_float32(table.values)
    for j, column in enumerate(table.columns):
        if column.kind == "boolean":
            rows[rows[:, j] < 0, j] = np.nan
        if np.isnan(rows[:, j]).all():
            rows[:, j] = 0.0  # interpret computes bounds of numbers, and there are none
    return rows


def taken_over(machine: Any, table: Table, places: Ints, width: int, *, monotone: Ints) -> tuple[Floats, list[Term]]:
    """Intercepts (width,) and terms of a fitted machine whose scores belong at `places` of (width,) outputs."""
    import numpy as np

    from distillens.models.additive import Term, bin_count, float32_ceiling

    intercepts = np.zeros(width)
    intercepts[places] = np.asarray(machine.intercept_, dtype=np.float64).reshape(-1)
    importances = machine.term_importances()
    terms = []
    for i, features in enumerate(machine.term_features_):
        scores = np.asarray(machine.term_scores_[i], dtype=np.float64)
        scores = scores.reshape(*machine.bin_weights_[i].shape, len(places))
        bags = np.asarray(machine.bagged_scores_[i], dtype=np.float64)
        deviation = bags.reshape(len(bags), *scores.shape).std(axis=0, ddof=1) if len(bags) > 1 else None
        cuts, bounds = [], []
        for axis, j in enumerate(features):
            column = table.columns[j]
            levels = machine.bins_[j]
            bins = levels[min(len(features), len(levels)) - 1]
            if column.kind == "categorical":
                last = scores.shape[axis] - 1
                unseen = bins.get("-1", last)
                order = [0, *(bins.get(str(code), unseen) for code in range(len(column.categories))), unseen]
                scores = np.take(scores, order, axis=axis)
                deviation = None if deviation is None else np.take(deviation, order, axis=axis)
                cuts.append(np.empty(0))
                bounds.append((0.0, 0.0))
            else:
                cuts.append(float32_ceiling(np.asarray(bins, dtype=np.float64)))
                low, high = (float(b) for b in machine.feature_bounds_[j])
                bounds.append((low, high) if np.isfinite([low, high]).all() else (0.0, 0.0))
        if len(features) == 1 and monotone[features[0]]:
            scores = isotonic(scores, np.asarray(machine.bin_weights_[i], dtype=np.float64), int(monotone[features[0]]))
        full = np.zeros((*(bin_count(table.columns[j], c) for j, c in zip(features, cuts, strict=True)), width))
        full[..., places] = scores
        spread = None
        if deviation is not None:
            spread = np.zeros_like(full)
            spread[..., places] = deviation
        terms.append(
            Term(
                tuple(int(j) for j in features),
                tuple(cuts),
                full,
                float(importances[i]) * len(places) / width,
                tuple(bounds),
                spread,
            )
        )
    return intercepts, terms


def isotonic(scores: Floats, weights: Floats, sign: int) -> Floats:
    """(bins, 1) scores with the known bins made monotone by weighted isotonic regression; missing and unknown bins stay."""
    import numpy as np
    from sklearn.isotonic import isotonic_regression

    out = scores.copy()
    known = slice(1, len(scores) - 1)
    out[known, 0] = isotonic_regression(
        scores[known, 0], sample_weight=np.maximum(weights[known], 1e-9), increasing=sign > 0
    )
    return out


def added(one: Term, other: Term) -> Term:
    """Two terms on the same bins as one (those of different classes, one model a class)."""
    spread = one.spread + other.spread if one.spread is not None and other.spread is not None else None
    return replace(one, scores=one.scores + other.scores, importance=one.importance + other.importance, spread=spread)
