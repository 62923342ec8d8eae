"""The interval plots: one estimate beside its limit and references, or several models on one axis.

Figures are inline SVG made here. Plotly is not used in the passport: its script alone is 4–5 MB, it follows neither the
reader's light or dark setting nor the printer, and nothing in these figures needs it. Colours are CSS classes, so that
the page decides them; position and shape always say the same as the colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from distillens.report.svg import Axis, box, dot, figure, join, line, path, shorten, tag, text_width, words
from distillens.report.words import Words, has_interval

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Reference:
    """What an estimate is compared with. kind decides mark and colour: twin, repeat, chance, undistilled, teacher, rest, other."""

    kind: str
    label: str
    value: float
    low: float | None = None
    high: float | None = None


def finite(value: Any) -> float | None:
    """A bound from JSON: a number, or None for what is missing or infinite."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def bounds(unit: str) -> tuple[float, float]:
    """Where an axis has to end: shares lie between 0 and 1."""
    return (0.0, 1.0) if unit == "share" else (-math.inf, math.inf)


def interval_plot(
    w: Words,
    estimate: Json,
    *,
    unit: str,
    title: str,
    references: Sequence[Reference] = (),
    limit: float | None = None,
    direction: str = ">=",
    width: float = 460,
    span: Sequence[float] = (),
) -> Markup:
    """Dot = estimate, thick line = interval, marks = references, thin dark line = limit, shaded = acceptable side.

    span: further values the axis has to hold, so that several plots can share one. Far-off references of the kind
    "other" (a constant answer, a random teacher) do not stretch the axis: they stand at its end with their number.
    """
    value, low, high = (finite(estimate.get(key)) for key in ("value", "low", "high"))
    if value is None:
        return Markup("")
    floor, ceiling = bounds(unit)
    near = [v for r in references if r.kind != "other" for v in (r.value, r.low, r.high)]
    held = [v for v in (value, low, high, limit, *near, *span) if v is not None]
    reach = max(held) - min(held)
    held += [r.value for r in references if r.kind == "other" and min(held) - reach <= r.value <= max(held) + reach]
    axis = Axis.around(held, 16, width - 16, floor=floor, ceiling=ceiling)
    middle, parts = 36.0, [line(16, 50, width - 16, 50, "axis")]
    for tick in axis.ticks(5):
        parts += [
            line(axis(tick), 50, axis(tick), 53, "axis"),
            words(axis(tick), 63, w.tick(tick, unit), "t tick", anchor="middle", size=10),
        ]
    if limit is not None:
        edge = axis.end if direction == ">=" else axis.start
        parts.append(box(axis(limit), 24, edge - axis(limit), 26, "accept"))
    for r in references:
        if r.kind in {"twin", "repeat"} and r.low is not None and r.high is not None:
            parts.append(box(axis(r.low), 29, max(2.0, axis(r.high) - axis(r.low)), 14, f"band {r.kind}"))
    left, right = axis(low) if low is not None else axis.start, axis(high) if high is not None else axis.end
    if has_interval(estimate):
        parts.append(box(left, middle - 3, max(1.0, right - left), 6, "student fill", radius=3))
    # of several marks of one kind (teacher asked twice, student asked twice) one label says what the mark is
    first = {r.kind: r for r in reversed(references) if r.kind == "repeat"}
    labels = [
        (axis(r.value), w("reference.repeat") if r.kind == "repeat" else _beyond(w, r, axis, unit), r.kind)
        for r in references
        if first.get(r.kind, r) is r
    ]
    if limit is not None:
        labels.append((axis(limit), w("plot.limit"), "limit"))
        parts.append(line(axis(limit), 23, axis(limit), 50, "limit"))
    parts += [mark(r.kind, axis(r.value), middle) for r in references]
    parts.append(dot(axis(value), middle, 5, "student dot"))
    parts += _placed(labels, width)
    spoken = [f"{r.label} {w.value(r.value, unit)}" for r in references] + (
        [w("plot.limit_is", {"limit": w.tick(limit, unit)})] if limit is not None else []
    )
    return figure(width, 68, title, w.list([w.estimate(estimate, unit), *spoken]), parts, css="interval")


def _beyond(w: Words, r: Reference, axis: Axis, unit: str) -> str:
    """The label of a reference; with an arrow and its number when it lies outside the axis."""
    if r.value < axis.low:
        return f"‹ {r.label} {w.value(r.value, unit)}"
    return f"{r.label} {w.value(r.value, unit)} ›" if r.value > axis.high else r.label


