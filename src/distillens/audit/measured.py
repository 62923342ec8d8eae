"""From answers to numbers: every metric of prediction, performance and calibration for the student and each control."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from distillens.audit.answers import Answers, Case
from distillens.data.base import Bools, Floats
from distillens.intervals import Quantity, Statistic
from distillens.metrics import calibration, performance, prediction, stability
from distillens.metrics.base import METRICS, Metric
from distillens.similarity import js_divergence, kl_divergence, total_variation, weighted_spearman


@dataclass(frozen=True, eq=False)
class Measured:
    """One metric, of the student, of its references and of the controls, on shared resamples."""

    metric: Metric
    student: Quantity
    explainer: str | None = None
    teacher: Quantity | None = None
    chance: Quantity | None = None
    repeatability: Mapping[str, Quantity] | None = None
    controls: Mapping[str, Quantity] = field(default_factory=dict)
    rows: Floats | None = None  # (n,) the student's value of each row, where there is one

    @property
    def name(self) -> str:
        return self.metric.name

    def reference(self, role: str) -> Quantity | None:
        """What the student is compared with: the teacher's own value, or a control's."""
        return self.teacher if role == "teacher" else self.controls.get(role)


def _of_rows(case: Case, used: Bools, make: Callable[[Bools], Statistic]) -> Quantity:
    """A statistic of weights on the rows `used` only."""

    def of(weights: Floats) -> Floats:
        return inner(weights if everything else weights[:, used])

    if not used.any():
        return case.resamples.statistic(lambda w: np.full(len(w), np.nan), used=used)
    inner, everything = make(used), bool(used.all())
    return case.resamples.statistic(of, used=used)


def _labels(case: Case) -> tuple[Bools, np.ndarray]:
    """Rows with labels, and (n,) labels as class indices with 0 where unknown."""
    used = case.labelled
    known = np.zeros(len(case)) if case.labels is None else np.where(used, case.labels, 0.0)
    return used, known.astype(np.int64)


def _agreement(case: Case, answers: Answers, within: Bools | None = None) -> Quantity:
    rows = prediction.agrees(case.teacher.decided, answers.decided, within=within)
    return case.resamples.proportion(rows, missing=0 if within is not None else None)


def _adversely(case: Case, answers: Answers, *, adverse: bool) -> Quantity:
    return _agreement(case, answers, (case.teacher.decided == case.decision.adverse) == adverse)


def _flip(case: Case, answers: Answers, which: int) -> Quantity:
    used, labels = _labels(case)
    rows = prediction.flips(case.teacher.decided, answers.decided, labels)[which]
    return case.resamples.proportion(np.where(used, rows, np.nan))


def _where_teacher(case: Case, answers: Answers, *, right: bool) -> Quantity:
    used, labels = _labels(case)
    return _agreement(case, answers, used & ((case.teacher.decided == labels) == right))


def _error_copy(case: Case, answers: Answers) -> Quantity:
    used, labels = _labels(case)
    teacher, own = case.teacher.decided != labels, answers.decided != labels
    return _of_rows(case, used, lambda u: lambda w: prediction.error_copy_ratio(teacher[u], own[u], w))


PSI_NOTE = "a resample adds noise to every bin, so the upper end is cautious"


def _psi(case: Case, answers: Answers) -> Quantity:
    cuts = stability.reference_cuts(case.teacher.score, case.resamples.base)
    return case.resamples.statistic(
        lambda w: stability.score_psi(case.teacher.score, answers.score, w, cuts=cuts), note=PSI_NOTE
    )


def _mean(rows: Callable[[Case, Answers], Floats]) -> Callable[[Case, Answers], Quantity]:
    return lambda case, answers: case.resamples.mean(rows(case, answers))


def _of_scores(formula: Callable[[Floats, Floats, Floats], Floats]) -> Callable[[Case, Answers], Quantity]:
    """A statistic of the teacher's score, a model's score and weights."""
    return lambda case, answers: case.resamples.statistic(lambda w: formula(case.teacher.score, answers.score, w))


def _against_labels(formula: Callable[[Floats, Floats, Floats], Floats]) -> Callable[[Case, Answers], Quantity]:
    """A statistic of true values, predicted values and weights, on labelled rows."""

    def of(case: Case, answers: Answers) -> Quantity:
        truth = np.zeros(len(case)) if case.labels is None else case.labels
        return _of_rows(case, case.labelled, lambda u: lambda w: formula(truth[u], answers.score[u], w))

    return of


def _of_positives(make: Callable[[Floats, Bools], Statistic]) -> Callable[[Case, Answers], Quantity]:
    """A statistic of the score and of whether the adverse class is true, on labelled rows."""

    def of(case: Case, answers: Answers) -> Quantity:
        used, labels = _labels(case)
        positive = labels == case.decision.adverse
        return _of_rows(case, used, lambda u: make(answers.score[u], positive[u]))

    return of


def _accuracy(case: Case, answers: Answers) -> Quantity:
    used, labels = _labels(case)
    return case.resamples.proportion(np.where(used, prediction.agrees(answers.decided, labels), np.nan))


def _rows_with_labels(case: Case, rows: Floats) -> Quantity:
    return case.resamples.mean(np.where(case.labelled, rows, np.nan))


def _net_benefit(case: Case, answers: Answers) -> Quantity:
    adverse = case.decision.adverse
    positive = _labels(case)[1] == adverse
    return _rows_with_labels(
        case, calibration.net_benefit(answers.decided == adverse, positive, case.decision.threshold)
    )


def confidence(case: Case, answers: Answers) -> tuple[Floats, Bools]:
    """(n,) probability and whether it came true: of the adverse class (two classes), or of the model's top class."""
    labels = _labels(case)[1]
    if case.task == "binary":
        return answers.p[:, case.decision.adverse], labels == case.decision.adverse
    return answers.p.max(axis=1), labels == answers.p.argmax(axis=1)


