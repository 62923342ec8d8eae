"""What the sections about the audit show: metrics with their references, slices, reasons, rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distillens.report import reasons as drawn
from distillens.report.figures import Reference, finite, interval_plot
from distillens.report.headline import usable
from distillens.report.maps import overall_maps, row_maps
from distillens.report.svg import clean
from distillens.report.words import Words, name

Json = Mapping[str, Any]

MOST_ROWS, MOST_UNITS = 40, 20
CONTROL_MARKS = {"twin": "twin", "undistilled": "undistilled"}
ROW_FLAGS = ("both_right", "both_wrong", "one_right", "differ", "same_decision", "at_random")


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


def label_of(w: Words, metric: Json, audit: Json) -> str:
    k = audit["reasons"]["k"] if audit.get("reasons") else None
    text = w.metric(metric["name"], k)
    several = len({m["explainer"] for m in audit["metrics"] if m.get("explainer")}) > 1
    if not (metric.get("explainer") and several):
        return text
    return w("table.by", {"metric": text, "explainer": explainer_name(w, metric["explainer"])})


def explainer_name(w: Words, explainer: str) -> str:
    """A method of explaining in words; one that is not ours keeps its own name."""
    return w(f"term.{explainer}") if w.has(f"term.{explainer}") else clean(explainer)


_TOLERANCE = re.compile(r"\(tolerance ([\d.]+(?:e[-+]?\d+)?)\)")


def metrics(w: Words, audit: Json, scopes: Sequence[str]) -> list[dict[str, Any]]:
    """Metrics of these scopes that apply, each with its plot."""
    rows = []
    for metric in audit.get("metrics", ()):
        if metric["scope"] not in scopes or metric["estimate"].get("status") == "not_applicable":
            continue
        label = label_of(w, metric, audit)
        plot = (
            interval_plot(w, metric["estimate"], unit=metric["unit"], title=label, references=references(w, metric))
            if usable(metric["estimate"])
            else ""
        )
        about = w.about(metric["name"], (audit.get("reasons") or {}).get("k"))
        if tolerance := _TOLERANCE.search(metric.get("text") or ""):
            about = f"{about} {w('metric.tolerance', {'tolerance': w.exact(float(tolerance[1]))})}"
        rows.append({
            "label": label, "about": about, "optimised": metric.get("optimised", False), "estimate": metric["estimate"],
            "unit": metric["unit"], "plot": plot, "normalised": metric.get("normalised"), "anchor": anchor(metric["name"], metric.get("explainer")),
        })  # fmt: skip
    return rows


# ── slices and rows ─────────────────────────────────────────────────────────────────────────────────────────────────
def slices(w: Words, audit: Json) -> list[dict[str, Any]]:
    """Every slice beside the rest of the rows; flagged ones first."""
    units = {m["name"]: m["unit"] for m in audit["metrics"]}
    rows = []
    assessed = [
        e for s in audit["slices"] if s["outcome"] == "assessed" for e in (s["estimate"], s.get("rest")) if usable(e)
    ]
    span = [v for e in assessed for v in (finite(e.get(end)) for end in ("value", "low", "high")) if v is not None]
    if len({s["metric"] for s in audit["slices"]}) > 1:
        span = []  # different measures have different axes
    for s in sorted(audit["slices"], key=lambda s: (not s.get("flagged"), s["outcome"] != "assessed")):
        unit = units.get(s["metric"], "share")
        label = Markup("{} <small>{}</small>").format(slice_name(w, s), w.metric(s["metric"]))
        plot = ""
        if s["outcome"] == "assessed" and usable(s["estimate"]):
            refs = [_reference("rest", w("slices.rest"), s["rest"])] if usable(s.get("rest")) else []
            plot = interval_plot(
                w,
                s["estimate"],
                unit=unit,
                title=f"{s['column']} = {s['level']}",
                references=refs,
                width=260,
                span=span,
            )
        word = "flagged" if s.get("flagged") else s["outcome"]
        outcome = Markup('<span class="so {}">{}</span>').format(word, w(f"slice.{word}"))
        rows.append({
            "label": label, "n": s["n"], "unit": unit, "estimate": s["estimate"], "rest": s.get("rest"), "p_value": s.get("p_value"),
            "flagged": bool(s.get("flagged")), "plot": plot, "outcome": outcome,
        })  # fmt: skip
    return rows


_LEVELS = (
    (re.compile(r"\(missing\)"), "level.missing"),
    (re.compile(r"\((?P<count>\d+) rarer levels\)"), "level.rarer"),
    (re.compile(r"up to (?P<high>[-+.\de]+)"), "level.up_to"),
    (re.compile(r"above (?P<low>[-+.\de]+), up to (?P<high>[-+.\de]+)"), "level.between"),
    (re.compile(r"above (?P<low>[-+.\de]+)"), "level.above"),
    (re.compile(r"teacher's probability within (?P<band>[.\d]+) of (?P<threshold>[.\d]+)"), "level.near"),
)


def slice_name(w: Words, s: Json) -> Markup:
    """`column = level`; what the audit names itself (the decision, the boundary, ranges) in this language."""
    kind, level = s.get("kind", "column"), str(s["level"])
    column = w(f"slice_kind.{kind}") if kind in {"decision", "boundary"} else str(s["column"])
    for pattern, key in _LEVELS:
        if match := pattern.fullmatch(level):
            level = w(key, match.groupdict())
            break
    return Markup("{}{}{}").format(name(column), w("slices.is"), name(level))


def cell_text(w: Words, value: Any) -> str:
    """A row's own value; missing and unseen values in words."""
    text = clean(value)
    return w(f"cell.{text[1:-1]}") if text in {"(missing)", "(unseen)"} else text


def importance_figure(w: Words, audit: Json) -> Markup:
    """The most important features of either model, by the larger of the two; of images maps over the patches."""
    r = audit["reasons"]
    if r.get("grid"):
        return overall_maps(w, r)
    t, s = r["importance"]["teacher"], r["importance"]["student"]
    order = sorted(range(len(r["units"])), key=lambda i: -max(t[i], s[i]))[:MOST_UNITS]
    return drawn.importance(
        w, [r["units"][i] for i in order], {"teacher": [t[i] for i in order], "student": [s[i] for i in order]}
    )


def row_views(w: Words, audit: Json) -> list[dict[str, Any]]:
    """The stored rows, drawn, those that were drawn at random last; flags say what can be filtered."""
    views = []
    r = audit["reasons"]
    for row in (*r.get("worst_rows", ())[:MOST_ROWS], *r.get("random_rows", ())):
        title = w("explorer.row", {"id": row["row_id"]})
        flags = _flags(row, classification=audit["task"] != "regression")
        if row in (r.get("random_rows") or ()):
            flags.append("at_random")
        label = row.get("label")
        teacher, student = _decision(w, row["teacher_decision"]), _decision(w, row["student_decision"])
        views.append({
            "id": row["row_id"], "distance": row["distance"], "teacher": name(teacher), "student": name(student),
            "label": None if label is None else name(_decision(w, label)), "flags": flags,
            "figure": row_maps(w, r, row, title=title) if r.get("grid") else
                      drawn.row_reasons(w, [{**i, "value": cell_text(w, i["value"])} for i in row["items"]], title=title),
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
