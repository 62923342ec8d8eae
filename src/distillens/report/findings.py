"""Findings about the audit and the data, worded in the language of the page from their kind and values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from distillens.report.gates import original
from distillens.report.monotone import direction
from distillens.report.views import explainer_name, slice_name
from distillens.report.words import Words, name

Json = Mapping[str, Any]


def audit_finding(w: Words, finding: Json, audit: Json) -> Markup:
    """A finding of the audit; one of a kind that has no words here (another version's, somebody's own) in its own wording."""
    kind, values = finding.get("kind") or "", finding.get("values") or {}
    key = f"found.{kind}"
    if not kind or not w.has(key):
        return original(w, finding["text"])
    shown = _values(w, kind, values, audit)
    if kind in {"slice", "boundary"} and not values.get("rest"):
        key = "found.slice_alone"
    return w.html(key, shown)


def _values(w: Words, kind: str, v: Json, audit: Json) -> dict[str, Any]:
    k = (audit.get("reasons") or {}).get("k")
    if kind in {"slice", "boundary"}:
        unit = "share"
        return {
            "slice": slice_name(w, v), "metric": w.metric(v["metric"], k), "inside": w.estimate(v["estimate"], unit),
            "rest": w.estimate(v["rest"], unit) if v.get("rest") else "", "p": w.number(v.get("p_value"), 2),
        }  # fmt: skip
    if kind.startswith("alone"):
        unit, gap = v["unit"], v["gap"]
        return {
            "metric": w.metric(v["metric"], k), "alone": w.estimate(v["alone"], unit), "own": w.estimate(v["own"], unit),
            "gap": w.number(gap["value"], 2), "low": w.number(gap["low"], 2), "high": w.number(gap["high"], 2),
            "level": w.percent(v["level"], exact=True), "margin": w.exact(v["margin"]),
            "what": w("found.what_readable" if v.get("readable") else "found.what_same"),
        }  # fmt: skip
    if kind.startswith("flips"):
        return {"bad": w.estimate(v["bad"], "share"), "good": w.estimate(v["good"], "share")}
    if kind.startswith("miscalibrated"):
        return {"metric": w.metric(v["metric"]), "value": w.estimate(v["estimate"]), "ideal": w.exact(v["ideal"])}
    if kind.startswith("reasons"):
        other = v.get("chance", v.get("repeat"))
        return {
            "explainer": explainer_name(w, v["explainer"]),
            "own": w.estimate(v["own"], "share"),
            "other": w.percent(other),
        }
    if kind == "twin":
        return {"share": w.estimate(v["share"], "share")}
    if kind == "direction":
        decision = audit.get("decision") or {}
        turn = -1 if decision.get("adverse_index") == 0 else 1
        return {
            "feature": name(v["feature"]), "broken": w.estimate(v["broken"], "share"),
            "direction": direction(w, turn * v["sign"], decision.get("adverse")),
        }  # fmt: skip
    if kind.startswith("background"):
        shares = {role: w.estimate(v[role], "share") for role in ("teacher", "student")}
        return {"explainer": explainer_name(w, v["explainer"]), "rows": w.number(v["background_rows"])} | shares
    if kind == "population":
        return {"feature": name(v["feature"]), "psi": w.estimate(v["psi"])}
    return {key: w.number(value) if isinstance(value, (int, float)) else value for key, value in v.items()}


def data_finding(w: Words, finding: Json) -> Markup:
    """A finding about the data from its kind, column and values; kinds we have no words for in the original wording."""
    kind, values = finding.get("kind"), finding.get("values") or {}
    key = f"found_in_data.{kind}"
    if not w.has(key):
        return original(w, finding["text"])
    shown: dict[str, Any] = {"column": name(finding.get("column") or "")}
    for place, value in values.items():
        shown[place] = (
            w.number(value)
            if isinstance(value, (int, float))
            else w(f"part.{value}")
            if place == "part"
            else name(value)
        )
    try:
        return w.html(key, shown)
    except RuntimeError:  # written by a version that kept no values
        return original(w, finding["text"])
