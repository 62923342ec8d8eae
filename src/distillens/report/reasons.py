"""Figures of reasons: importance side by side, one row's reasons as diverging bars, small bars for coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distillens.report.svg import Axis, box, figure, line, words
from distillens.report.words import Words

Json = Mapping[str, Any]


def importance(w: Words, units: Sequence[str], values: Mapping[str, Sequence[float]], *, width: float = 860) -> Markup:
    """Mean |φ| per feature: teacher | student | difference, the first two on one scale."""
    teacher, student = values["teacher"], values["student"]
    top = max([*teacher, *student, 1e-12])
    gap = max([abs(s - t) for t, s in zip(teacher, student, strict=True)] + [top / 4])
    name_width, panel = 225.0, (width - 225 - 3 * 16) / 3
    starts = [name_width + 16 + i * (panel + 16) for i in range(3)]
    parts: list[Markup] = [
        words(starts[0], 12, w("role.teacher"), "t strong teacher-text"), words(starts[1], 12, w("role.student"), "t strong student-text"),
        words(starts[2] + panel / 2, 12, w("plot.difference"), "t strong", anchor="middle"),
    ]  # fmt: skip
    height = 24 + 18.0 * len(units)
    difference = Axis(-gap, gap, starts[2] + 34, starts[2] + panel - 34)
    parts.append(line(difference(0), 18, difference(0), height - 4, "zero"))
    for i, (unit, t, s) in enumerate(zip(units, teacher, student, strict=True)):
        y = 22 + 18.0 * i
        parts.append(words(name_width, y + 10, unit, "t", anchor="end", limit=name_width))
        for start, v, role in ((starts[0], t, "teacher"), (starts[1], s, "student")):
            length = v / top * (panel - 46)
            parts += [
                box(start, y + 1, max(length, 0.5), 11, f"{role} bar", radius=1.5),
                words(start + length + 5, y + 10, w.number(v, 2), "t value", size=10),
            ]
        zero, end = difference(0), difference(s - t)
        parts.append(box(zero, y + 1, end - zero, 11, "difference bar"))
        away = s >= t
        parts.append(
            words(
                end + (5 if away else -5),
                y + 10,
                signed(w, s - t),
                "t value",
                anchor="start" if away else "end",
                size=10,
            )
        )
    spoken = w.list(
        [f"{u}: {w.number(t, 2)} / {w.number(s, 2)}" for u, t, s in zip(units, teacher, student, strict=True)]
    )
    return figure(width, height, w("plot.importance"), spoken, parts, css="importance")


def signed(w: Words, value: float, digits: int = 2) -> str:
    """A number with its sign, also when positive."""
    return ("+" if value > 0 else "") + w.number(float(value), digits)


def row_reasons(w: Words, items: Sequence[Json], *, title: str, width: float = 860) -> Markup:
    """One row: signed attributions of both models around one zero, on one scale, the row's own values at the bars."""
    reach = max([abs(item[role]) for item in items for role in ("teacher", "student")] + [1e-12])
    label_width = 270.0
    axis = Axis(-reach * 1.0, reach * 1.0, label_width + 58, width - 50)
    height = 8 + 30.0 * len(items) + 18
    parts: list[Markup] = [line(axis(0), 2, axis(0), height - 18, "zero")]
    for i, item in enumerate(items):
        y = 6 + 30.0 * i
        if i:
            parts.append(line(0, y - 3, width, y - 3, "grid"))
        parts += [words(label_width - 6, y + 10, item["unit"], "t", anchor="end", limit=label_width - 10),
                  words(label_width - 6, y + 22, f"= {item['value']}", "t muted", anchor="end", limit=label_width - 10, size=10)]  # fmt: skip
        for role, top in (("teacher", y), ("student", y + 12)):
            v = float(item[role])
            end, right = axis(v), v >= 0
            parts += [box(axis(0), top, end - axis(0), 10, f"{role} bar"),
                      words(end + (4 if right else -4), top + 9, signed(w, v), "t value", anchor="start" if right else "end", size=10)]  # fmt: skip
    parts += [words(axis(0) - 8, height - 4, f"← {w('plot.against')}", "t muted", anchor="end", size=10),
              words(axis(0) + 8, height - 4, f"{w('plot.towards')} →", "t muted", size=10)]  # fmt: skip
    spoken = w.list(
        [f"{i['unit']} = {i['value']}: {signed(w, i['teacher'])} / {signed(w, i['student'])}" for i in items]
    )
    return figure(width, height, title, spoken, parts, css="row")


def effect_bar(value: float, reach: float, *, css: str = "student", width: float = 150) -> Markup:
    """A small signed bar for a table cell; the number stands beside it in the table, so this one is decoration."""
    axis = Axis(-reach, reach, 2, width - 2)
    body = [line(axis(0), 1, axis(0), 13, "zero"), box(axis(0), 2, axis(value) - axis(0), 10, f"{css} bar")]
    return Markup(
        '<svg class="fig effect" viewBox="0 0 {} 14" width="{}" height="14" aria-hidden="true">{}</svg>'
    ).format(int(width), int(width), Markup("").join(body))
