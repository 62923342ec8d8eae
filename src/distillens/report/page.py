"""The HTML page of a passport: one self-contained file, nothing loaded, every name escaped."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from distillens.report import facts, findings, gates, headline, population, readable, tables, views
from distillens.report.figures import reliability
from distillens.report.frontier import frontier_block
from distillens.report.frontier_figure import frontier_css
from distillens.report.learning import curves
from distillens.report.maps import map_table
from distillens.report.reasons import effect_bar, signed
from distillens.report.sections import chosen_audit
from distillens.report.svg import clean
from distillens.report.words import Words, has_interval, name

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Jinja with escaping everywhere and without silent gaps."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"name": name, "clean": clean}
    return made


def page(passport: Mapping[str, Any], *, language: str) -> str:
    """The whole page in one language."""
    w = Words(language, images=bool((passport["data"] or {}).get("images")))
    audit = chosen_audit(passport)
    chosen = passport["chosen"]["id"] if passport["chosen"] else None
    student = passport["students"].get(chosen) if chosen else None
    rows = views.row_views(w, audit) if audit and audit.get("reasons") else []
    context: dict[str, Any] = {
        "p": passport, "w": w, "audit": audit, "chosen": chosen, "student": student,
        "css": Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")) + frontier_css(),
        "js": Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),
        "subtitle": _subtitle(w, passport, student), "badge_line": _badge_line(w, passport),
        "sentences": lambda: headline.sentences(audit, w),
        "not_assessed": lambda: gates.not_assessed(w, audit or {}), "phrases": lambda kind: gates.phrases(w, audit or {}, kind),
        "gates": None if not (audit and audit["gates"]) else lambda: gates.gates(w, audit),
        "metrics": lambda scopes: views.metrics(w, audit or {}, scopes),
        "slices": lambda: views.slices(w, audit or {}),
        "performance": lambda scope="performance": tables.models_table(w, audit or {"metrics": []}, scope),
        "audit_finding": lambda finding: findings.audit_finding(w, finding, audit or {}),
        "provenance": lambda: facts.provenance(w, passport),
        "data_finding": lambda finding: findings.data_finding(w, finding),
        "use_facts": lambda: facts.use_facts(w, passport),
        "importance_figure": lambda: views.importance_figure(w, audit or {}), "map_table": lambda: map_table(w, (audit or {})["reasons"]),
        "learning": lambda: curves(w, passport),
        "row_views": rows, "row_filters": [f for f in views.ROW_FLAGS if any(f in row["flags"] for row in rows)],
        "role_labels": {role: w(f"role.{role}") for role in ("teacher", "student")},
        "readable_students": lambda: readable.students(w, passport),
        "score_view": lambda: population.scores(w, audit or {}, student), "stability_view": lambda: population.stability(w, audit or {}),
        "students_table": lambda: tables.students(w, passport), "chosen_by": tables.chosen_by(w, passport),
        "trade_off": lambda: frontier_block(w, passport["frontier"]) if passport.get("frontier") else "",
        "footprint": lambda: facts.footprint(w, passport), "sizes": lambda: facts.sizes(w, passport),
        "content": lambda feature: facts.input_content(w, feature),
        "method": lambda key: w.term(key) if w.has(f"define.{key}") else clean(key),
        "scale": lambda key: views.scale(w, key), "target": lambda key: views.target(w, key),
        "reliability": reliability, "effect_bar": effect_bar, "signed": signed, "has_interval": has_interval,
    }  # fmt: skip
    return environment().get_template("page.html.j2").render(context)


def _subtitle(w: Words, passport: Mapping[str, Any], student: Mapping[str, Any] | None) -> Markup:
    teacher = passport["teacher"]
    if student is None or teacher is None:
        return Markup("")
    return w.html(
        "page.subtitle",
        {
            "student": tables.kind(w, student["kind"]),
            "id": name(student["id"]),
            "teacher": tables.kind(w, teacher["kind"]),
        },
    )


def _badge_line(w: Words, passport: Mapping[str, Any]) -> str:
    gates = passport["headline"]["gates"]
    if not gates or not gates["total"]:
        return w("badge.none")
    bad = gates["review"] + gates["fail"]
    total = w.number(gates["total"])
    if bad:
        return w(
            "badge.some" if gates["fail"] and gates["review"] else "badge.fail" if gates["fail"] else "badge.review",
            {"bad": w.number(bad), "total": total},
        )
    return w("badge.pass" if passport["verdict"] == "pass" else "badge.slices", {"total": total})
