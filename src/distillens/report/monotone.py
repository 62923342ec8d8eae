"""Where teacher and student move against the directions that were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from distillens.report.reasons import signed
from distillens.report.words import Words, name

Json = Mapping[str, Any]

ROLES = ("student", "teacher")


def monotone(w: Words, student: Json, classes: list[str]) -> list[dict[str, Any]]:
    """One line a constraint and model: how often it is broken, and the row that breaks it most. Binary tasks speak of the second class."""
    rises = name(classes[1]) if len(classes) == 2 else w("answer.value")
    lines = []
    for entry in student.get("monotone") or ():
        wanted = w.html("monotone.rises" if entry["sign"] > 0 else "monotone.falls", {"output": rises})
        for role in ROLES:
            found = entry["models"].get(role)
            lines.append({
                "feature": name(entry["feature"]), "wanted": wanted, "model": w(f"role.{role}"), "role": role,
                "rows": w.percent(found["rows"]) if found else None, "share": w.percent(found["share"]) if found else None,
                "broken": bool(found and found["share"] > 0), "worst": _worst(w, found["worst"][0]) if found and found["worst"] else "",
            })  # fmt: skip
    return lines


def _worst(w: Words, worst: Json) -> Markup:
    values = {"id": str(worst["row_id"]), "low": name(worst["low"]), "high": name(worst["high"]), "change": signed(w, worst["change"])}  # fmt: skip
    return w.html("monotone.worst", values)
