"""Where teacher and student move against the directions that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distillens.report.reasons import signed
from distillens.report.words import Words, name

Json = Mapping[str, Any]

ROLES = ("student", "teacher")


def monotone(
    w: Words, entries: Sequence[Json], classes: Sequence[str], adverse: str | None = None
) -> list[dict[str, Any]]:
    """One line a constraint and model: how often it is broken, and the row that breaks it most.

    entries: the audit's record, whose signs and changes are of the log-odds of the second class. Here both are told for `adverse`
    (default: the second class), because that is what people ask: does the risk ever fall where it should rise?
    """
    turn = -1 if adverse is not None and len(classes) == 2 and adverse == classes[0] else 1
    output = classes[0 if turn < 0 else 1] if len(classes) == 2 else None
    lines = []
    for entry in entries:
        wanted = direction(w, turn * entry["sign"], output)
        for role in ROLES:
            found = entry["models"].get(role)
            lines.append({
                "feature": name(entry["feature"]), "wanted": wanted, "model": w(f"role.{role}"), "role": role,
                "rows": w.estimate(found["broken"], "share") if found else None, "share": w.percent(found["share"]) if found else None,
                "broken": bool(found and found["share"] > 0), "worst": _worst(w, found["worst"][0], turn) if found and found["worst"] else "",
            })  # fmt: skip
    return lines


def direction(w: Words, sign: int, output: str | None) -> Markup:
    """What was asked for, in words: the chance of a class (or the value, None) must not fall, or not rise, as the feature grows."""
    of = w("answer.value") if output is None else w.html("monotone.chance", {"output": name(output)})
    return w.html("monotone.rises" if sign > 0 else "monotone.falls", {"output": of})


def _worst(w: Words, worst: Json, turn: int) -> Markup:
    values = {"id": str(worst["row_id"]), "low": name(worst["low"]), "high": name(worst["high"]), "change": signed(w, turn * worst["change"])}  # fmt: skip
    return w.html("monotone.worst", values)
