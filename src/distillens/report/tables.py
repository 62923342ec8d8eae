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
from distillens.report.sections import chosen_audit, described
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


def _chosen_with_scores(w: Words, p: Json) -> Markup:
    """The same with what every student scored on validation."""
    scores = (p["chosen"] or {}).get("scores") or {}
    if not scores:
        return Markup("{}").format(chosen_by(w, p))
    each = Markup(w("number.separator")).join(
        Markup("{} {}").format(name(s), w.number(float(v))) for s, v in scores.items()
    )
    return w.html("chosen.scores", {"by": chosen_by(w, p), "scores": each})


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


# ── facts ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def provenance(w: Words, p: Json) -> list[tuple[str, Facts]]:
    """What was distilled from what."""
    out = []
    teacher, targets, data, manifest = p["teacher"], p["targets"], p["data"], p["manifest"]
    student = p["students"].get(p["chosen"]["id"]) if p["chosen"] else None
    models: Facts = []
    if teacher:
        models += [(w("role.teacher"), _model(w, teacher))]
    if student:
        models += [(w("role.student"), _model(w, student)), (w("provenance.chosen"), _chosen_with_scores(w, p))]
        models += [(w("provenance.influence"), _influence(w, student, data))]
    if targets:
        models += [(w("provenance.targets"), _targets(w, targets, student))]
    if models:
        out.append((w("provenance.models"), models))
    if data:
        out.append((w("provenance.data"), _data_facts(w, data, p)))
    out.append((w("provenance.run"), [
        (w("provenance.seed"), w.number(manifest["seed"])),
        (w("provenance.recipe"), code(manifest.get("recipe_sha256"))),
        (w("provenance.versions"), f"distillens {manifest['distillens']}, Python {manifest.get('python', '—')}"),
    ]))  # fmt: skip
    return out


def _model(w: Words, record: Json) -> Markup:
    family = kind(w, record["kind"])
    if str(record["label"]).replace(" ", "_") == record["kind"]:  # the label says nothing more
        return Markup("{} {}").format(family, code(record.get("fingerprint")))
    return Markup("{} <span class='muted'>({})</span> {}").format(
        name(record["label"]), family, code(record.get("fingerprint"))
    )


def _influence(w: Words, student: Json, data: Json | None) -> str:
    found = student.get("influence") or {}
    if found.get("permuted_agreement") is None or found.get("agreement") is None:
        return ""
    regression = (data or {}).get("task") == "regression"
    shown = w.number if regression else w.percent
    return w(
        "provenance.influence_value" if regression else "provenance.influence_text",
        {
            "agreement": shown(float(found["agreement"])),
            "permuted": shown(float(found["permuted_agreement"])),
            "n": w.number(((data or {}).get("rows") or {}).get("validation")),
        },
    )


def _targets(w: Words, targets: Json, student: Json | None) -> Markup:
    own = (student or {}).get("targets") or {}
    origin = w(f"origin.{targets['origin']}") if w.has(f"origin.{targets['origin']}") else clean(targets["origin"])
    text = w(
        "provenance.targets_text",
        {"origin": origin, "rows": w.number(targets["rows"]), "queries": w.number(own.get("queries", 0))},
    )
    saturated = targets.get("saturated")
    return Markup("{}{}").format(text, Markup(" {}").format(w.html("provenance.saturated")) if saturated else "")


def _data_facts(w: Words, data: Json, p: Json) -> Facts:
    rows = data["rows"]
    roles = {
        role: [c for c, r in (data.get("roles") or {}).items() if r == role]
        for role in ("audit_only", "weight", "group", "time", "id", "ignore")
    }
    facts: Facts = [
        (w("provenance.source"), name(data.get("source") or data.get("name") or "")),
        (w("provenance.licence"), name(data["licence"]) if data.get("licence") else ""),
        (w("provenance.citation"), name(data["citation"]) if data.get("citation") else ""),
        (w("provenance.task"), w(f"task.{data['task']}")),
        (w("provenance.target"), name(data["target"])),
        (
            w("provenance.rows"),
            w("provenance.rows_text", {part: w.number(rows.get(part)) for part in ("train", "validation", "test")}),
        ),
        (w("provenance.features"), w.number(len(data["columns"]))),
        (w("provenance.overlap"), _overlap(w, data, p)),
        (w("provenance.hash"), code(data.get("fingerprint"))),
    ]
    counts = (data.get("class_counts") or {}).get("test")
    if counts:
        facts.insert(
            5,
            (
                w("provenance.classes"),
                Markup(w("number.separator")).join(
                    Markup("{} {}").format(name(c), w.number(n)) for c, n in counts.items()
                ),
            ),
        )
    facts += [
        (w(f"role_of.{role}"), Markup(w("number.separator")).join(name(c) for c in columns))
        for role, columns in roles.items()
        if columns
    ]
    return facts


