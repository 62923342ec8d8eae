"""A rule list as a table: IF … ELSE IF … ELSE, each with its answer, the rows it answers, and how often that is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distillens.report.words import Words, name

Json = Mapping[str, Any]


def rule_list(
    w: Words, d: Json, leaf: Callable[[list[float]], Markup], parts: Sequence[Json] | None = None
) -> dict[str, Any]:
    """The lines of a described rule list; leaf: how an answer is shown; parts: rows, agreement and precision of each rule on the audited rows."""
    lines = [
        {
            "word": w("rules.if" if number == 0 else "rules.else_if"),
            "conditions": _joined(w, rule["conditions"]),
            "answer": leaf(rule["value"]),
            "coverage": w.percent(rule["coverage"]),
        }
        for number, rule in enumerate(d["rules"])
    ]
    rest = d["otherwise"]
    last = {"word": w("rules.else"), "conditions": "", "answer": leaf(rest["value"]), "coverage": w.percent(rest["coverage"])}  # fmt: skip
    known = {part["part"]: part for part in parts or ()}
    whole = [line | {"part": known.get(number)} for number, line in enumerate([*lines, last])]
    return {"lines": whole, "audited": bool(known)}


def _joined(w: Words, conditions: Sequence[str]) -> Markup:
    return Markup(' <b class="and">{}</b> ').format(w("rules.and")).join(name(_condition(w, c)) for c in conditions)


def _condition(w: Words, text: str) -> str:
    """A condition as the student words it; whether a value is missing in this language."""
    for end, key in ((" is not missing", "rules.not_missing"), (" is missing", "rules.is_missing")):
        if text.endswith(end):
            return w(key, {"feature": text.removesuffix(end)})
    return text
