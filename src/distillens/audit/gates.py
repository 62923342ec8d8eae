"""Gates: what has to hold for a pass, and the verdict. Nothing heavy is imported here: recipes are checked with it.

A gate passes when the one-sided confidence bound of its quantity clears the limit, fails when the bound on the other side
is wholly beyond it, and is for review otherwise or when it cannot be assessed. Gates of one scope share the error
probability (Bonferroni). The interval printed beside a gate is two-sided with both ends at that one-sided confidence.

The numbers in `PROFILES` are starting points. No regulator gives such numbers; whoever signs chooses them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from distillens.audit.result import GateResult, Outcome, Reason, SliceResult
from distillens.errors import RecipeError, did_you_mean
from distillens.estimate import Estimate
from distillens.metrics.base import METRICS

if TYPE_CHECKING:
    from distillens.audit.measured import Measured
    from distillens.metrics.base import Task

Reference = Literal["twin", "undistilled", "teacher", "constant"]
SMALLEST_BOOTSTRAP = 30  # rows (or clusters) below which a resampled interval decides nothing
UNGATED = {"ece": "its estimate is biased towards confidence bins; it is shown, never gated"}


@dataclass(frozen=True)
class Gate:
    """One condition: an absolute `minimum` or `maximum`, or at most `margin` worse than a reference.

    relative_to: twin (the undistilled student where there is no twin), undistilled, teacher or constant.
    ratio: the margin is a share of the reference's value instead of a difference.
    """

    metric: str
    minimum: float | None = None
    maximum: float | None = None
    relative_to: Reference | None = None
    margin: float | None = None
    ratio: bool = False


@dataclass(frozen=True)
class Profile:
    """Gates with the smallest slice that counts as assessed."""

    name: str
    gates: tuple[Gate, ...]
    slice_minimum: int
    text: str


_STARTING_POINT = "Starting points, to be replaced by numbers of your own; no regulator gives any."

PROFILES: dict[str, Profile] = {
    "relative": Profile(
        "relative",
        (
            Gate("agreement", relative_to="twin", margin=0.05),
            Gate("agreement_adverse", relative_to="twin", margin=0.10),
            Gate("agreement_favourable", relative_to="twin", margin=0.05),
            Gate("cohen_kappa", minimum=0.20),
            Gate("r2_to_teacher", relative_to="twin", margin=0.05),
            Gate("r2_to_teacher", minimum=0.20),
            Gate("spearman_to_teacher", relative_to="twin", margin=0.05),
            Gate("within_tolerance", relative_to="twin", margin=0.10),
            Gate("roc_auc", relative_to="teacher", margin=0.03),
            Gate("rmse", relative_to="teacher", margin=0.05, ratio=True),
            Gate("brier", relative_to="teacher", margin=0.02),
            Gate("top_k_overlap", relative_to="twin", margin=0.10),
            Gate("sign_agreement", relative_to="twin", margin=0.10),
            Gate("mask_correlation", relative_to="twin", margin=0.10),
        ),
        30,
        "The student may be worse than the teacher refitted with another seed (or than the teacher itself in performance) "
        "by a stated margin, and must clearly beat a constant answer. " + _STARTING_POINT,
    ),
    "low_stakes": Profile(
        "low_stakes",
        (
            Gate("agreement", minimum=0.85),
            Gate("cohen_kappa", minimum=0.50),
            Gate("r2_to_teacher", minimum=0.80),
            Gate("roc_auc", relative_to="teacher", margin=0.05),
            Gate("rmse", relative_to="teacher", margin=0.10, ratio=True),
        ),
        30,
        "Decisions that are cheap to undo. " + _STARTING_POINT,
    ),
    "high_stakes": Profile(
        "high_stakes",
        (
            Gate("agreement", minimum=0.95),
            Gate("agreement_adverse", minimum=0.90),
            Gate("agreement_favourable", minimum=0.90),
            Gate("cohen_kappa", minimum=0.80),
            Gate("bad_flips", maximum=0.03),
            Gate("r2_to_teacher", minimum=0.95),
            Gate("spearman_to_teacher", minimum=0.95),
            Gate("within_tolerance", minimum=0.90),
            Gate("roc_auc", relative_to="teacher", margin=0.02),
            Gate("rmse", relative_to="teacher", margin=0.03, ratio=True),
            Gate("brier", relative_to="teacher", margin=0.01),
            Gate("top_k_overlap", minimum=0.75),
            Gate("sign_agreement", minimum=0.70),
            Gate("mask_correlation", minimum=0.90),
        ),
        50,
        "Decisions about people that have to be explained. " + _STARTING_POINT,
    ),
    "edge": Profile(
        "edge",
        (
            Gate("agreement", minimum=0.97),
            Gate("cohen_kappa", minimum=0.90),
            Gate("r2_to_teacher", minimum=0.97),
            Gate("roc_auc", relative_to="teacher", margin=0.01),
            Gate("rmse", relative_to="teacher", margin=0.03, ratio=True),
            Gate("mask_correlation", minimum=0.90),
        ),
        30,
        "A smaller copy of the same model on a device. " + _STARTING_POINT,
    ),
}

_KEYS = ("min", "max", "relative_to", "margin", "ratio")


def _number(value: Any) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and value == value
        and abs(value) != float("inf")
    )


def _problems_of(metric: str, spec: Any) -> list[str]:
    where = f"audit.gates.{metric}"
    if metric not in METRICS:
        return [f"{where}: there is no metric {metric!r}.{did_you_mean(metric, METRICS)}"]
    if metric in UNGATED:
        return [f"{where}: {metric} cannot be a gate; {UNGATED[metric]}."]
    if not isinstance(spec, Mapping):
        return [f"{where}: write {{min: …}}, {{max: …}} or {{relative_to: …, margin: …}}, not {spec!r}."]
    problems = [f"{where}: unknown key {key!r}.{did_you_mean(str(key), _KEYS)}" for key in spec if key not in _KEYS]
    problems += [
        f"{where}.{key}: must be a number, not {spec[key]!r}."
        for key in ("min", "max", "margin")
        if key in spec and not _number(spec[key])
    ]
    reference = spec.get("relative_to")
    if reference is not None and reference not in get_args(Reference):
        problems.append(
            f"{where}.relative_to: there is no reference {reference!r}.{did_you_mean(str(reference), get_args(Reference))}"
        )
    if sum(key in spec for key in ("min", "max", "relative_to")) != 1:
        problems.append(f"{where}: give exactly one of min, max and relative_to.")
    if ("relative_to" in spec) != ("margin" in spec):
        problems.append(f"{where}: relative_to and margin go together.")
    if "ratio" in spec and not isinstance(spec["ratio"], bool):
        problems.append(f"{where}.ratio: must be true or false, not {spec['ratio']!r}.")
    if reference is not None and METRICS[metric].higher_is_better is None:
        problems.append(
            f"{where}: neither direction of {metric} is better, so it needs min or max instead of relative_to."
        )
    if reference == "teacher" and METRICS[metric].of != "model" and metric != "deletion_fall":
        problems.append(
            f"{where}.relative_to: {metric} compares the student with the teacher; relative to the teacher means nothing."
        )
    return problems


def check_gates(gates: Any) -> list[str]:
    """Every problem of a recipe's gates, one sentence each; empty when they can be used."""
    if gates is None:
        return []
    if isinstance(gates, str):
        return (
            [] if gates in PROFILES else [f"audit.gates: there is no profile {gates!r}.{did_you_mean(gates, PROFILES)}"]
        )
    if not isinstance(gates, Mapping):
        return [f"audit.gates: give the name of a profile or a mapping of metrics, not {gates!r}."]
    problems: list[str] = []
    for name, spec in gates.items():
        if name == "profile":
            problems += (
                [f"audit.gates.profile: write the name of a profile, not {spec!r}."]
                if not isinstance(spec, str)
                else check_gates(spec)
            )
        elif name == "slice_minimum":
            if not isinstance(spec, int) or isinstance(spec, bool) or spec < 1:
                problems.append(f"audit.gates.slice_minimum: must be a whole number of rows, not {spec!r}.")
        else:
            for one in _listed(spec):
                problems += _problems_of(str(name), one)
    return problems


