"""Words for the numbers: one sentence a metric, findings with severity, and what was kept, lost or stays unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from distillens.audit.result import AuditFinding, GateResult, SliceResult
from distillens.estimate import Estimate
from distillens.metrics.base import Metric
from distillens.store import JSON

if TYPE_CHECKING:
    from distillens.audit.measured import Measured
    from distillens.metrics.base import Task

AS_GOOD = 0.02  # margin within which an undistilled model counts as good as the student: AUC, accuracy or R²
SHIFT = 0.25  # a population stability index above this is commonly called a shift to act on
STEADY = 0.95  # a teacher that agrees less often than this with its own twin is worth a word

KEPT_OR_LOST = {
    "agreement": "decisions", "agreement_adverse": "adverse decisions", "agreement_favourable": "favourable decisions",
    "cohen_kappa": "agreement beyond chance", "log_odds_r2": "size of the log-odds", "log_odds_spearman": "ranking by score",
    "bad_flips": "decisions that the teacher has right", "r2_to_teacher": "values", "spearman_to_teacher": "ranking by value",
    "within_tolerance": "values within the tolerance", "accuracy": "accuracy", "roc_auc": "ranking", "gini": "ranking",
    "rmse": "accuracy", "r2": "accuracy", "brier": "accuracy of the probabilities", "top_k_overlap": "main reasons",
    "sign_agreement": "direction of the main reasons", "rank_agreement": "order of the main reasons",
    "mask_correlation": "behaviour when features are removed",
}  # fmt: skip


def shown(value: float, unit: str) -> str:
    """A number as people read it: shares in percent with one decimal, everything else with three significant digits."""
    return f"{100 * value:.1f} %" if unit == "share" else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def with_interval(estimate: Estimate, unit: str) -> str:
    """`88.7 % (84.5 to 92.0 %, n = 300)`; the reason where there is no number."""
    if estimate.status != "ok":
        return f"not available ({estimate.note or estimate.status})"
    low, high = shown(estimate.low, unit), shown(estimate.high, unit)
    return f"{shown(estimate.value, unit)} ({low.removesuffix(' %') if unit == 'share' else low} to {high}, n = {estimate.n:,})"


def sentence(
    metric: Metric,
    estimate: Estimate,
    *,
    teacher: Estimate | None,
    chance: Estimate | None,
    repeatability: Mapping[str, Estimate] | None,
    k: int,
    tolerance: float,
) -> str:
    """One plain sentence about a metric with its number, interval, n and references."""
    about = metric.text[0].upper() + metric.text[1:]
    if " k main " in about:
        about = about.replace(" k main ", f" {k} main ")
    if metric.name == "within_tolerance":
        about += f" (tolerance {tolerance:.3g})"
    text = f"{about}: {with_interval(estimate, metric.unit)}"
    if teacher is not None and teacher.status == "ok":
        text += f"; the teacher's {shown(teacher.value, metric.unit)}"
    if chance is not None and chance.status == "ok":
        text += f"; with another row of the same decision {shown(chance.value, metric.unit)}"
    for role, repeat in (repeatability or {}).items():
        if repeat.status == "ok":
            text += f"; the {role} asked twice {shown(repeat.value, metric.unit)}"
    return text + "."


def _find(measured: Sequence[Measured], name: str) -> Measured | None:
    return next((m for m in measured if m.name == name), None)


def _without_teacher(measured: Sequence[Measured], level: float, *, readable: bool) -> list[AuditFinding]:
    """Is the same family, fitted on the labels alone, as good as the student, or not shown to be worse?"""
    found = _find(measured, "roc_auc") or _find(measured, "accuracy") or _find(measured, "r2")
    if found is None or "undistilled" not in found.controls:
        return []
    other = found.controls["undistilled"]
    gap = found.student.difference(other, 2 * level - 1)
    if gap.status != "ok" or gap.low > 0:
        return []
    own, alone = found.student.estimate(level), other.estimate(level)
    numbers = (
        f"{found.name} {with_interval(alone, found.metric.unit)} without a teacher, "
        f"{with_interval(own, found.metric.unit)} for the student"
    )
    what = "An interpretable model without any teacher" if readable else "The same kind of model without any teacher"
    values = {"metric": found.name, "unit": found.metric.unit, "own": own.to_json(), "alone": alone.to_json(), "gap": gap.to_json(),
              "margin": AS_GOOD, "level": level, "readable": readable}  # fmt: skip
    if gap.high < 0:
        return [AuditFinding("major", f"{what} is better: {numbers}.", "alone_better", values)]
    if gap.high > AS_GOOD:
        text = (f"These rows do not show that the teacher makes the student better: {numbers}; difference "
                f"{gap.value:+.3f} (one-sided {level:.0%} bounds {gap.low:+.3f} and {gap.high:+.3f}).")  # fmt: skip
        return [AuditFinding("info", text, "alone_undecided", values)]
    bound = f"the student is better by at most {gap.high:.3f} (one-sided {level:.0%} bound; margin {AS_GOOD})"
    return [AuditFinding("minor", f"{what} is already as good: {numbers}; {bound}.", "alone_as_good", values)]


def _flips(measured: Sequence[Measured], level: float) -> list[AuditFinding]:
    bad, good, accuracy = (_find(measured, name) for name in ("bad_flips", "good_flips", "accuracy"))
    if bad is None or good is None or accuracy is None or accuracy.teacher is None or not bad.student.point > 0:
        return []
    change = accuracy.student.difference(accuracy.teacher, level)
    worse = change.status == "ok" and change.high < 0
    return [AuditFinding("major" if worse else "info", (
        f"The student is wrong where the teacher is right for {with_interval(bad.student.estimate(level), 'share')} of rows, and "
        f"right where the teacher is wrong for {with_interval(good.student.estimate(level), 'share')}"
        + ("; it is less accurate than the teacher." if worse else ".")
    ), "flips_worse" if worse else "flips", {"bad": bad.student.estimate(level).to_json(), "good": good.student.estimate(level).to_json()})]  # fmt: skip


def _miscalibration(measured: Sequence[Measured], level: float) -> list[AuditFinding]:
    found = []
    for name, ideal, meaning in (
        ("calibration_slope", 1.0, ("its probabilities are too extreme", "its probabilities are too timid")),
        ("calibration_intercept", 0.0, ("its probabilities of the adverse class are too high", "its probabilities of the adverse class are too low")),
    ):  # fmt: skip
        measure = _find(measured, name)
        estimate = None if measure is None else measure.student.estimate(level)
        if estimate is None or estimate.status != "ok" or estimate.low <= ideal <= estimate.high:
            continue
        strong = name == "calibration_slope" and not 0.5 <= estimate.value <= 2
        which = meaning[0] if estimate.value < ideal else meaning[1]
        text = f"The student is miscalibrated: {name.replace('_', ' ')} {with_interval(estimate, 'value')} where {ideal:g} is ideal; {which}."
        way = ("extreme", "timid") if name == "calibration_slope" else ("high", "low")
        values = {"metric": name, "estimate": estimate.to_json(), "ideal": ideal}
        kind = f"miscalibrated_{way[0] if estimate.value < ideal else way[1]}"
        found.append(AuditFinding("major" if strong else "minor", text, kind, values))
    return found


def _reasons(measured: Sequence[Measured], level: float) -> list[AuditFinding]:
    found = []
    for m in (m for m in measured if m.name == "top_k_overlap"):
        own = with_interval(m.student.estimate(level), "share")
        if m.chance is not None:
            above = m.student.difference(m.chance, level)
            if above.status == "ok" and above.low <= 0:
                text = (f"The main reasons ({m.explainer}) are not shown to be more alike than those of another row with the same "
                        f"decision: overlap {own}, with another row {shown(m.chance.point, 'share')}.")  # fmt: skip
                values = {
                    "explainer": m.explainer,
                    "own": m.student.estimate(level).to_json(),
                    "chance": m.chance.point,
                }
                found.append(AuditFinding("major", text, "reasons_chance", values))
                continue
        for role, repeat in (m.repeatability or {}).items():
            below = m.student.difference(repeat, level)
            if below.status == "ok" and below.high < 0:
                text = (f"Teacher and student differ in their main reasons ({m.explainer}) by more than explaining the {role} twice "
                        f"does: overlap {own}, the {role} asked twice {shown(repeat.point, 'share')}.")  # fmt: skip
                values = {"explainer": m.explainer, "own": m.student.estimate(level).to_json(), "repeat": repeat.point}
                found.append(AuditFinding("minor", text, f"reasons_repeat_{role}", values))
                break
    return found


def _twin(measured: Sequence[Measured], level: float) -> list[AuditFinding]:
    m = _find(measured, "agreement")
    twin = None if m is None else m.controls.get("twin")
    if twin is None or not twin.point < STEADY:
        return []
    share = with_interval(twin.estimate(level), "share")
    text = (f"The teacher refitted with another seed gives the teacher's decision for {share} of rows: this is how much the "
            "teacher itself moves.")  # fmt: skip
    return [AuditFinding("minor", text, "twin", {"share": twin.estimate(level).to_json()})]


def _slice(found: SliceResult) -> AuditFinding:
    rest = None if found.rest is None else found.rest.to_json()
    values = {"column": found.column, "level": found.level, "kind": found.kind, "metric": found.metric, "n": found.n,
              "estimate": found.estimate.to_json(), "rest": rest, "p_value": found.p_value}  # fmt: skip
    if found.kind == "boundary":
        return AuditFinding(
            "info", f"Agreement is lower near the threshold, as is usual. {found.text}", "boundary", values
        )
    severity: Literal["major", "minor"] = "major" if found.kind == "column" else "minor"
    return AuditFinding(severity, f"Agreement is significantly lower in a slice. {found.text}", "slice", values)


def _directions(entries: Sequence[JSON]) -> list[AuditFinding]:
    """Directions that the student breaks on these rows; the teacher's own are in the table."""
    found = []
    for entry in entries:
        own = entry["models"].get("student")
        if own is None or not own["rows"] > 0:
            continue
        way = "rise" if entry["sign"] > 0 else "fall"
        broken = Estimate.from_json(own["broken"])
        text = (f"The student breaks a direction that was asked for: its answer does not always {way} with {entry['feature']}, for "
                f"{with_interval(broken, 'share')} of rows.")  # fmt: skip
        values = {"feature": entry["feature"], "sign": entry["sign"], "broken": own["broken"]}
        found.append(AuditFinding("minor", text, "direction", values))
    return found


