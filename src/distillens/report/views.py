"""What the sections about the audit show: gates, metrics with their references, slices, reasons, rows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distillens.report import reasons as drawn
from distillens.report.figures import Reference, finite, interval_plot
from distillens.report.headline import usable
from distillens.report.svg import clean
from distillens.report.words import Words, name

Json = Mapping[str, Any]

MOST_ROWS, MOST_UNITS = 40, 20
CONTROL_MARKS = {"twin": "twin", "undistilled": "undistilled"}
ROW_FLAGS = ("both_right", "both_wrong", "one_right", "differ", "same_decision")


def anchor(*parts: object) -> str:
    """An id for a link, from names that may hold anything."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(str(p) for p in parts if p is not None).lower()).strip("-") or "item"


def scale(w: Words, key: str) -> Markup:
    """A scale (log_odds, log-odds, logit, probability, value) in words, explained at first use."""
    known = key.replace("-", "_")
    return w.term(known) if w.has(f"define.{known}") else Markup("{}").format(clean(key))


def target(w: Words, key: Any) -> Markup:
    """The class that is explained: a name, or the teacher's own decision."""
    text = str(key) if key is not None else ""
    return Markup("{}").format(w(f"target.{text}")) if w.has(f"target.{text}") else Markup("“{}”").format(name(text))


def references(w: Words, metric: Json) -> list[Reference]:
    """Everything a metric is to be compared with, in the order of the legend."""
    out = []
    if usable(metric.get("teacher")):
        out.append(_reference("teacher", w("role.teacher"), metric["teacher"]))
    for control, e in (metric.get("controls") or {}).items():
        if usable(e):
            out.append(_reference(CONTROL_MARKS.get(control, "other"), control_name(w, control), e))
    if usable(metric.get("chance")):
        out.append(_reference("chance", w("reference.chance"), metric["chance"]))
    for role, e in (metric.get("repeatability") or {}).items():
        if usable(e):
            out.append(
                _reference(
                    "repeat",
                    w(f"reference.repeat.{role}") if w.has(f"reference.repeat.{role}") else w("reference.repeat"),
                    e,
                )
            )
    return out


def _reference(kind: str, label: str, e: Json) -> Reference:
    return Reference(kind, label, float(e["value"]), finite(e.get("low")), finite(e.get("high")))


def control_name(w: Words, control: str) -> str:
    """A control in words; a name that is not one of ours stays as it is."""
    return w(f"role.{control}") if w.has(f"role.{control}") else clean(control)


def _label(w: Words, metric: Json, audit: Json) -> str:
    k = audit["reasons"]["k"] if audit.get("reasons") else None
    text = w.metric(metric["name"], k)
    several = len({m["explainer"] for m in audit["metrics"] if m.get("explainer")}) > 1
    if not (metric.get("explainer") and several):
        return text
    explainer = metric["explainer"]
    return w(
        "table.by", {"metric": text, "explainer": w(f"term.{explainer}") if w.has(f"term.{explainer}") else explainer}
    )


def metrics(w: Words, audit: Json, scopes: Sequence[str]) -> list[dict[str, Any]]:
    """Metrics of these scopes that apply, each with its plot."""
    rows = []
    for metric in audit.get("metrics", ()):
        if metric["scope"] not in scopes or metric["estimate"].get("status") == "not_applicable":
            continue
        label = _label(w, metric, audit)
        plot = (
            interval_plot(w, metric["estimate"], unit=metric["unit"], title=label, references=references(w, metric))
            if usable(metric["estimate"])
            else ""
        )
        rows.append({
            "label": label, "about": w.about(metric["name"], (audit.get("reasons") or {}).get("k")), "optimised": metric.get("optimised", False), "estimate": metric["estimate"],
            "unit": metric["unit"], "plot": plot, "normalised": metric.get("normalised"), "anchor": anchor(metric["name"], metric.get("explainer")),
        })  # fmt: skip
    return rows


