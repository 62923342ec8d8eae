"""Figures of reasons: importance side by side, one row's reasons as diverging bars, shape functions, coefficients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distillens.report.svg import Axis, box, figure, line, path, words
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


def shape_function(
    w: Words, shape: Json, reach: tuple[float, float], *, width: float = 224, height: float = 132
) -> Markup:
    """What one feature adds at each of its values; all shapes of a student share one vertical scale (`reach`).

    shape: {name, kind: numeric | categorical, x: edges or levels, y: one score per step or level, low, high or None}.
    """
    axis_y = Axis(reach[0], reach[1], height - 30, 24)
    parts: list[Markup] = [
        words(2, 12, shape["name"], "t strong", limit=width - 4),
        line(34, axis_y(0), width - 4, axis_y(0), "zero"),
    ]
    for tick in axis_y.ticks(4):
        parts += [
            line(34, axis_y(tick), width - 4, axis_y(tick), "grid"),
            words(30, axis_y(tick) + 3, w.exact(tick), "t tick", anchor="end", size=9),
        ]
    y, x = [float(v) for v in shape["y"]], shape["x"]
    if shape["kind"] == "numeric" and len(x) == len(y) + 1:  # steps between edges
        edges = _finite_edges([float(v) for v in x])
        axis_x = (
            Axis(edges[0], edges[-1], 36, width - 6)
            if edges[-1] > edges[0]
            else Axis(edges[0], edges[0] + 1, 36, width - 6)
        )
        if shape.get("low") is not None and shape.get("high") is not None:
            upper = [(axis_x(e), axis_y(v)) for i, v in enumerate(shape["high"]) for e in edges[i : i + 2]]
            lower = [(axis_x(e), axis_y(v)) for i, v in enumerate(shape["low"]) for e in edges[i : i + 2]]
            parts.append(path(upper + lower[::-1], "student area", closed=True))
        parts.append(path([(axis_x(e), axis_y(v)) for i, v in enumerate(y) for e in edges[i : i + 2]], "student curve"))
        for value, anchor in ((edges[0], "start"), (edges[-1], "end")):
            parts.append(
                words(axis_x(value), height - 16, w.exact(float(f"{value:.4g}")), "t tick", anchor=anchor, size=9)
            )
        spoken = w.list([f"{w.number(edges[i])}: {signed(w, v)}" for i, v in enumerate(y)][:24])
    else:
        levels = [str(v) for v in x][: len(y)]
        step = (width - 42) / max(1, len(y))
        for i, v in enumerate(y):
            centre = 36 + step * (i + 0.5)
            parts.append(box(centre - step * 0.3, axis_y(0), step * 0.6, axis_y(v) - axis_y(0), "student bar"))
            if len(y) <= 6:
                parts.append(words(centre, height - 16, levels[i], "t tick", anchor="middle", limit=step - 2, size=9))
        spoken = w.list([f"{level}: {signed(w, v)}" for level, v in zip(levels, y, strict=False)][:40])
        if len(y) > 6:
            parts.append(words(36, height - 16, w("plot.levels", {"count": w.number(len(y))}), "t tick", size=9))
    return figure(width, height - 10, shape["name"], spoken, parts, css="shape-function")


def _finite_edges(edges: list[float]) -> list[float]:
    """Open ends (−∞, ∞) are drawn one step beyond the last cut."""
    inner = [e for e in edges if math.isfinite(e)] or [0.0, 1.0]
    step = (inner[-1] - inner[0]) / max(1, len(inner) - 1) or 1.0
    return [e if math.isfinite(e) else (inner[0] - step if i == 0 else inner[-1] + step) for i, e in enumerate(edges)]


def effect_bar(value: float, reach: float, *, css: str = "student", width: float = 150) -> Markup:
    """A small signed bar for a table cell; the number stands beside it in the table, so this one is decoration."""
    axis = Axis(-reach, reach, 2, width - 2)
    body = [line(axis(0), 1, axis(0), 13, "zero"), box(axis(0), 2, axis(value) - axis(0), 10, f"{css} bar")]
    return Markup(
        '<svg class="fig effect" viewBox="0 0 {} 14" width="{}" height="14" aria-hidden="true">{}</svg>'
    ).format(int(width), int(width), Markup("").join(body))