def _population(record: JSON | None) -> list[AuditFinding]:
    """Features whose index passes what a shiftless sample would give and the 0.25 that are commonly called a shift."""
    found = []
    for entry in (record or {}).get("features", ()):
        index = Estimate.from_json(entry["psi"])
        if index.status == "ok" and index.value > max(SHIFT, entry["unshifted"]):
            text = (f"The audited rows differ from the development rows in {entry['name']}: population stability index "
                    f"{with_interval(index, 'value')}.")  # fmt: skip
            found.append(AuditFinding("minor", text, "population", {"feature": entry["name"], "psi": entry["psi"]}))
    return found


def find(
    measured: Sequence[Measured],
    slices: Sequence[SliceResult],
    *,
    level: float,
    readable: bool | None,
    overlap: int,
    n: int,
    directions: Sequence[JSON] = (),
    population: JSON | None = None,
) -> list[AuditFinding]:
    """What a careful reader wants to know, the severest first. overlap: audited rows that a model was trained on."""
    found: list[AuditFinding] = []
    if overlap:
        found.append(
            AuditFinding(
                "major",
                f"{overlap:,} of {n:,} audited rows were used in training; these numbers flatter both models.",
                "overlap",
                {"rows": overlap, "n": n},
            )
        )
    found += [_slice(s) for s in slices if s.flagged]
    found += (
        _reasons(measured, level) + _flips(measured, level) + _miscalibration(measured, level) + _twin(measured, level)
    )
    found += (
        _directions(directions) + _population(population) + _without_teacher(measured, level, readable=bool(readable))
    )
    return by_severity(found)