# ── gates ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def gates(w: Words, audit: Json) -> list[dict[str, Any]]:
    """Each gate on one axis with its limit and its references."""
    return [_gate(w, gate, audit) for gate in audit["gates"]]


def _gate(w: Words, gate: Json, audit: Json) -> dict[str, Any]:
    metric = _metric_of(gate, audit)
    unit = metric["unit"] if metric else "value"
    label = _label(w, metric, audit) if metric else w.metric(gate["metric"])
    relative = is_difference(gate)
    reference = _relative_value(gate, metric) if relative else None
    refs = references(w, metric) if metric else []
    bound, limit = gate["bound"], finite(gate.get("limit"))
    if (
        relative and reference is not None
    ):  # the interval of the difference, placed at the reference's value: one axis for all
        bound = dict(bound) | {
            k: bound[k] + reference for k in ("value", "low", "high") if isinstance(bound.get(k), (int, float))
        }
        limit = None if limit is None else limit + reference
    elif relative:
        refs = [Reference("other", control_name(w, gate["relative_to"]), 0.0)]
    shown = metric["estimate"] if metric and usable(metric["estimate"]) else None
    plot = (
        interval_plot(w, bound, unit=unit, title=label, references=refs, limit=limit, direction=gate["direction"])
        if usable(bound)
        else ""
    )
    why = gate_reason(w, gate, unit)
    english = w.language == "en" and gate.get("why")
    return {
        "anchor": anchor(gate["metric"], gate.get("explainer"), gate.get("relative_to")), "label": label, "relation": relation(w, gate, unit),
        "numbers": w.estimate(shown, unit) if shown else w.estimate(gate["bound"], unit), "plot": plot, "outcome": gate["outcome"],
        "why": clean(gate["why"]) if english else why, "lang": "",
    }  # fmt: skip


def _metric_of(gate: Json, audit: Json) -> Json | None:
    same = [m for m in audit["metrics"] if m["name"] == gate["metric"]]
    exact = [m for m in same if m.get("explainer") == gate.get("explainer")]
    found: Json | None = next(iter(exact or same), None)
    return found


def is_difference(gate: Json) -> bool:
    """Whether a gate holds a difference to a reference (limit = ∓ margin) against its limit, not the quantity itself."""
    margin, limit = gate.get("margin"), finite(gate.get("limit"))
    return (
        bool(gate.get("relative_to"))
        and margin is not None
        and limit is not None
        and math.isclose(abs(limit), abs(margin), abs_tol=1e-12)
    )


def _relative_value(gate: Json, metric: Json | None) -> float | None:
    if metric is None:
        return None
    source = (
        metric.get("teacher")
        if gate["relative_to"] == "teacher"
        else (metric.get("controls") or {}).get(gate["relative_to"])
    )
    return float(source["value"]) if source is not None and usable(source) else None


def relation(w: Words, gate: Json, unit: str) -> str:
    """What the gate asks for, in words."""
    if gate.get("relative_to"):
        other = control_name(w, gate["relative_to"])
        margin = gate.get("margin")
        if not margin:
            return w("gate.not_worse", {"other": other})
        amount = w("gate.points", {"points": w.number(100 * margin, 2)}) if unit == "share" else w.number(margin, 2)
        return w("gate.margin", {"other": other, "margin": amount})
    return w("gate.at_least" if gate["direction"] == ">=" else "gate.at_most", {"limit": w.value(gate["limit"], unit)})


def gate_reason(w: Words, gate: Json, unit: str) -> str:
    """Why a gate came out as it did, from its numbers."""
    bound = gate["bound"]
    if bound.get("status", "ok") != "ok":
        return w(f"why.{bound['status']}")
    return w(f"why.{gate['outcome']}")


