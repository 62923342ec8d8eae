"""`audit`: does the student still decide as its teacher, and for the same reasons? Any two models; nothing is trained.

answers of all models → metrics on shared resamples → references → slices → gates → findings and verdict
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillens.audit.answers import Case, answers_of, decision_of, in_order, known_labels
from distillens.audit.background import background_finding, background_record
from distillens.audit.behaviour import draw_background, measure_deletion, measure_masks
from distillens.audit.directions import directions_record
from distillens.audit.explaining import explanations_of, sample
from distillens.audit.findings import by_severity, find, left_out, not_assessed, statement
from distillens.audit.gates import judge, profile_of, verdict_of
from distillens.audit.measured import calibration_record, measure_predictions
from distillens.audit.reasons import measure_reasons, reasons_record
from distillens.audit.record import metric_result, models_record, rows_columns
from distillens.audit.references import constant_model
from distillens.audit.result import Audit
from distillens.audit.scores import attributes_record, parts_record, scores_record
from distillens.audit.slices import Slices, find_slices, measure_slices
from distillens.audit.stability import measure_stability
from distillens.data.base import Table
from distillens.errors import InputError, did_you_mean
from distillens.intervals import Resamples
from distillens.metrics.base import METRICS
from distillens.metrics.certificate import certificate
from distillens.models.adapt import as_models

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Floats, Inputs, Ints
    from distillens.explainers.base import Explanation
    from distillens.metrics.base import Task
    from distillens.models.base import Model
    from distillens.store import JSON

USUAL_CONTROLS = {
    "twin": "the teacher refitted with another seed: how much the teacher itself moves",
    "undistilled": "the same student fitted on the labels only",
    "random_teacher": "the same student fitted on shuffled answers",
    "equal_information": "the same student fitted on the same rows with labels or hard answers",
}
TOLERANCE = 0.25  # of the standard deviation of the teacher's values, where no tolerance is given


def audit(
    teacher: Any,
    student: Any,
    inputs: Inputs,
    labels: NDArray[Any] | None = None,
    *,
    controls: Mapping[str, Model] | None = None,
    audit_only: pd.DataFrame | None = None,
    slices: Slices = "auto",
    groups: NDArray[Any] | None = None,
    weights: Floats | None = None,
    background: Inputs | None = None,
    explainers: Sequence[str] = ("auto",),
    explanations: Mapping[str, Mapping[str, Explanation]] | None = None,
    adverse: str | int | None = None,
    threshold: float | None = None,
    gates: str | Mapping[str, Any] | None = "relative",
    trained_on: frozenset[int] = frozenset(),
    seed: int = 0,
    level: float = 0.95,
    k: int = 4,
    draws: int = 1000,
    optimised: frozenset[str] = frozenset(),
    tolerance: float | None = None,
    readable: bool | None = None,
    max_explained: int = 100,
    repeatability: bool = True,
    certify: bool = True,
    reference: Inputs | None = None,
    reference_weights: Floats | None = None,
    monotone: Mapping[str, int] | None = None,
) -> Audit:
    """Compare a student with its teacher on n rows.

    teacher, student: any two models; fitted scikit-learn estimators are wrapped.
    labels: (n,) indices of the teacher's classes or values, NaN where unknown. controls: role → model ("twin",
    "undistilled", "random_teacher", …); the constant control is made here. audit_only: a data frame of n rows for slices.
    slices: "auto" or names. groups: (n,) ids of rows that belong together. weights: (n,) row weights, in any unit.
    background: rows that stand for "unknown", for behaviour and, without `explanations`, for `explainers`.
    explanations: method → role → Explanation, roles teacher, student, teacher.repeat, student.repeat and control names.
    adverse, threshold: the class that is decided where its probability ≥ threshold (two classes; default: the second, 0.5).
    gates: a profile name or a mapping, see audit/gates.py; None for no verdict but "review". trained_on: row ids used in
    training. level: of all intervals. k: main reasons per row. draws: resamples. optimised: metrics that were training
    objectives. tolerance: for regression, in units of the target (default a quarter of the teacher's standard deviation).
    certify: whether to say for which rows both models decide the same way everywhere around them (metrics/certificate.py), where both are
    constant on boxes; a few seconds at most.
    readable: whether people can read the student's family. max_explained: rows explained here when none are given;
    repeatability: then explain teacher and student a second time, against other background rows.
    reference, reference_weights: the rows that the models were developed on, and their (n',) weights, for population stability.
    monotone: feature → ±1, directions of the log-odds of class index 1 (or of the value) to hold both models against.

    The order of rows does not matter: rows are put in the order of their ids first.
    Raises InputError for inputs that do not fit, ModelError for models that cannot be compared, RecipeError for gates.
    """
    if not hasattr(inputs, "row_ids"):
        raise InputError(
            f"inputs is a {type(inputs).__name__}; expected rows of a Dataset, like distillens.load_dataset(…).test.inputs."
        )
    teacher, student = as_models(teacher, student, inputs)
    started = time.perf_counter()
    profile = profile_of(gates)
    _check_options(level=level, k=k, optimised=optimised, controls=controls or {}, max_explained=max_explained)
    order = _order(inputs)
    case = _case(teacher, student, inputs.take(order), labels=_taken(labels, order, "labels"), controls=controls or {},
                 groups=_taken(groups, order, "groups"), weights=_weights(weights, order), adverse=adverse, threshold=threshold,
                 seed=seed, draws=draws, k=k, tolerance=tolerance)  # fmt: skip
    if audit_only is not None:
        if len(audit_only) != len(case):
            raise InputError(
                f"audit_only should have a row for each of the {len(case)} inputs; it has {len(audit_only)}."
            )
        audit_only = audit_only.iloc[order].reset_index(drop=True)
    found_slices = find_slices(case, audit_only, slices)
    seconds = {"answers": time.perf_counter() - started}

    missing: list[JSON] = []
    if case.labels is None:
        missing.append(left_out("performance", "no labels were given"))
    missing += [
        left_out(f"control {role}", f"not given ({why})", "control", {"control": role})
        for role, why in USUAL_CONTROLS.items()
        if role not in case.controls
    ]

    clock = time.perf_counter()
    measured = measure_predictions(case)
    population = None
    if reference is None:
        missing.append(left_out("population stability", "no rows that the models were developed on were given"))
    elif not isinstance(reference, Table):
        missing.append(
            left_out("population stability", "the rows are images, and only features of tables are compared")
        )
    else:
        shifted, population = measure_stability(case, reference, reference_weights, level=level)
        measured += shifted
    seconds["metrics"] = time.perf_counter() - clock

    clock = time.perf_counter()
    explained = explanations_of(case, explanations, explainers, background, max_explained, missing, repeatability)
    for method in explained:
        measured += measure_reasons(case, method)
        if len(method.units) < 2:
            why_not = "there is only one feature, so nothing to rank"
            missing.append(left_out(f"reasons ({method.method})", why_not, "one_feature", {"explainer": method.method}))
    seconds["reasons"] = time.perf_counter() - clock

    clock = time.perf_counter()
    if background is None:
        missing.append(left_out("behaviour", "no background rows were given"))
    else:
        drawn = draw_background(background, seed=seed)
        rows = explained[0].rows if explained else sample(case, max_explained)
        measured += measure_masks(case, rows, drawn)
        if explained:
            measured += measure_deletion(case, explained[0], drawn)
    seconds["behaviour"] = time.perf_counter() - clock

    clock = time.perf_counter()
    certified = None
    if certify:
        certified = certificate(
            case.models["teacher"], case.models["student"], case.inputs, tolerance=case.tolerance,
            decision=case.decision if case.task == "binary" else None, weights=case.resamples.base,
        )  # fmt: skip
        if certified["kind"] == "not_available":
            missing.append(left_out("certificate", certified["why"]))
    seconds["certificate"] = time.perf_counter() - clock

    clock = time.perf_counter()
    main = next(m for m in measured if m.name in {"agreement", "within_tolerance"})
    sliced = measure_slices(
        case, main.student, found_slices, metric=main.name, minimum=profile.slice_minimum, level=level
    )
    judged = judge(profile, measured, task=case.task, level=level, named=profile.name == "custom")
    verdict, why = verdict_of(judged, sliced)
    overlap = int(np.isin(case.inputs.row_ids, list(trained_on)).sum()) if trained_on else 0
    directions = directions_record(case, monotone or {}, level=level)
    findings = find(measured, sliced, level=level, readable=readable, overlap=overlap, n=len(case), directions=directions, population=population)  # fmt: skip
    redrawn = background_record(case, explained[0], level=level) if explained else None
    findings = by_severity([*findings, *background_finding(redrawn, explained[0].method if explained else "")])
    results = tuple(metric_result(m, case, level=level, optimised=m.name in optimised) for m in measured)
    seconds["verdict"] = time.perf_counter() - clock
    seconds["total"] = time.perf_counter() - started

    binary = case.task == "binary"
    adverse_index = case.decision.adverse
    return Audit(
        verdict=verdict, verdict_why=why, task=case.task, classes=case.classes, n=len(case),
        decision={"adverse": case.classes[adverse_index], "adverse_index": adverse_index, "threshold": case.decision.threshold} if binary else None,
        models=models_record(case), metrics=results, slices=tuple(sliced), gates=tuple(judged), findings=tuple(findings),
        not_assessed=tuple(not_assessed(case.task, measured, sliced, missing)), statement=statement(judged, sliced),
        reasons=reasons_record(case, explained[0]) | {"background_sensitivity": redrawn} if explained else None, calibration=calibration_record(case),
        profile=profile.name, level=level, seed=seed, certificate=certified,
        overlap={"rows": overlap, "known": True} if trained_on else {"rows": None, "known": False},
        stability=population, scores=scores_record(case, level=level), parts=parts_record(case, level=level),
        attributes=attributes_record(case, level=level),
        monotone=directions,
        measured={"seconds": seconds}, columns=rows_columns(case, measured, main),
    )  # fmt: skip


def _check_options(
    *, level: float, k: int, optimised: frozenset[str], controls: Mapping[str, Model], max_explained: int
) -> None:
    if not 0.5 < level < 1:
        raise InputError(f"level should lie between 0.5 and 1, like 0.95; got {level}.")
    if k < 1 or max_explained < 1:
        raise InputError(f"k and max_explained should be at least 1; got {k} and {max_explained}.")
    for name in sorted(optimised):
        if name not in METRICS:
            raise InputError(f"optimised names an unknown metric {name!r}.{did_you_mean(name, METRICS)}")
    for role in controls:
        if role in {"teacher", "student"}:
            raise InputError(f"A control cannot be called {role!r}; that is one of the two models compared.")


def _order(inputs: Inputs) -> Ints:
    if len(inputs) == 0:
        raise InputError("There are no rows to audit.")
    order = np.argsort(inputs.row_ids, kind="stable")
    if (np.diff(inputs.row_ids[order]) == 0).any():
        raise InputError("Row ids must be unique: they say which rows belong together over models and explanations.")
    return order.astype(np.int64)


def _taken(values: NDArray[Any] | None, order: Ints, what: str) -> NDArray[Any] | None:
    if values is None:
        return None
    array = np.asarray(values)
    if array.shape != order.shape:
        raise InputError(f"{what} should have shape ({len(order)},), but has {array.shape}.")
    return array[order]


def _weights(weights: Floats | None, order: Ints) -> Floats | None:
    taken = _taken(weights, order, "weights")
    if taken is None:
        return None
    taken = taken.astype(np.float64)
    if not np.isfinite(taken).all() or (taken < 0).any() or not taken.sum() > 0:
        raise InputError("weights must be finite, not negative, and not all zero.")
    # In any unit: metrics that add half a row, or take a variance off, mean a row of mean weight.
    return np.asarray(taken / taken.mean(), dtype=np.float64)


def _case(
    teacher: Model, student: Model, inputs: Inputs, *, labels: NDArray[Any] | None, controls: Mapping[str, Model],
    groups: NDArray[Any] | None, weights: Floats | None, adverse: str | int | None, threshold: float | None, seed: int,
    draws: int, k: int, tolerance: float | None,
) -> Case:  # fmt: skip
    """Query every model once, in the teacher's class order."""
    classes = tuple(teacher.classes)
    if len(classes) == 1:
        raise InputError(
            f"The teacher {teacher.label!r} has a single class {classes[0]!r}; there is nothing to decide."
        )
    task: Task = "regression" if not classes else "binary" if len(classes) == 2 else "multiclass"
    if tolerance is not None and not (task == "regression" and tolerance > 0):
        raise InputError("tolerance is a positive number in units of the target, for regression only.")
    decision = decision_of(classes, adverse, threshold)
    n = len(inputs)
    known = known_labels(labels, n, classes)
    fixed = None if task == "multiclass" else np.full(n, decision.adverse if task == "binary" else 0, dtype=np.int64)
    first = answers_of(in_order(teacher, classes), inputs, decision=decision, target=fixed)
    target = first.p.argmax(axis=1).astype(np.int64) if fixed is None else fixed
    given = dict(controls)
    if "constant" not in given:
        says = first.score if first.decisions is None else first.decided.astype(np.float64)
        base = np.ones(n) if weights is None else weights
        usable = known if known is not None and base[np.isfinite(known)].sum() > 0 else None
        given["constant"] = constant_model(usable, says, classes, base)
    places = [*USUAL_CONTROLS, "constant"]
    roles = sorted(given, key=lambda role: (places.index(role) if role in places else len(places), role))
    models = {"teacher": teacher, "student": in_order(student, classes)} | {
        role: in_order(given[role], classes) for role in roles
    }
    answers = {"teacher": first} | {
        role: answers_of(model, inputs, decision=decision, target=target)
        for role, model in models.items()
        if role != "teacher"
    }
    resamples = Resamples(n, clusters=groups, weights=weights, draws=draws, seed=seed)
    stated = tolerance if tolerance is not None else TOLERANCE * float(first.score.std())
    return Case(task, classes, decision, inputs, known, target, models, answers, resamples, stated, k, seed)
