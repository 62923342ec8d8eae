"""A student as people read it: its size, and its tree, coefficients, points, rules or shape functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from distillens.report import reasons as drawn
from distillens.report.monotone import direction, monotone
from distillens.report.points import scorecard
from distillens.report.rules import rule_list
from distillens.report.sections import described
from distillens.report.shapes import shapes
from distillens.report.soft_tree import soft_tree
from distillens.report.svg import clean
from distillens.report.tables import Facts, kind
from distillens.report.tree import tree_drawing
from distillens.report.views import anchor
from distillens.report.words import Words, name

Json = Mapping[str, Any]

MOST_COEFFICIENTS = 40
MOST_CONDITIONS = 6  # of a region in words; longer ones say nothing to people


def complexity_facts(w: Words, student: Json) -> Facts:
    sizes = student["complexity"]
    rows: Facts = [(w("readability.kind"), kind(w, student["kind"]))]
    for key, value in sizes.items():
        if value is not None:
            label = w(f"complexity.{key}") if w.has(f"complexity.{key}") else clean(key.replace("_", " "))
            rows.append((label, w.bytes(value) if key == "size_bytes" else w.number(value)))
    return rows


def students(w: Words, p: Json) -> list[dict[str, Any]]:
    """Every student of the run for reading, the chosen one first: facts, what can be read, and the directions it was held against."""
    chosen = p["chosen"]["id"] if p["chosen"] else None
    classes = (p["data"] or {}).get("classes") or []
    views = []
    for sid in sorted(p["students"], key=lambda s: (s != chosen, s)):
        student, audit = p["students"][sid], p["audits"].get(sid) or {}
        adverse = (audit.get("decision") or {}).get("adverse")
        views.append({
            "id": sid, "anchor": anchor(sid), "chosen": sid == chosen, "student": student, "facts": complexity_facts(w, student),
            "title": w.html("readability.student", {"id": name(sid), "kind": kind(w, student["kind"])}),
            "readable": readable(w, student, adverse, audit.get("parts"), audit.get("attributes")), "parts": bool(audit.get("parts")),
            "certificate": certificate(w, audit.get("certificate")),
            "monotone": monotone(w, audit.get("monotone") or (), classes, adverse),
            "directions": _directions(w, student, classes, adverse), "points_file": f"students/{quote(sid)}/points.csv",
        })  # fmt: skip
    return views


def _directions(w: Words, student: Json, classes: Sequence[str], adverse: str | None) -> dict[str, Markup]:
    """feature → the direction that the student was held to while it was made, told for the adverse class."""
    turn = -1 if len(classes) == 2 and adverse == classes[0] else 1
    held = student.get("monotone") or {}
    return {feature: direction(w, turn * sign, adverse) for feature, sign in held.items() if sign}


def certificate(w: Words, c: Json | None) -> dict[str, Any] | None:
    """For which rows both models decide alike everywhere around them, in words; None where nothing was certified."""
    if not c or c["kind"] == "not_available":
        return None
    cells = c.get("cells") or {}
    shown = {key: w.percent(c[key]) for key in ("agree", "disagree", "undecided")}
    shown |= {f"cells_{key}": w.percent(cells.get(key)) for key in ("agree", "disagree", "undecided")}
    count = cells.get("count")
    shown |= {
        "n": w.number(c.get("n")),
        "used": w.number(c.get("used")),
        "count": w.number(int(count) if count and count < 1e6 else count),
    }
    where = [
        (Markup(" <b>{}</b> ").format(w("rules.and")).join(name(x) for x in d["where"]), w.number(d["rows"]))
        for d in c.get("disagreements") or ()
        if len(d["where"]) <= MOST_CONDITIONS
    ]
    return {"text": w(f"certificate.{c['kind']}.{c['about']}", shown), "where": where}


# ── what people read ────────────────────────────────────────────────────────────────────────────────────────────────
def readable(
    w: Words,
    student: Json | None,
    adverse: str | None = None,
    parts: Sequence[Json] | None = None,
    attributes: Sequence[Json] | None = None,
) -> dict[str, Any] | None:
    """A tree as a drawing and nested rules, coefficients as bars, shape functions as small figures; None when there is nothing to read.

    adverse: the class that the reasons explain; a sum for the other of two classes is shown with its signs turned.
    parts, attributes: what each leaf or rule, and each line of a points table, is worth on the audited rows, from the audit.
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
        return head | {
            "rules": _rules(w, d["root"], d, outputs),
            "drawing": tree_drawing(w, d, outputs, adverse=adverse, parts=parts),
            "shown_class": name(adverse if adverse in outputs else first),
        }
    if d["form"] == "linear":
        rows = sorted(d["coefficients"], key=lambda c: -max(abs(v) for v in c["coefficients"]))
        reach = max([abs(v) for c in rows for v in c["coefficients"]] + [1e-12])
        shown = [
            {"name": name(c["name"]), "coefficients": c["coefficients"], "per_unit": c["per_unit"]}
            for c in rows[:MOST_COEFFICIENTS]
        ]
        return head | {"rows": shown, "total": len(rows), "intercepts": d["intercepts"], "reach": reach}
    if d["form"] == "scorecard":
        return head | scorecard(w, d, attributes)
    if d["form"] == "soft_tree":
        return head | soft_tree(w, d, lambda root: _rules(w, root, d, outputs))
    if d["form"] == "rules":
        return head | rule_list(w, d, lambda value: _leaf(w, value, d["scale"], outputs), parts)
    return head | shapes(w, d)


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