def by_severity(findings: Sequence[AuditFinding]) -> list[AuditFinding]:
    """The severest first, otherwise in the order they came."""
    order = {"major": 0, "minor": 1, "info": 2}
    return sorted(findings, key=lambda f: order[f.severity])


def statement(gates: Sequence[GateResult], slices: Sequence[SliceResult]) -> JSON:
    """What the gates show as kept and as lost, and what stays unknown; a phrase is named once, at its worst outcome."""
    rank = {"pass": 0, "review": 1, "fail": 2}
    worst: dict[str, str] = {}
    for gate in gates:
        phrase = KEPT_OR_LOST.get(gate.metric, gate.metric.replace("_", " "))
        if phrase not in worst or rank[gate.outcome] > rank[worst[phrase]]:
            worst[phrase] = gate.outcome
    by = {outcome: [phrase for phrase, is_ in worst.items() if is_ == outcome] for outcome in rank}
    lost = by["fail"] + [f"agreement in {s.column} = {s.level}" for s in slices if s.flagged and s.kind == "column"]
    unknown = by["review"] + [f"{s.column} = {s.level} ({s.n} rows)" for s in slices if s.outcome == "not_assessed"]
    return {"kept": by["pass"], "lost": lost, "unknown": unknown}


def not_assessed(
    task: Task, measured: Sequence[Measured], slices: Sequence[SliceResult], missing: Sequence[JSON]
) -> list[JSON]:
    """What was not tested and why: given reasons, numbers that could not be made, slices that are too small.

    {what, why} in English; kind and values for readers of any language.
    """
    listed = list(missing)
    for m in measured:
        made = m.student.estimate()
        if made.status != "ok":
            name = m.name + (f" ({m.explainer})" if m.explainer else "")
            values = {"metric": m.name, "explainer": m.explainer, "status": made.status}
            listed.append(left_out(name, made.note or made.status, "metric", values))
    listed += [
        left_out(f"{s.column} = {s.level}", s.estimate.note, "slice",
                 {"column": s.column, "level": s.level, "kind": s.kind, "n": s.n, "needed": s.needed})
        for s in slices if s.outcome == "not_assessed"
    ]  # fmt: skip
    listed += [
        left_out("representation", "models are compared as functions of a table; their layers are not looked at"),
        left_out("faithfulness of each explanation", "explanations are compared with each other, not with deletion curves of their own"),
        left_out("two-sample test of explanations", "no classifier was asked whether it can tell the two models' explanations apart"),
        left_out("searched slices", "only declared slices are tested; an undeclared group may differ"),
        left_out("refitting the student", "intervals cover the rows only: the models are fixed"),
    ]  # fmt: skip
    if task != "regression" and not any(m.metric.scope == "calibration" for m in measured):
        listed.append(left_out("calibration", "needs labels"))
    return listed


def left_out(what: str, why: str, kind: str = "", values: JSON | None = None) -> JSON:
    """One thing that was not assessed; the kind is `what` with underscores where none is given."""
    return {"what": what, "why": why, "kind": kind or what.replace(" ", "_").replace("-", "_"), "values": values or {}}
