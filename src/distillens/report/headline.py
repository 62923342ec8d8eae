"""The first sentences: the decision, the reasons, and what they are to be compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distillens.report.words import LANGUAGES, Words

Json = Mapping[str, Any]

FIDELITY = ("agreement", "r2_to_teacher")
REASONS = ("top_k_overlap",)
PERFORMANCE = ("roc_auc", "accuracy", "r2")


def headline(audit: Json | None, *, images: bool = False) -> dict[str, Any]:
    """Numbers and sentences of the first screen; `sentences` has one list a language. images: the rows are pictures."""
    if audit is None:
        return {
            "fidelity": None,
            "reasons": None,
            "gates": None,
            "sentences": {lang: [Words(lang)("headline.no_audit")] for lang in LANGUAGES},
        }
    counts = Counter(gate["outcome"] for gate in audit["gates"])
    gates = {"total": len(audit["gates"])} | {outcome: counts[outcome] for outcome in ("pass", "review", "fail")}
    languages = {lang: Words(lang, images=images) for lang in LANGUAGES}
    plain = {lang: [w(key, values) for key, values in facts(audit, w)] for lang, w in languages.items()}
    return {
        "fidelity": find(audit, FIDELITY),
        "reasons": find(audit, REASONS, main_explainer(audit)),
        "gates": gates,
        "sentences": plain,
    }


def sentences(audit: Json | None, w: Words) -> list[Markup]:
    """The same sentences with the numbers set off and the terms explained."""
    if audit is None:
        return [w.html("headline.no_audit")]
    return [w.html(key, values) for key, values in facts(audit, w)]


def main_explainer(audit: Json) -> str | None:
    """The method whose explanations are drawn."""
    return audit["reasons"]["method"] if audit.get("reasons") else None


def find(audit: Json, names: Sequence[str], explainer: str | None = None) -> Json | None:
    """The first of these metrics that has a number; of this explainer where there are several."""
    for name in names:
        for metric in sorted(audit["metrics"], key=lambda m: explainer is not None and m.get("explainer") != explainer):
            if metric["name"].partition("@")[0] == name and usable(metric["estimate"]):
                found: Json = metric
                return found
    return None


def usable(estimate: Json | None) -> bool:
    return estimate is not None and estimate.get("status", "ok") == "ok" and estimate.get("value") is not None


def facts(audit: Json, w: Words) -> list[tuple[str, dict[str, str]]]:
    """(key, values) of every sentence that can be said."""
    out = []
    fidelity = find(audit, FIDELITY)
    if fidelity is not None:
        out.append(_fidelity(fidelity, w))
    reasons = find(audit, REASONS, main_explainer(audit))
    if reasons is not None:
        out.append(_reasons(reasons, audit, w))
    return out or [("headline.nothing", {})]


def _fidelity(metric: Json, w: Words) -> tuple[str, dict[str, str]]:
    kind = "value" if metric["name"] == "r2_to_teacher" else "decision"
    e, unit = metric["estimate"], metric["unit"]
    values = {
        "value": w.value(e["value"], unit),
        "interval": w.span(e["low"], e["high"], unit),
        "n": w.number(int(e["n"])),
    }
    controls = metric.get("controls") or {}
    for name in ("twin", "undistilled", "constant"):
        if usable(controls.get(name)):
            return f"headline.{kind}.{name}", values | {"other": w.value(controls[name]["value"], unit)}
    return f"headline.{kind}", values


def _reasons(metric: Json, audit: Json, w: Words) -> tuple[str, dict[str, str]]:
    e, chance = metric["estimate"], metric.get("chance")
    k = int(audit["reasons"]["k"]) if audit.get("reasons") else 4
    scale = k if metric["unit"] == "share" else 1

    def of(value: float) -> str:
        return w.number(float(value) * scale, 2)

    low, high = (e[end] * scale if isinstance(e.get(end), (int, float)) else e.get(end) for end in ("low", "high"))

    def of_end(end: Any) -> str:
        return w.number(end, 2)

    values = {
        "value": of(e["value"]),
        "k": w.number(k),
        "interval": f"{of_end(low)}–{of_end(high)}",
        "n": w.number(int(e["n"])),
    }
    again = [r["value"] for r in (metric.get("repeatability") or {}).values() if usable(r)]
    if usable(chance) and again:
        assert chance is not None
        return "headline.reasons.full", values | {"chance": of(chance["value"]), "repeat": of(min(again))}
    if usable(chance):
        assert chance is not None
        return "headline.reasons.chance", values | {"chance": of(chance["value"])}
    return "headline.reasons", values
