"""What the sections about models, data and files show: tables of facts and of numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from distillens.report import reasons as drawn
from distillens.report.figures import frontier, lanes_plot
from distillens.report.headline import FIDELITY, PERFORMANCE, REASONS, find, main_explainer, usable
from distillens.report.points import scorecard
from distillens.report.rules import rule_list
from distillens.report.sections import described
from distillens.report.soft_tree import soft_tree
from distillens.report.svg import clean
from distillens.report.views import control_name
from distillens.report.words import Words, name

Json = Mapping[str, Any]
Facts = list[tuple[str, Any]]

MOST_SHAPES, MOST_COEFFICIENTS, MOST_PAIRS = 24, 40, 20


def kind(w: Words, key: str) -> str:
    """A model family in words."""
    return w(f"kind.{key}") if w.has(f"kind.{key}") else clean(key)


def code(value: Any) -> Markup | str:
    """A hash, shortened; the whole of it on hovering and in the JSON twin."""
    return Markup('<code class="hash" title="{}">{}…</code>').format(clean(value), clean(value)[:16]) if value else ""


# ── models ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def models_table(w: Words, audit: Json, scope: str) -> dict[str, Any]:
    """Teacher, student and every control: one column a model, one row a metric, and the same as a figure."""
    found = [m for m in audit["metrics"] if m["scope"] == scope and m["estimate"].get("status") != "not_applicable"]
    controls = list(dict.fromkeys(c for m in found for c in (m.get("controls") or {})))
    columns = [
        ("teacher", w("role.teacher")),
        ("student", w("role.student")),
        *(("control", control_name(w, c)) for c in controls),
    ]
    rows = []
    for m in found:
        cells = [m.get("teacher"), m["estimate"], *((m.get("controls") or {}).get(c) for c in controls)]
        roles = ["teacher", "student", *("control" for _ in controls)]
        lanes = [
            (label, role, e)
            for (_, label), role, e in zip(columns, roles, cells, strict=True)
            if usable(e) and e is not None
        ]
        label = w.metric(m["name"])
        rows.append(
            {
                "label": label,
                "about": w.about(m["name"]),
                "unit": m["unit"],
                "cells": cells,
                "plot": lanes_plot(w, lanes, unit=m["unit"], title=label),
            }
        )
    return {"columns": columns, "rows": rows, "n": max((m["estimate"].get("n") or 0 for m in found), default=0)}


def students(w: Words, p: Json) -> dict[str, Any]:
    """The students of this run side by side, the chosen one first."""
    chosen = p["chosen"]["id"] if p["chosen"] else None
    rows, names, units = [], {}, {}
    for sid in sorted(p["students"], key=lambda s: (s != chosen, s)):
        student, audit = p["students"][sid], p["audits"].get(sid)
        picked = {
            "fidelity": find(audit, FIDELITY) if audit else None,
            "reasons": find(audit, REASONS, main_explainer(audit)) if audit else None,
            "performance": find(audit, PERFORMANCE) if audit else None,
        }
        for column, m in picked.items():
            if m is not None:
                names[column], units[column] = (
                    w.metric(m["name"], audit["reasons"]["k"] if audit and audit.get("reasons") else None),
                    m["unit"],
                )
        complexity = student["complexity"]
        rows.append({
            "name": name(sid), "id": sid, "kind": kind(w, student["kind"]), "chosen": sid == chosen, "verdict": student.get("verdict"),
            "parameters": complexity.get("parameters"), "bytes": complexity.get("size_bytes"), "readable": bool(student.get("readable")),
        } | {column: m["estimate"] if m else None for column, m in picked.items()})  # fmt: skip
    for column in ("fidelity", "reasons", "performance"):
        names.setdefault(column, w(f"frontier.{column}"))
        units.setdefault(column, "share")
    points = [
        {"label": r["id"], "size": r["parameters"], "estimate": r["fidelity"], "chosen": r["chosen"]}
        for r in rows
        if r["fidelity"]
    ]
    plot = (
        frontier(w, points, unit=units["fidelity"], x_title=w("frontier.parameters_axis"), y_title=names["fidelity"])
        if len(points) > 1
        else ""
    )
    return {"rows": rows, "units": units, "plot": plot} | names


def chosen_by(w: Words, p: Json) -> str:
    """Why the verdict goes to this student, in words."""
    by = p["chosen"]["by"] if p["chosen"] else None
    if by is None:
        return w("chosen.only")
    key = "chosen." + str(by).lower().replace(" ", "_")
    return w(key) if w.has(key) else clean(by)


def complexity_facts(w: Words, student: Json) -> Facts:
    sizes = student["complexity"]
    rows: Facts = [(w("readability.kind"), kind(w, student["kind"]))]
    for key, value in sizes.items():
        if value is not None:
            label = w(f"complexity.{key}") if w.has(f"complexity.{key}") else clean(key.replace("_", " "))
            rows.append((label, w.bytes(value) if key == "size_bytes" else w.number(value)))
    return rows


# ── what people read ────────────────────────────────────────────────────────────────────────────────────────────────
def readable(w: Words, student: Json | None, adverse: str | None = None) -> dict[str, Any] | None:
    """A tree as nested rules, coefficients as bars, shape functions as small figures; None when there is nothing to read.

    adverse: the class that the reasons explain; a sum for the other of two classes is shown with its signs turned.
    """
    d = described(student) if student else None
    if d is None:
        return None
    if (
        d["form"] in {"additive", "linear"}
        and d["scale"] != "value"
        and adverse is not None
        and len(d["outputs"]) == 1
        and d["outputs"][0] != adverse
    ):
        d = {"outputs": [adverse]} | {k: _negated(k, v) for k, v in d.items() if k != "outputs"}
    outputs = [clean(o) for o in d["outputs"]]
    first = outputs[-1] if d["form"] == "tree" and len(outputs) == 2 else outputs[0]
    head = {"form": d["form"], "scale": d["scale"], "outputs": [name(o) if o != "value" else w("answer.value") for o in outputs],
            "output": name(first) if first != "value" else w("answer.value")}  # fmt: skip
    if d["form"] == "tree":
        return head | {"rules": _rules(w, d["root"], d, outputs)}
    if d["form"] == "linear":
        rows = sorted(d["coefficients"], key=lambda c: -max(abs(v) for v in c["coefficients"]))
        reach = max([abs(v) for c in rows for v in c["coefficients"]] + [1e-12])
        shown = [
            {"name": name(c["name"]), "coefficients": c["coefficients"], "per_unit": c["per_unit"]}
            for c in rows[:MOST_COEFFICIENTS]
        ]
        return head | {"rows": shown, "total": len(rows), "intercepts": d["intercepts"], "reach": reach}
    if d["form"] == "scorecard":
        return head | scorecard(w, d)
    if d["form"] == "soft_tree":
        return head | soft_tree(w, d, lambda root: _rules(w, root, d, outputs))
    if d["form"] == "rules":
        return head | rule_list(w, d, lambda value: _leaf(w, value, d["scale"], outputs))
    return head | _shapes(w, d)


def _negated(key: str, value: Any) -> Any:
    """Scores, coefficients and intercepts with the other sign, however deep; everything else as it is."""
    if key in {"scores", "coefficients", "per_unit", "intercepts"}:
        if isinstance(value, list):
            return [_negated("" if isinstance(v, dict) else key, v) for v in value]
        return -value
    if isinstance(value, list):
        return [_negated("", v) for v in value]
    return {k: _negated(k, v) for k, v in value.items()} if isinstance(value, dict) else value


def _rules(w: Words, node: Json, tree: Json, outputs: list[str]) -> Markup:
    """Nested rules: a question with its two answers, down to what is decided."""
    if "condition" not in node:
        return Markup('<li class="leaf">{}</li>').format(_leaf(w, node["value"], tree["scale"], outputs))
    condition, missing = str(node["condition"]), ""
    if condition.endswith(" or missing"):
        condition, missing = condition.removesuffix(" or missing"), w("tree.or_missing")
    return Markup(
        '<li><details open><summary><span class="q">{}{}?</span></summary><ul><li class="answer"><b>{}</b><ul>{}</ul></li>'
        '<li class="answer"><b>{}</b><ul>{}</ul></li></ul></details></li>'
    ).format(
        name(condition),
        missing,
        w("answer.yes"),
        _rules(w, node["yes"], tree, outputs),
        w("answer.no"),
        _rules(w, node["no"], tree, outputs),
    )


def _leaf(w: Words, value: list[float], scale: str, outputs: list[str]) -> Markup:
    if len(value) == 1:
        return Markup('→ <b class="num">{}</b>').format(w.number(float(value[0])))
    best = max(range(len(value)), key=lambda i: value[i])
    probabilities = scale == "probability"
    number = w.percent(value[best]) if probabilities else drawn.signed(w, value[best], 3)
    share = (
        Markup('<span class="share" aria-hidden="true"><i style="width:{}%"></i></span>').format(
            round(100 * value[best])
        )
        if probabilities
        else ""
    )
    return Markup('→ <b>{}</b> <span class="num">{}</span>{}').format(name(outputs[best]), number, share)


def _shapes(w: Words, d: Json) -> dict[str, Any]:
    """Single-feature terms as figures (of the last output named), pairs as a table."""
    singles = [t for t in d["terms"] if len(t["features"]) == 1][:MOST_SHAPES]
    shapes = [_shape(t) for t in singles]
    reach = (min([0.0, *(v for s in shapes for v in s["y"])]), max([1e-9, *(v for s in shapes for v in s["y"])]))
    pairs = []
    for t in [t for t in d["terms"] if len(t["features"]) == 2][:MOST_PAIRS]:
        cells = [v for row in t["scores"] for v in _column(row)]
        joint = Markup(" × ").join(name(f["name"]) for f in t["features"])
        pairs.append(
            {
                "name": joint,
                "importance": t["importance"],
                "range": f"{drawn.signed(w, min(cells))} … {drawn.signed(w, max(cells))}",
            }
        )
    everything = sum(len(t["features"]) == 1 for t in d["terms"])
    return {"figures": [drawn.shape_function(w, s, reach) for s in shapes], "pairs": pairs, "singles": everything}


def _column(scores: Any) -> list[float]:
    """The scores of the first output, whether or not outputs have an axis of their own."""
    return [float(s[0]) if isinstance(s, list) else float(s) for s in scores]


def _shape(term: Json) -> Json:
    """One shape function without its bins for missing and unseen values, which have no place on the axis."""
    feature, y = term["features"][0], _column(term["scores"])
    inner = y[1:-1]
    cuts = [float(c) for c in feature.get("cuts") or ()]
    if feature["kind"] == "numeric" and cuts:
        low, high = feature.get("bounds") or (-math.inf, math.inf)
        edges = [min(float(low), cuts[0]), *cuts, max(float(high), cuts[-1])]
        return {"name": feature["name"], "kind": "numeric", "x": edges, "y": inner}
    return {"name": feature["name"], "kind": "categorical", "x": feature["bins"][1:-1], "y": inner}
