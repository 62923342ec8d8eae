"""The model card: Hugging Face front matter, the verdict, and the numbers as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distillens.report.gates import not_assessed, relation
from distillens.report.headline import FIDELITY, REASONS, usable
from distillens.report.sections import chosen_audit
from distillens.report.svg import clean
from distillens.report.tables import kind
from distillens.report.views import control_name
from distillens.report.words import Words

Json = Mapping[str, Any]

TAGS = ("knowledge-distillation", "interpretability", "tabular")
PIPELINES = {
    "binary": "tabular-classification",
    "multiclass": "tabular-classification",
    "regression": "tabular-regression",
}
_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|#!~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def card(passport: Json) -> str:
    """The model card in English."""
    import yaml

    w, audit = Words("en", images=bool((passport["data"] or {}).get("images"))), chosen_audit(passport)
    front = yaml.safe_dump(
        _front_matter(passport, audit), sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    body = [
        f"# {escape(passport['title'])}",
        _models(w, passport),
        f"**Verdict: {w('verdict.' + passport['verdict'])}**",
    ]
    body += [escape(sentence) for sentence in passport["headline"]["sentences"]["en"]]
    if audit:
        body += [_statement(w, audit), "## Gates", _gates(w, audit), "## Numbers", _metrics(w, audit)]
    body += [
        "## Not assessed",
        "\n".join(f"- {escape(what)}: {escape(why)}" for what, why in _left_out(w, passport, audit)) or "- nothing",
    ]
    body += [w("page.evidence") + " The whole passport is in `passport.html`; its data are in `passport.json`."]
    return f"---\n{front}---\n\n" + "\n\n".join(part for part in body if part) + "\n"


def escape(text: object) -> str:
    """Text that Markdown and HTML show as it is, in one line."""
    return clean(text).translate(_SPECIAL)


def _left_out(w: Words, passport: Json, audit: Json | None) -> list[tuple[str, str]]:
    """(what, why) of the sections without an assessment and of everything the audit left out, in the words of the page."""
    unassessed = [s for s in passport["sections"] if s["state"] == "not_assessed"]
    rows = [(w(f"section.{s['id']}"), w(f"reason.{s['reason']}")) for s in unassessed]
    return rows + [(what.striptags(), why.striptags()) for what, why in not_assessed(w, audit or {})]


def _front_matter(passport: Json, audit: Json | None) -> dict[str, Any]:
    data = passport["data"] or {}
    front: dict[str, Any] = {"library_name": "distillens", "tags": [*TAGS, "distillens"]}
    own = passport["use"].get("licence")
    front["license"] = clean(own).lower() if own else "other"
    if not own:
        front["license_name"] = "not-stated"
    if data.get("task") in PIPELINES:
        front["pipeline_tag"] = "image-classification" if data.get("images") else PIPELINES[data["task"]]
    if audit:
        numbers = [
            m for m in audit["metrics"]
            if usable(m["estimate"]) and (m["scope"] == "performance" or m["name"] in {*FIDELITY, *REASONS})
        ]  # fmt: skip
        front["metrics"] = list(dict.fromkeys(m["name"] for m in numbers if m["scope"] == "performance"))
        front["model-index"] = [{
            "name": clean(passport["chosen"]["id"]),
            "results": [{
                "task": {"type": "image-classification" if data.get("images") else PIPELINES[audit["task"]]},
                "dataset": {"name": clean(data.get("name") or passport["name"]), "type": "image" if data.get("images") else "tabular"},
                "metrics": [{"type": m["name"], "name": Words("en").metric(m["name"]), "value": m["estimate"]["value"]} for m in numbers],
            }],
        }]  # fmt: skip
    return front


def _models(w: Words, passport: Json) -> str:
    student = passport["students"].get(passport["chosen"]["id"]) if passport["chosen"] else None
    teacher = passport["teacher"]
    if not student or not teacher:
        return ""
    return f"{kind(w, student['kind'])} “{escape(student['id'])}”, distilled from {kind(w, teacher['kind'])} “{escape(teacher['label'])}”."


def _statement(w: Words, audit: Json) -> str:
    lines = [(kind, audit["statement"].get(kind) or ()) for kind in ("kept", "lost", "unknown")]
    return "\n".join(
        f"- **{w('statement.' + kind)}**: {escape('; '.join(phrases)) or w('statement.nothing')}"
        for kind, phrases in lines
    )


def _gates(w: Words, audit: Json) -> str:
    if not audit["gates"]:
        return w("reason.no_gates")
    units = {m["name"]: m["unit"] for m in audit["metrics"]}
    rows = [
        (
            w.metric(g["metric"], _k(audit)),
            relation(w, g, next((m for m in audit["metrics"] if m["name"] == g["metric"]), None)),
            w.estimate(g["bound"], units.get(g["metric"], "value")),
            w(f"verdict.{g['outcome']}"),
        )
        for g in audit["gates"]
    ]
    return _table(("gate", "asks for", "held against it", "outcome"), rows)


def _metrics(w: Words, audit: Json) -> str:
    rows = []
    for m in audit["metrics"]:
        if not usable(m["estimate"]):
            continue
        beside = [
            (w("role.teacher"), m.get("teacher")),
            *((control_name(w, c), e) for c, e in (m.get("controls") or {}).items()),
            (w("reference.chance"), m.get("chance")),
        ]
        shown = "; ".join(
            f"{escape(label)} {w.value(e['value'], m['unit'])}" for label, e in beside if usable(e) and e is not None
        )
        rows.append((w.metric(m["name"], _k(audit)), w.estimate(m["estimate"], m["unit"]), shown))
    return _table(("measure", "student", "beside"), rows)


def _k(audit: Json) -> Any:
    return audit["reasons"]["k"] if audit.get("reasons") else None


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])