def _listed(spec: Any) -> Sequence[Any]:
    return spec if isinstance(spec, (list, tuple)) else [spec]


def profile_of(gates: str | Mapping[str, Any] | None) -> Profile:
    """The gates of a profile name, or of a mapping metric → {min | max | relative_to, margin}; RecipeError lists all problems.

    A mapping may name a `profile` whose gates it adds to or replaces, and a `slice_minimum`. None: no gates at all.
    """
    problems = check_gates(gates)
    if problems:
        raise RecipeError(problems)
    if gates is None:
        return Profile("none", (), 30, "No gates were set.")
    if isinstance(gates, str):
        return PROFILES[gates]
    base = PROFILES[gates["profile"]] if "profile" in gates else None
    own = {str(name): spec for name, spec in gates.items() if name not in {"profile", "slice_minimum"}}
    made = tuple(
        Gate(name, one.get("min"), one.get("max"), one.get("relative_to"), one.get("margin"), one.get("ratio", False))
        for name, spec in own.items()
        for one in _listed(spec)
    )
    kept = tuple(gate for gate in base.gates if gate.metric not in own) if base else ()
    minimum = int(gates.get("slice_minimum", base.slice_minimum if base else 30))
    text = f"Set by the user, on top of {base.name}." if base else "Set by the user."
    return Profile("custom", kept + made, minimum, text)


