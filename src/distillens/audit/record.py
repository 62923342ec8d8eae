"""What an audit writes down: each metric with its references, the models, and the table of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillens.audit.answers import Case
from distillens.audit.findings import sentence
from distillens.audit.measured import Measured
from distillens.audit.references import normalised
from distillens.audit.result import MetricResult

if TYPE_CHECKING:
    from distillens.store import JSON


def metric_result(m: Measured, case: Case, *, level: float, optimised: bool) -> MetricResult:
    estimate = m.student.estimate(level)
    teacher = None if m.teacher is None else m.teacher.estimate(level)
    chance = None if m.chance is None else m.chance.estimate(level)
    repeats = None if m.repeatability is None else {role: q.estimate(level) for role, q in m.repeatability.items()}
    k = min(case.k, max(len(case.inputs.columns) - 1, 1))
    text = sentence(
        m.metric, estimate, teacher=teacher, chance=chance, repeatability=repeats, k=k, tolerance=case.tolerance
    )
    relative = None
    if m.metric.scope == "reasons" and repeats:
        relative = normalised(
            estimate.value, None if chance is None else chance.value, tuple(r.value for r in repeats.values())
        )
    unit = "value" if m.metric.unit == "log_odds" and case.task == "regression" else m.metric.unit
    return MetricResult(
        m.name, m.metric.scope, m.explainer, m.metric.higher_is_better, optimised, unit, text, estimate, teacher, chance, repeats,
        relative, {role: q.estimate(level) for role, q in m.controls.items()},
    )  # fmt: skip


def models_record(case: Case) -> JSON:
    described = {
        role: {"label": a.label, "fingerprint": a.fingerprint, "output": a.output} for role, a in case.answers.items()
    }
    return {
        "teacher": described["teacher"],
        "student": described["student"],
        "controls": {role: described[role] for role in case.controls},
    }


def rows_columns(case: Case, measured: Sequence[Measured], main: Measured) -> dict[str, NDArray[Any]]:
    """The table of rows: what intervals can be recomputed from without the models."""
    names = np.array(case.classes, dtype=object)
    columns: dict[str, NDArray[Any]] = {"row_id": case.inputs.row_ids}
    if case.labels is not None:
        if case.classes:
            columns["label"] = np.array(
                [None if np.isnan(v) else case.classes[int(v)] for v in case.labels], dtype=object
            )
        else:
            columns["label"] = case.labels
    if case.resamples.weighted:
        columns["weight"] = case.resamples.base
    if case.resamples.clusters is not None:
        columns["group"] = case.resamples.clusters
    for role, answers in case.answers.items():
        if answers.decisions is None:
            columns[f"{role}_score"] = answers.score
        else:
            columns[f"{role}_score"] = answers.p[np.arange(len(case)), case.target]
            columns[f"{role}_decision"] = names[answers.decided]
    outcomes = main.student.outcomes
    if outcomes is not None:
        columns[main.name] = outcomes
    for m in measured:
        if m.rows is not None:
            columns[f"{m.explainer}.{m.name}" if m.explainer else m.name] = m.rows
    return columns
