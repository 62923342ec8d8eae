"""Models side by side: performance with controls, the students of a run, and why one of them was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from distillens.report.figures import frontier, lanes_plot
from distillens.report.headline import FIDELITY, PERFORMANCE, REASONS, find, main_explainer, usable
from distillens.report.svg import clean
from distillens.report.views import control_name
from distillens.report.words import Words, name

Json = Mapping[str, Any]
Facts = list[tuple[str, Any]]


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
