"""Facts of a run as label and value: what was distilled from what, its use, the exported file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from distillens.report.headline import FIDELITY, find
from distillens.report.sections import chosen_audit
from distillens.report.svg import clean
from distillens.report.tables import Facts, chosen_by, code, kind
from distillens.report.words import Words, name

Json = Mapping[str, Any]


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
        *_contents(w, data),
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


def _contents(w: Words, data: Json) -> Facts:
    """What a row is: so many features, or an image of some size."""
    images = data.get("images")
    if not images:
        return [(w("provenance.features"), w.number(len(data["columns"])))]
    key = "provenance.images_grey" if images["channels"] == 1 else "provenance.images_colour"
    sides = {"height": w.number(images["height"]), "width": w.number(images["width"])}
    return [(w("provenance.images"), w(key, sides))]


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


_IMAGE_INPUT = re.compile(r"image (\d+×\d+×\d+)")


def input_content(w: Words, feature: str) -> Markup | str:
    """What an input of the exported file holds: a feature's name, or an image of some size in words."""
    shape = _IMAGE_INPUT.fullmatch(feature) if w.images else None
    return w("footprint.image_input", {"shape": shape[1]}) if shape else name(feature)


def sizes(w: Words, p: Json) -> Facts:
    """Teacher beside student: parameters and bytes, and how many times fewer; empty where one of the two is not known."""
    student = p["students"].get(p["chosen"]["id"]) if p["chosen"] else None
    own, theirs = (student or {}).get("complexity") or {}, (p["teacher"] or {}).get("complexity") or {}
    rows: Facts = []
    for key, shown, less, more in (
        ("parameters", w.number, "fewer", "more"),
        ("size_bytes", w.bytes, "smaller", "larger"),
    ):
        before, after = theirs.get(key), own.get(key)
        if not before or not after:
            continue
        ratio = max(before, after) / min(before, after)
        word = "same" if before == after else less if before > after else more
        values = {
            "teacher": shown(before),
            "student": shown(after),
            "ratio": w.number(float(ratio), 2 if ratio < 100 else 3),
        }
        rows.append((w(f"complexity.{key}"), w(f"footprint.sizes_{word}", values)))
    return rows


def _chosen_with_scores(w: Words, p: Json) -> Markup:
    """The same with what every student scored on validation."""
    scores = (p["chosen"] or {}).get("scores") or {}
    if not scores:
        return Markup("{}").format(chosen_by(w, p))
    each = Markup(w("number.separator")).join(
        Markup("{} {}").format(name(s), w.number(float(v))) for s, v in scores.items()
    )
    return w.html("chosen.scores", {"by": chosen_by(w, p), "scores": each})