ECE_NOTE = "bins are fixed; the interval covers the rows only and is rough near 0"


def _ece(case: Case, answers: Answers) -> Quantity:
    used = case.labelled
    probability, positive = confidence(case, answers)
    probability, positive = probability[used], positive[used]
    if len(probability) < 2:
        return case.resamples.statistic(lambda w: np.full(len(w), np.nan), used=used)
    bins = calibration.equal_mass_bins(probability)
    once = calibration.ece(probability, positive, bins)
    twice = calibration.ece(probability, positive, bins, layers=2)
    return case.resamples.statistic(
        lambda w: (once if len(w) == 1 else twice)(w if used.all() else w[:, used]), used=used, note=ECE_NOTE
    )


_MEASURES: dict[str, Callable[[Case, Answers], Quantity]] = {
    "agreement": _agreement,
    "agreement_adverse": lambda case, answers: _adversely(case, answers, adverse=True),
    "agreement_favourable": lambda case, answers: _adversely(case, answers, adverse=False),
    "cohen_kappa": lambda case, answers: case.resamples.statistic(
        lambda w: prediction.cohen_kappa(case.teacher.decided, answers.decided, w)
    ),
    "kl": _mean(lambda case, answers: kl_divergence(case.teacher.log_p, answers.log_p)),
    "js": _mean(lambda case, answers: js_divergence(case.teacher.log_p, answers.log_p)),
    "total_variation": _mean(lambda case, answers: total_variation(case.teacher.p, answers.p)),
    "log_odds_r2": _of_scores(prediction.r2_to_teacher),
    "log_odds_spearman": _of_scores(weighted_spearman),
    "good_flips": lambda case, answers: _flip(case, answers, 0),
    "bad_flips": lambda case, answers: _flip(case, answers, 1),
    "agreement_teacher_right": lambda case, answers: _where_teacher(case, answers, right=True),
    "agreement_teacher_wrong": lambda case, answers: _where_teacher(case, answers, right=False),
    "error_copy_ratio": _error_copy,
    "score_psi": _psi,
    "r2_to_teacher": _of_scores(prediction.r2_to_teacher),
    "rmse_to_teacher": _of_scores(prediction.rmse),
    "spearman_to_teacher": _of_scores(weighted_spearman),
    "within_tolerance": lambda case, answers: case.resamples.proportion(
        prediction.within(case.teacher.score, answers.score, case.tolerance)
    ),
    "accuracy": _accuracy,
    "roc_auc": _of_positives(performance.roc_auc),
    "pr_auc": _of_positives(performance.average_precision),
    "ks": _of_positives(performance.kolmogorov_smirnov),
    "gini": _of_positives(performance.gini),
    "log_loss": lambda case, answers: _rows_with_labels(case, performance.log_loss(answers.log_p, _labels(case)[1])),
    "rmse": _against_labels(prediction.rmse),
    "r2": _against_labels(prediction.r2_to_teacher),
    "spearman": _against_labels(weighted_spearman),
    "brier": lambda case, answers: _rows_with_labels(case, calibration.brier(answers.p, _labels(case)[1])),
    "calibration_slope": _of_positives(calibration.calibration_slope),
    "calibration_intercept": _of_positives(calibration.calibration_intercept),
    "net_benefit": _net_benefit,
    "ece": _ece,
}


def measure_predictions(case: Case) -> list[Measured]:
    """Prediction, performance and calibration metrics that apply to the task and to what is known."""
    measured = []
    for name, measure in _MEASURES.items():
        metric = METRICS[name]
        if case.task not in metric.tasks or ("labels" in metric.needs and case.labels is None):
            continue
        measured.append(
            Measured(
                metric,
                measure(case, case.student),
                teacher=measure(case, case.teacher) if metric.of == "model" else None,
                controls={role: measure(case, case.answers[role]) for role in case.controls},
            )
        )
    return measured


def calibration_record(case: Case) -> dict[str, object] | None:
    """Reliability bins of teacher and student; None without labels or for regression."""
    if case.labels is None or not case.classes:
        return None
    used = case.labelled
    bins: dict[str, object] = {}
    for role in ("teacher", "student"):
        probability, positive = confidence(case, case.answers[role])
        probability, positive = probability[used], positive[used]
        mass = calibration.equal_mass_bins(probability)
        bins[role] = calibration.reliability(probability, positive, case.resamples.base[used], mass)
    return {"bins": bins}