def _overlap(w: Words, data: Json, p: Json) -> str:
    """How many audited rows were used in training, as the audit counted them; nothing is claimed without an audit."""
    audit = chosen_audit(p)
    known = (audit or {}).get("overlap") or {}
    if audit is None or not known.get("known"):
        return w("provenance.overlap_unknown")
    rows, given = int(known["rows"]), (p["teacher"] or {}).get("kind") == "given"
    key = "overlap_found" if rows else "overlap_student" if given else "overlap_none"
    text = w(f"provenance.{key}", {"rows": w.number(rows), "n": w.number(audit["n"])})
    duplicated = any(str(f.get("kind", "")).startswith("duplicate") for f in data.get("findings") or ())
    return text + (w("provenance.overlap_some") if duplicated else "")


def data_finding(w: Words, finding: Json) -> Markup:
    """A finding about the data in this language, from its kind and column; kinds we have no words for in the original wording."""
    key = f"finding.{finding.get('kind')}"
    column = Markup("{}: ").format(name(finding["column"])) if finding.get("column") else Markup("")
    known = column + w(key) if w.has(key) else Markup("")
    return Markup('{} <span class="original">{}<q lang="en">{}</q></span>').format(
        known, w("page.original_inline"), clean(finding["text"])
    )


def use_facts(w: Words, p: Json) -> Facts:
    decision = (p["data"] or {}).get("decision")
    if not decision:
        return [(w("use.decision"), w("use.no_decision"))]
    multiclass = len((p["data"] or {}).get("classes", ())) > 2
    if multiclass:  # no class is adverse there: each row's own top class is decided and explained
        return [(w("use.threshold"), w("use.top_class"))]
    return [
        (w("use.adverse"), name(decision["adverse"])),
        (w("use.threshold"), w("use.threshold_text", {"threshold": w.exact(decision["threshold"])})),
    ]


def footprint(w: Words, p: Json) -> dict[str, Any] | None:
    """The exported file: what it is, whether it does the same, how fast it is."""
    sid = p["chosen"]["id"] if p["chosen"] else None
    export = p["export"].get(sid) if sid else None
    if not export:
        return None
    measured, parity = p["measured"]["export"].get(sid) or {}, export.get("parity") or {}
    latency = measured.get("p50_ms")
    sentence = w.html(
        "footprint.lead" if latency is None else "footprint.lead_latency",
        {"format": clean(export["format"]).upper(), "bytes": w.bytes(export["bytes"]), "p50": w.number(latency)},
    )
    file: Facts = [(w("footprint.file"), name(export["file"])), (w("footprint.size"), w.bytes(export["bytes"])),
                   (w("footprint.opset"), w.number(export.get("opset"))),
                   (w("provenance.hash"), code(export.get("sha256")))]  # fmt: skip
    tables = [(w("footprint.file_title"), file)]
    if parity:
        tables.append((w("footprint.parity"), [
            (w("footprint.rows"), w.number(parity.get("rows"))), (w("footprint.difference"), w.number(parity.get("max_abs_difference"), 2)),
            *([] if (p["data"] or {}).get("task") == "regression" else [  # a value decides nothing that could flip
                (w("footprint.flips"), w.number(parity.get("flips"))), (w("footprint.beyond"), w.number(parity.get("flips_beyond_tolerance"))),
                (w("footprint.tolerance"), w.number(parity.get("tolerance"), 1)),
            ]),
        ]))  # fmt: skip
    audited = export.get("audit")
    if audited:
        fidelity = find(audited, FIDELITY)
        rows: Facts = [(w("footprint.verdict"), w(f"verdict.{audited['verdict']}"))]
        if fidelity:
            rows.append((w.metric(fidelity["name"]), w.estimate(fidelity["estimate"], fidelity["unit"])))
        tables.append((w("footprint.audited"), rows))
    if measured:
        labels = {"p50_ms": "footprint.p50", "p99_ms": "footprint.p99", "batch_rows_per_s": "footprint.batch"}
        tables.append(
            (
                w("footprint.speed"),
                [
                    (w(key), w.number(measured[field]))
                    for field, key in labels.items()
                    if measured.get(field) is not None
                ],
            )
        )
    return {"sentence": sentence, "tables": tables, "inputs": export.get("inputs") or []}