def judge(profile: Profile, measured: Sequence[Measured], *, task: Task, level: float, named: bool) -> list[GateResult]:
    """The outcome of every gate that applies to the task; of metrics with several explainers, one each.

    named: gates were chosen by the user; a metric that does not apply to the task is then for review instead of left out.
    """
    todo: list[tuple[Gate, Measured | None]] = []
    for gate in profile.gates:
        if task not in METRICS[gate.metric].tasks and not named:
            continue
        found = [m for m in measured if m.name == gate.metric]
        todo += [(gate, m) for m in found] or [(gate, None)]
    sizes: dict[str, int] = {}
    for gate, _ in todo:
        scope = METRICS[gate.metric].scope
        sizes[scope] = sizes.get(scope, 0) + 1
    return [_judge_one(gate, m, task=task, level=level, family=sizes[METRICS[gate.metric].scope]) for gate, m in todo]


def _judge_one(gate: Gate, found: Measured | None, *, task: Task, level: float, family: int) -> GateResult:
    metric = METRICS[gate.metric]
    confidence = 1 - (1 - level) / family
    two_sided = 1 - 2 * (1 - level) / family
    upward = gate.minimum is not None or (gate.relative_to is not None and metric.higher_is_better is True)
    direction: Literal[">=", "<="] = ">=" if upward else "<="
    reference: str | None = gate.relative_to
    if gate.margin is not None:
        limit = -gate.margin if upward else gate.margin
    else:
        limit = gate.minimum if gate.minimum is not None else gate.maximum if gate.maximum is not None else 0.0
    result = GateResult(gate.metric, None if found is None else found.explainer, "", Estimate.missing("not_available", ""), limit,
                        direction, reference, gate.margin, "review", "", ratio=gate.ratio, confidence=confidence)  # fmt: skip
    if found is None:
        if task not in metric.tasks:
            why = f"{gate.metric} does not apply to {task} tasks."
        else:
            lacking = ", ".join(sorted(metric.needs)) or "its inputs"
            why = f"{gate.metric} could not be assessed: {lacking} not available."
        reason: Reason = "lacking" if task in metric.tasks else "not_task"
        return replace(result, text=f"not assessed (limit {direction} {limit:g})", why=why, reason=reason)
    bound: Estimate
    if reference is None:
        bound = found.student.estimate(two_sided)
        what = gate.metric
    else:
        other = found.reference(reference)
        if other is None and reference == "twin" and found.controls.get("undistilled") is not None:
            reference, other = "undistilled", found.controls["undistilled"]
        if other is None:
            why = f"Reference unknown: there is no {reference} to compare {gate.metric} with."
            return replace(result, text="reference unknown", why=why, reason="no_reference")
        bound = (
            found.student.relative_difference(other, two_sided)
            if gate.ratio
            else found.student.difference(other, two_sided)
        )
        what = (
            f"{gate.metric} minus the {reference}'s"
            if not gate.ratio
            else f"{gate.metric} over the {reference}'s, minus 1,"
        )
    result = replace(result, bound=bound, relative_to=reference)
    if bound.status != "ok":
        return replace(
            result, text=f"{what} not assessable", why=f"{what} cannot be assessed: {bound.note or bound.status}."
        )
    text = f"{what} {bound.value:.3f} ({bound.low:.3f} to {bound.high:.3f}), limit {direction} {limit:g}"
    units = bound.n if bound.n_clusters is None else bound.n_clusters
    if "bootstrap" in bound.method and units < SMALLEST_BOOTSTRAP:
        why = f"Only {units} rows or clusters; below {SMALLEST_BOOTSTRAP} a resampled interval decides nothing."
        return replace(result, text=text, why=why, reason="few_units", needed=SMALLEST_BOOTSTRAP)
    return replace(result, text=text, **_outcome(bound, limit, upward=upward, what=what, confidence=confidence))