# ── statement ───────────────────────────────────────────────────────────────────────────────────────────────────────
def phrases(w: Words, audit: Json, kind: str) -> Markup:
    """Kept, lost or unknown, as a list of phrases.

    English shows the audit's own phrases. Other languages name the gates' metrics, and mark what only exists in English.
    """
    own = list((audit.get("statement") or {}).get(kind) or ())
    if w.language == "en" or not own:
        return Markup(w("number.separator")).join(Markup("{}").format(clean(p)) for p in own) or Markup("{}").format(
            w("statement.nothing")
        )
    outcome = {"kept": "pass", "lost": "fail", "unknown": "review"}[kind]
    known = list(dict.fromkeys(_gate_name(w, g, audit) for g in audit["gates"] if g["outcome"] == outcome))
    parts = [Markup("{}").format(p) for p in known]
    original = Markup('<span class="original">{}<q lang="en">{}</q></span>').format(
        w("page.original_inline"), clean("; ".join(own))
    )
    return Markup("{} {}").format(Markup(w("number.separator")).join(parts), original)


def _gate_name(w: Words, gate: Json, audit: Json) -> str:
    metric = _metric_of(gate, audit)
    return _label(w, metric, audit) if metric else w.metric(gate["metric"])


# ── slices and rows ─────────────────────────────────────────────────────────────────────────────────────────────────
def slices(w: Words, audit: Json) -> list[dict[str, Any]]:
    """Every slice beside the rest of the rows; flagged ones first."""
    units = {m["name"]: m["unit"] for m in audit["metrics"]}
    rows = []
    for s in sorted(audit["slices"], key=lambda s: (not s.get("flagged"), s["outcome"] != "assessed")):
        unit = units.get(s["metric"], "share")
        label = Markup("{} <small>{}</small>").format(name(f"{s['column']} = {s['level']}"), w.metric(s["metric"]))
        plot = ""
        if s["outcome"] == "assessed" and usable(s["estimate"]):
            refs = [_reference("other", w("slices.rest"), s["rest"])] if usable(s.get("rest")) else []
            plot = interval_plot(
                w, s["estimate"], unit=unit, title=f"{s['column']} = {s['level']}", references=refs, width=260
            )
        word = "flagged" if s.get("flagged") else s["outcome"]
        rows.append({"label": label, "n": s["n"], "unit": unit, "estimate": s["estimate"], "rest": s.get("rest"), "p_value": s.get("p_value"),
                     "flagged": bool(s.get("flagged")), "plot": plot, "outcome": Markup('<span class="so {}">{}</span>').format(word, w(f"slice.{word}"))})  # fmt: skip
    return rows


def importance_figure(w: Words, audit: Json) -> Markup:
    """The most important features of either model, by the larger of the two."""
    r = audit["reasons"]
    t, s = r["importance"]["teacher"], r["importance"]["student"]
    order = sorted(range(len(r["units"])), key=lambda i: -max(t[i], s[i]))[:MOST_UNITS]
    return drawn.importance(
        w, [r["units"][i] for i in order], {"teacher": [t[i] for i in order], "student": [s[i] for i in order]}
    )


def row_views(w: Words, audit: Json) -> list[dict[str, Any]]:
    """The stored rows, drawn; flags say what can be filtered."""
    views = []
    for row in audit["reasons"].get("worst_rows", ())[:MOST_ROWS]:
        label = row.get("label")
        teacher, student = _decision(w, row["teacher_decision"]), _decision(w, row["student_decision"])
        views.append({
            "id": row["row_id"], "distance": row["distance"], "teacher": name(teacher), "student": name(student),
            "label": None if label is None else name(_decision(w, label)), "flags": _flags(row, classification=audit["task"] != "regression"),
            "figure": drawn.row_reasons(w, row["items"], title=w("explorer.row", {"id": row["row_id"]})),
        })  # fmt: skip
    return views


def _decision(w: Words, decided: Any) -> str:
    return w.number(decided) if isinstance(decided, float) else clean(decided)


def _flags(row: Json, *, classification: bool) -> list[str]:
    if not classification:
        return []
    teacher, student, label = (
        None if row.get(k) is None else str(row[k]) for k in ("teacher_decision", "student_decision", "label")
    )
    flags = ["same_decision" if teacher == student else "differ"]
    if label is not None:
        right = (teacher == label) + (student == label)
        flags.append(("both_wrong", "one_right", "both_right")[right])
    return flags
