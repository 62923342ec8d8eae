"""Gates, the statement and what was not assessed, as the page words them from the audit's records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from distillens.report.figures import Reference, finite, interval_plot
from distillens.report.headline import usable
from distillens.report.svg import clean
from distillens.report.views import anchor, control_name, explainer_name, label_of, references, slice_name
from distillens.report.words import Words, name

Json = Mapping[str, Any]


# ── gates ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def gates(w: Words, audit: Json) -> list[dict[str, Any]]:
    """Each gate on one axis with its limit and its references."""
    return [_gate(w, gate, audit) for gate in audit["gates"]]


def _gate(w: Words, gate: Json, audit: Json) -> dict[str, Any]:
    metric = _metric_of(gate, audit)
    unit = metric["unit"] if metric else "value"
    label = label_of(w, metric, audit) if metric else w.metric(gate["metric"])
    own = metric["estimate"] if metric and usable(metric["estimate"]) else None
    refs = references(w, metric) if metric else []
    bound, limit, placed = on_metric_axis(gate, metric)
    if gate.get("relative_to") and not placed:
        refs = [Reference("other", control_name(w, gate["relative_to"]), 0.0)]
    if not usable(bound) and own is not None and not gate.get("relative_to"):
        bound = own
    plot = ""
    if usable(bound):
        plot = interval_plot(
            w, bound, unit=unit, title=label, references=refs, limit=limit, direction=gate["direction"], width=560
        )
    return {
        "anchor": anchor(gate["metric"], gate.get("explainer"), gate.get("relative_to")), "label": label,
        "relation": relation(w, gate, metric), "numbers": w.estimate(own or gate["bound"], unit), "plot": plot, "outcome": gate["outcome"],
        "why": gate_reason(w, gate, metric),
    }  # fmt: skip


def on_metric_axis(gate: Json, metric: Json | None) -> tuple[Json, float | None, bool]:
    """(interval, limit, True) of a gate on the axis of its metric; (…, False) when it can only be shown as a difference.

    A relative gate holds a difference to its reference (or a ratio minus one) against the margin. Placed at the
    reference's value, interval, limit and all the references share one axis.
    """
    bound, limit = gate["bound"], finite(gate.get("limit"))
    if not gate.get("relative_to"):
        return bound, limit, True
    reference = _relative_value(gate, metric)
    if reference is None or limit is None:
        return bound, limit, False
    factor = abs(reference) if gate.get("ratio") else 1.0
    moved = {
        end: reference + factor * bound[end] for end in ("value", "low", "high") if finite(bound.get(end)) is not None
    }
    return {**bound, **moved}, reference + factor * limit, True


def _metric_of(gate: Json, audit: Json) -> Json | None:
    same = [m for m in audit["metrics"] if m["name"] == gate["metric"]]
    exact = [m for m in same if m.get("explainer") == gate.get("explainer")]
    found: Json | None = next(iter(exact or same), None)
    return found


def _relative_value(gate: Json, metric: Json | None) -> float | None:
    if metric is None:
        return None
    source = (
        metric.get("teacher")
        if gate["relative_to"] == "teacher"
        else (metric.get("controls") or {}).get(gate["relative_to"])
    )
    return float(source["value"]) if source is not None and usable(source) else None


def relation(w: Words, gate: Json, metric: Json | None) -> str:
    """What the gate asks for, in words."""
    unit = metric["unit"] if metric else "value"
    if gate.get("relative_to"):
        other, margin = control_name(w, gate["relative_to"]), gate.get("margin")
        if not margin:
            return w("gate.not_worse", {"other": other})
        if gate.get("ratio"):
            amount = w.percent(margin, exact=True)
        elif unit == "share":
            amount = w("gate.points", {"points": w.exact(round(100 * margin, 6))})
        else:
            amount = w.exact(margin)
        return w("gate.margin", {"other": other, "margin": amount})
    limit = w.percent(gate["limit"], exact=True) if unit == "share" else w.exact(gate["limit"])
    return w("gate.at_least" if gate["direction"] == ">=" else "gate.at_most", {"limit": limit})


def gate_reason(w: Words, gate: Json, metric: Json | None = None) -> str:
    """Why a gate came out as it did, in this language, from its reason and numbers."""
    bound, limit, unit = gate["bound"], gate.get("limit"), metric["unit"] if metric else "value"
    reason = gate.get("reason") or "not_assessable"
    if reason == "not_assessable":
        status = bound.get("status", "not_available")
        return w(f"why.{'not_available' if status == 'ok' else status}")
    values = {
        "limit": _limit(w, limit, unit, gate), "confidence": w.percent(gate.get("confidence") or 0.0), "needed": w.number(gate.get("needed")),
        "units": w.number(bound.get("n_clusters") or bound.get("n")), "other": control_name(w, gate.get("relative_to") or ""),
        "end": "", "interval": "",
    }  # fmt: skip
    if usable(bound):
        upward = gate["direction"] == ">="
        favourable = "high" if upward else "low"
        end = bound["low" if upward else "high"] if reason == "clears" else bound[favourable]
        values |= {"end": _amount(w, end, unit, gate), "interval": _interval(w, bound, unit, gate)}
    relative = ".relative" if gate.get("relative_to") and w.has(f"why.{reason}.relative") else ""
    return w(f"why.{reason}{relative}", values)


def _amount(w: Words, value: Any, unit: str, gate: Json) -> str:
    """A number held against a limit: shares as percent, differences of shares as points, ratios as percent."""
    if gate.get("ratio"):
        return w.percent(value)
    if unit == "share" and gate.get("relative_to"):
        return (
            w("gate.points", {"points": w.number(100 * float(value))})
            if isinstance(value, (int, float))
            else w.number(value)
        )
    return w.value(value, unit)


def _limit(w: Words, value: Any, unit: str, gate: Json) -> str:
    if unit == "share" and gate.get("relative_to") and not gate.get("ratio"):
        return w("gate.points", {"points": w.exact(round(100 * float(value), 6))})
    return w.percent(value, exact=True) if unit == "share" or gate.get("ratio") else w.exact(value)


def _interval(w: Words, bound: Json, unit: str, gate: Json) -> str:
    return f"{_amount(w, bound['low'], unit, gate)} {w('number.to')} {_amount(w, bound['high'], unit, gate)}"


# ── statement ───────────────────────────────────────────────────────────────────────────────────────────────────────
def phrases(w: Words, audit: Json, kind: str) -> Markup:
    """Kept, lost or unknown, from the gates and slices."""
    parts = _structured_phrases(w, audit, kind)
    return Markup(w("number.separator")).join(parts) if parts else Markup("{}").format(w("statement.nothing"))


def _structured_phrases(w: Words, audit: Json, kind: str) -> list[Markup]:
    """Each gated metric once, at its worst outcome; then the slices that are worse or too small."""
    rank = ("pass", "review", "fail")
    worst: dict[str, str] = {}
    for gate in audit["gates"]:
        metric = _metric_of(gate, audit)
        label = label_of(w, metric, audit) if metric else w.metric(gate["metric"])
        worst[label] = max(worst.get(label, "pass"), gate["outcome"], key=rank.index)
    outcome = {"kept": "pass", "lost": "fail", "unknown": "review"}[kind]
    parts = [Markup("{}").format(label) for label, found in worst.items() if found == outcome]
    for s in audit["slices"]:
        if kind == "lost" and s.get("flagged") and s.get("kind", "column") == "column":
            parts.append(slice_name(w, s))
        if kind == "unknown" and s["outcome"] == "not_assessed":
            parts.append(w.html("slices.too_small", {"slice": slice_name(w, s), "n": w.number(s["n"])}))
    return parts


def not_assessed(w: Words, audit: Json) -> list[tuple[Markup, Markup]]:
    """(what, why) of everything the audit left out, in this language where the record says of what kind it is."""
    return [_left_out(w, x, audit) for x in audit.get("not_assessed", ())]


def _left_out(w: Words, x: Json, audit: Json) -> tuple[Markup, Markup]:
    kind, values = x.get("kind"), x.get("values") or {}
    if kind == "slice":
        what = slice_name(w, values)
        return what, Markup("{}").format(
            w("left_out.slice.why", {"n": w.number(values["n"]), "needed": w.number(values["needed"])})
        )
    if kind == "metric":
        what = Markup("{}").format(w.metric(values["metric"], (audit.get("reasons") or {}).get("k")))
        if values.get("explainer"):
            what = Markup("{}").format(
                w("table.by", {"metric": what, "explainer": explainer_name(w, values["explainer"])})
            )
        return what, Markup("{}").format(w(f"why.{values['status']}"))
    if kind == "control":
        return Markup("{}").format(w("left_out.control", {"control": control_name(w, values["control"])})), Markup(
            "{}"
        ).format(w("left_out.control.why"))
    if kind and w.has(f"left_out.{kind}"):
        shown = {"explainer": explainer_name(w, values.get("explainer", ""))}
        return Markup("{}").format(w(f"left_out.{kind}", shown)), Markup("{}").format(w(f"left_out.{kind}.why"))
    return name(x["what"]), original(w, str(x["why"]))


def original(w: Words, text: str) -> Markup:
    """A text of somebody else, in the language it was written in."""
    if w.language == "en":
        return Markup("{}").format(clean(text))
    return Markup('<span class="original">{}<q lang="en">{}</q></span>').format(w("page.original_inline"), clean(text))