def _outcome(bound: Estimate, limit: float, *, upward: bool, what: str, confidence: float) -> dict[str, Any]:
    near, far = (bound.low, bound.high) if upward else (bound.high, bound.low)
    clears = near >= limit if upward else near <= limit
    beyond = far < limit if upward else far > limit
    outcome: Outcome = "pass" if clears else "fail" if beyond else "review"
    at = f"one-sided {confidence:.4g} confidence bound"
    if outcome == "pass":
        why = f"The {at} of {what} is {near:.3f} and clears the limit {limit:g}."
    elif outcome == "fail":
        why = f"Even the more favourable {at} of {what} is {far:.3f}, beyond the limit {limit:g}."
    else:
        why = f"The interval of {what}, {bound.low:.3f} to {bound.high:.3f}, contains the limit {limit:g}: more rows could decide."
    reason: Reason = "clears" if clears else "beyond" if beyond else "contains"
    return {"outcome": outcome, "why": why, "reason": reason}


def verdict_of(gates: Sequence[GateResult], slices: Sequence[SliceResult]) -> tuple[Outcome, str]:
    """fail when a gate fails; pass when all pass, every declared slice is assessed and none is worse than the rest."""
    failed = [g.metric for g in gates if g.outcome == "fail"]
    if failed:
        return "fail", f"{len(failed)} of {len(gates)} gates fail: {', '.join(dict.fromkeys(failed))}."
    reasons = []
    if not gates:
        reasons.append("no gate was set")
    review = [g.metric for g in gates if g.outcome == "review"]
    if review:
        reasons.append(f"{len(review)} of {len(gates)} gates cannot be decided ({', '.join(dict.fromkeys(review))})")
    unassessed = [s for s in slices if s.forbids_pass and not s.flagged]
    if unassessed:
        shown = ", ".join(f"{s.column} = {s.level} ({s.n} rows)" for s in unassessed[:3])
        many = "declared slices are" if len(unassessed) > 1 else "declared slice is"
        reasons.append(f"{len(unassessed)} {many} too small: {shown}" + (", …" if len(unassessed) > 3 else ""))
    worse = [s for s in slices if s.forbids_pass and s.flagged]
    if worse:
        reasons.append("agreement is significantly lower in " + ", ".join(f"{s.column} = {s.level}" for s in worse[:3]))
    if reasons:
        return "review", "For review: " + "; ".join(reasons) + "."
    return "pass", f"All {len(gates)} gates pass."