def mark(kind: str, x: float, y: float) -> Markup:
    """One reference mark; every kind has a shape of its own."""
    if kind == "twin":
        return path([(x - 4.5, y + 4), (x + 4.5, y + 4), (x, y - 5)], "mark twin", closed=True)
    if kind == "repeat":
        return path([(x - 4.5, y), (x, y - 5.5), (x + 4.5, y), (x, y + 5.5)], "mark repeat", closed=True)
    if kind == "chance":
        return join([line(x - 4, y - 4, x + 4, y + 4, "cross"), line(x - 4, y + 4, x + 4, y - 4, "cross")])
    if kind == "undistilled":
        return dot(x, y, 4, "mark undistilled")
    if kind == "teacher":
        return dot(x, y, 4.5, "teacher dot")
    return box(x - 3.5, y - 3.5, 7, 7, "mark other")


def _placed(labels: list[tuple[float, str, str]], width: float) -> list[Markup]:
    """Labels above their marks in two lines, moved sideways where they would overlap; what has no room keeps its mark only."""
    taken: dict[float, list[tuple[float, float]]] = {20.0: [], 9.0: []}
    parts: list[Markup] = []
    for x, text, kind in sorted(labels):
        shown = shorten(text, 150, 10)
        half = text_width(shown, 10) / 2 + 2
        for shift, y in sorted(
            ((s, y) for y in taken for s in range(-64, 65, 8)), key=lambda c: (abs(c[0]) // 24, c[1] < 15, abs(c[0]))
        ):
            centre = min(max(x + shift, half), width - half)
            if all(centre + half <= a or centre - half >= b for a, b in taken[y]):
                taken[y].append((centre - half, centre + half))
                parts += [
                    line(x, 28, centre, y + 2, "leader"),
                    words(centre, y, shown, f"t label {kind}", anchor="middle", size=10),
                ]
                break
    return parts


def lanes_plot(
    w: Words,
    lanes: Sequence[tuple[str, str, Json]],
    *,
    unit: str,
    title: str,
    width: float = 460,
    label_width: float = 128,
) -> Markup:
    """Several models on one axis: (label, role, estimate) per line; the number is printed beside its line."""
    shown = [(label, role, e) for label, role, e in lanes if finite(e.get("value")) is not None]
    if not shown:
        return Markup("")
    floor, ceiling = bounds(unit)
    everything = [v for _, _, e in shown for v in (finite(e.get(k)) for k in ("value", "low", "high")) if v is not None]
    axis = Axis.around(everything, label_width + 8, width - 66, floor=floor, ceiling=ceiling)
    bottom = 6 + 19 * len(shown)
    parts = [line(axis.start, bottom, axis.end, bottom, "axis")]
    for tick in axis.ticks(4):
        parts += [
            line(axis(tick), 4, axis(tick), bottom, "grid"),
            words(axis(tick), bottom + 12, w.tick(tick, unit), "t tick", anchor="middle", size=10),
        ]
    for i, (label, role, e) in enumerate(shown):
        y = 14.0 + 19 * i
        value, low, high = (finite(e.get(k)) for k in ("value", "low", "high"))
        assert value is not None
        if low is not None and high is not None:
            parts.append(box(axis(low), y - 2.5, max(1.0, axis(high) - axis(low)), 5, f"{role} fill", radius=2.5))
        parts += [
            words(label_width, y + 4, label, f"t {role}-text", anchor="end", limit=label_width, size=11),
            dot(axis(value), y, 4.2, f"{role} dot"),
            words(width, y + 4, w.value(value, unit), "t value", anchor="end"),
        ]
    spoken = w.list([f"{label} {w.estimate(e, unit)}" for label, _, e in shown])
    return figure(width, bottom + 18, title, spoken, parts, css="lanes")


def reliability(
    w: Words, bins: Mapping[str, Sequence[Json]], *, labels: Mapping[str, str], size: float = 300
) -> Markup:
    """Observed share against mean prediction; the dashed diagonal is perfect calibration, a dot's area its number of rows."""
    axis_x, axis_y = Axis(0, 1, 58, size + 58), Axis(0, 1, size + 8, 8)
    most = max((b["n"] for rows in bins.values() for b in rows), default=1)
    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts += [
            line(axis_x(tick), 8, axis_x(tick), size + 8, "grid"), line(58, axis_y(tick), size + 58, axis_y(tick), "grid"),
            words(axis_x(tick), size + 22, w.tick(tick, "share"), "t tick", anchor="middle", size=10),
            words(52, axis_y(tick) + 3, w.tick(tick, "share"), "t tick", anchor="end", size=10),
        ]  # fmt: skip
    parts.append(line(axis_x(0), axis_y(0), axis_x(1), axis_y(1), "diagonal"))
    spoken = []
    for role in ("teacher", "student"):
        points = [(axis_x(b["mean"]), axis_y(b["observed"]), b["n"]) for b in bins.get(role, ()) if b["n"]]
        if not points:
            continue
        parts.append(path([(x, y) for x, y, _ in points], f"{role} curve"))
        parts += [_shape(role, x, y, 2.5 + 5.0 * math.sqrt(n / most)) for x, y, n in points]
        pairs = [f"{w.percent(b['mean'])} → {w.percent(b['observed'])}" for b in bins[role] if b["n"]]
        spoken.append(f"{labels[role]}: {w.list(pairs)}")
    parts += [
        words(58 + size / 2, size + 40, w("plot.predicted"), "t", anchor="middle"),
        tag(
            "g",
            {"transform": f"translate(9 {8 + size / 2}) rotate(-90)"},
            words(0, 0, w("plot.observed"), "t", anchor="middle"),
        ),
    ]
    return figure(size + 70, size + 48, w("plot.reliability"), " ".join(spoken), parts, css="reliability")


def _shape(role: str, x: float, y: float, r: float) -> Markup:
    """Teacher square, student round: the two can be told apart without colour."""
    return (
        box(x - r * 0.88, y - r * 0.88, 1.76 * r, 1.76 * r, "teacher dot")
        if role == "teacher"
        else dot(x, y, r, "student dot")
    )


def frontier(
    w: Words, points: Sequence[Json], *, unit: str, x_title: str, y_title: str, width: float = 560, height: float = 270
) -> Markup:
    """Students by size (logarithmic) and fidelity with its interval. points: {label, size, estimate, chosen}."""
    shown = [p for p in points if p["size"] and finite(p["estimate"].get("value")) is not None]
    if not shown:
        return Markup("")
    floor, ceiling = bounds(unit)
    everything = [
        v for p in shown for v in (finite(p["estimate"].get(k)) for k in ("value", "low", "high")) if v is not None
    ]
    y = Axis.around(everything, height - 44, 14, floor=floor, ceiling=ceiling)
    exponents = [math.log10(p["size"]) for p in shown]
    x = Axis(math.floor(min(exponents) * 2 - 0.3) / 2, math.ceil(max(exponents) * 2 + 0.3) / 2, 58, width - 20)
    parts = [line(x.start, y.start, x.end, y.start, "axis")]
    for tick in y.ticks(4):
        parts += [
            line(x.start, y(tick), x.end, y(tick), "grid"),
            words(52, y(tick) + 3.5, w.tick(tick, unit), "t tick", anchor="end", size=10),
        ]
    for power in range(math.ceil(x.low), math.floor(x.high) + 1):
        parts += [
            line(x(power), y.start, x(power), y.start + 4, "axis"),
            words(x(power), y.start + 15, w.number(10**power), "t tick", anchor="middle", size=10),
        ]
    for p, exponent in zip(shown, exponents, strict=True):
        e, px = p["estimate"], x(exponent)
        low, high = finite(e.get("low")), finite(e.get("high"))
        role = "student" if p["chosen"] else "plain"
        if low is not None and high is not None:
            parts.append(box(px - 2, y(high), 4, y(low) - y(high), f"{role} fill", radius=2))
        beside, anchor = (-9, "end") if px > width - 150 else (9, "start")
        css = "t strong" if p["chosen"] else "t"
        parts += [
            dot(px, y(e["value"]), 5, f"{role} dot"),
            words(px + beside, y(e["value"]) + 4, p["label"], css, anchor=anchor, limit=130),
        ]
    parts += [words((x.start + x.end) / 2, height - 6, x_title, "t", anchor="middle"),
              tag("g", {"transform": f"translate(11 {height / 2 - 16}) rotate(-90)"}, words(0, 0, y_title, "t", anchor="middle"))]  # fmt: skip
    spoken = w.list(
        [f"{p['label']}: {w.estimate(p['estimate'], unit)}, {x_title} {w.number(p['size'])}" for p in shown]
    )
    return figure(width, height, w("plot.frontier"), spoken, parts, css="frontier")
