"""The figure of the frontier: every point by its pieces and its fidelity or performance, the fronts, the keys to the marks.

Families differ by colour and by shape, points on the front are filled and the others hollow, so that no fact rests on colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from distillens.report.figures import bounds, finite
from distillens.report.svg import Axis, clean, dot, figure, join, line, path, tag, text_width, words
from distillens.report.words import Words

Json = Mapping[str, Any]

TEMPLATES = Path(__file__).parent / "templates"
NEAR = 4.0  # pixels between a label and what it must not cover


def frontier_css() -> Markup:
    """Colours and shapes of these figures, for a page that has the colours of `page.css`."""
    return Markup((TEMPLATES / "frontier.css").read_text(encoding="utf-8"))


def frontier_figure(
    w: Words, record: Json, *, size: str = "whole", measure: str = "fidelity", width: float = 680, height: float = 380
) -> Markup:
    """Every point by its pieces (logarithmic) and its fidelity or performance, with intervals over rows, and the front.

    record: frontier.json. size: "whole" or "decision"; measure: "fidelity" or "performance". The line is the front by the points'
    values and is drawn for fidelity only; the dashed line is the teacher's own performance. Empty when there is nothing to draw.
    """
    about = record[measure]
    if about is None:
        return Markup("")
    name, unit = about["metric"], about["unit"]
    shown = [p for p in record["points"] if finite(p[measure].get(name, {}).get("value")) is not None]
    if not shown:
        return Markup("")
    estimates = {p["id"]: p[measure][name] for p in shown}
    own = record["teacher"]["performance"].get(name) if measure == "performance" else None
    level = None if own is None else finite(own.get("value"))
    floor, ceiling = bounds(unit)
    ends = [
        v for e in estimates.values() for v in (finite(e.get(k)) for k in ("value", "low", "high")) if v is not None
    ]
    y = Axis.around([*ends, *([] if level is None else [level])], height - 52, 16, floor=floor, ceiling=ceiling)
    logs = {p["id"]: math.log10(max(p["units"][size]["value"], 1.0)) for p in shown}
    margin = max(0.06 * (max(logs.values()) - min(logs.values())), 0.08)
    x = Axis(min(logs.values()) - margin, max(logs.values()) + margin, 62, width - 16)
    at = {p["id"]: (x(logs[p["id"]]), y(estimates[p["id"]]["value"])) for p in shown}
    parts = [*_axes(w, x, y, unit), *_titles(w, x, height, size, w.metric(name))]
    labels = _Labels(x, y, [*at.values()])
    if level is not None:
        parts += [line(x.start, y(level), x.end, y(level), "diagonal")]
        labels.add(x.start + 4, y(level), w("role.teacher"), "t teacher-text")
    front = sorted((p for p in shown if p["front"][size]), key=lambda p: logs[p["id"]]) if measure == "fidelity" else []
    readable = readable_front(shown, size, name) if measure == "fidelity" else []
    if readable and [p["id"] for p in readable] != [p["id"] for p in front]:
        parts.append(path(_stairs([at[p["id"]] for p in readable], x.end), "front readable"))
    if front:
        parts.append(path(_stairs([at[p["id"]] for p in front], x.end), "front"))
    for p in shown:
        low, high = (finite(estimates[p["id"]].get(k)) for k in ("low", "high"))
        if low is not None and high is not None:
            parts.append(line(at[p["id"]][0], y(high), at[p["id"]][0], y(low), f"whisker {_family(p)}"))
    for p in shown:
        said = f"{point_name(w, p)}: {w.estimate(estimates[p['id']], unit)}, {_pieces(w, p, size)}"
        filled = p["front"][size] or measure == "performance"
        parts.append(_mark(p, *at[p["id"]], filled=filled, title=said))
    named = [*front, *(p for p in readable if p not in front)] or shown
    for p in named:
        labels.add(*at[p["id"]], point_name(w, p, short=True), "t strong" if p in front else "t")
    title = w("tradeoff.figure", {"measure": w.metric(name), "size": w(f"tradeoff.size.{size}")})
    spoken = [
        f"{point_name(w, p)} {w.value(estimates[p['id']]['value'], unit)}, {_pieces(w, p, size)}"
        for p in front or shown
    ]
    lead = w("tradeoff.spoken", {"count": w.number(len(shown)), "front": w.list(spoken)}) if front else w.list(spoken)
    return figure(width, height, title, lead, [*parts, *labels.parts], css="frontier tradeoff")


def readable_front(points: Sequence[Json], size: str, metric: str) -> list[Json]:
    """The front among the students that can be read, smallest first: nothing readable that is as small equals or beats them."""
    best, out = -math.inf, []
    for p in sorted(
        (p for p in points if p["readable"]), key=lambda p: (p["units"][size]["value"], -p["fidelity"][metric]["value"])
    ):
        if p["fidelity"][metric]["value"] > best:
            best = p["fidelity"][metric]["value"]
            out.append(p)
    return out


def _axes(w: Words, x: Axis, y: Axis, unit: str) -> list[Markup]:
    parts = []
    for tick in y.ticks(7):
        parts += [
            line(x.start, y(tick), x.end, y(tick), "grid"),
            words(x.start - 6, y(tick) + 3.5, w.tick(tick, unit), "t tick", anchor="end", size=10),
        ]
    few = x.high - x.low < 2.5  # decades: with few of them 2 and 5 are named, too
    for power in range(math.floor(x.low), math.ceil(x.high) + 1):
        for digit in (1, 2, 5):
            value = math.log10(digit) + power
            if x.low <= value <= x.high:
                named = digit == 1 or few
                parts.append(line(x(value), y.start, x(value), y.start + (5 if digit == 1 else 3), "axis"))
                if named:
                    text = w.number(digit * 10**power)
                    parts.append(words(x(value), y.start + 16, text, "t tick", anchor="middle", size=10))
    return [*parts, line(x.start, y.start, x.end, y.start, "axis")]


def _titles(w: Words, x: Axis, height: float, size: str, measure: str) -> list[Markup]:
    turned = {"transform": f"translate(12 {(height - 36) / 2}) rotate(-90)"}
    return [
        words((x.start + x.end) / 2, height - 8, w(f"tradeoff.axis.{size}"), "t", anchor="middle"),
        tag("g", turned, words(0, 0, measure, "t", anchor="middle")),
    ]


def _stairs(points: Sequence[tuple[float, float]], end: float) -> list[tuple[float, float]]:
    """The front as stairs: between two sizes nothing better is known than the smaller one's."""
    steps = [points[0]]
    for x, y in points[1:]:
        steps += [(x, steps[-1][1]), (x, y)]
    return [*steps, (end, steps[-1][1])]


class _Labels:
    """Names beside their marks, where they cover neither marks nor each other; what has no room keeps its mark only."""

    def __init__(self, x: Axis, y: Axis, marks: Sequence[tuple[float, float]]) -> None:
        self.left, self.right, self.top, self.bottom = x.start, x.end, y.end, y.start
        self.taken = [(a - 6, b - 6, a + 6, b + 6) for a, b in marks]
        self.parts: list[Markup] = []

    def add(self, x: float, y: float, text: str, css: str) -> None:
        wide = text_width(text)
        for dx, dy in ((8, -8), (-8 - wide, -8), (8, 16), (-8 - wide, 16), (-wide / 2, -12), (-wide / 2, 20), (10, 4), (-10 - wide, 4),
                       (8, -22), (-8 - wide, -22), (8, 30), (-8 - wide, 30)):  # fmt: skip
            box = (x + dx - NEAR / 2, y + dy - 10, x + dx + wide + NEAR / 2, y + dy + 3)
            inside = box[0] >= self.left and box[2] <= self.right and box[1] >= self.top - 14 and box[3] <= self.bottom
            if inside and not any(_overlap(box, other) for other in self.taken):
                self.taken.append(box)
                self.parts.append(words(x + dx, y + dy, text, css))
                return


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _family(point: Json) -> str:
    """A class of the style sheet; a family from elsewhere has the marks of "other"."""
    return f"family-{point['family']}" if point["family"] in _SHAPES else "family-other"


_SHAPES: Mapping[str, Sequence[tuple[float, float]]] = {
    "tree": [(0, -6.2), (5.6, 4.4), (-5.6, 4.4)],
    "rules": [(-4.6, -4.6), (4.6, -4.6), (4.6, 4.6), (-4.6, 4.6)],
    "scorecard": [(0, -6.4), (6.4, 0), (0, 6.4), (-6.4, 0)],
    "additive": [],  # a circle
    "linear": [(-2, -6), (2, -6), (2, -2), (6, -2), (6, 2), (2, 2), (2, 6), (-2, 6), (-2, 2), (-6, 2), (-6, -2), (-2, -2)],
    "network": [(0, -6), (5.7, -1.85), (3.5, 4.85), (-3.5, 4.85), (-5.7, -1.85)],
    "soft_tree": [(0, 6.2), (5.6, -4.4), (-5.6, -4.4)],
}  # fmt: skip
_OTHER = [(-6, -6), (0, -2.5), (6, -6), (2.5, 0), (6, 6), (0, 2.5), (-6, 6), (-2.5, 0)]


def _mark(point: Json, x: float, y: float, *, filled: bool, title: str = "") -> Markup:
    css = f"point {_family(point)}{'' if filled else ' hollow'}"
    shape = _SHAPES.get(point["family"], _OTHER)
    drawn = path([(x + a, y + b) for a, b in shape], css, closed=True) if shape else dot(x, y, 5.2, css)
    return tag("g", {}, tag("title", {}, clean(title)), drawn) if title else drawn


def point_name(w: Words, point: Json, *, short: bool = False) -> str:
    """`decision tree, 8 leaves`, or `tree 8` beside a mark."""
    family, size = point["family"], point["size"]
    if short:
        plain = w(f"tradeoff.short.{family}") if w.has(f"tradeoff.short.{family}") else clean(family)
        return plain if size is None else f"{plain} {size}"
    whole = family_name(w, family)
    if size is None:
        return whole
    key = f"tradeoff.setting.{point['size_name']}"
    setting = w(key, {"size": w.number(size)}) if w.has(key) else f"{clean(point['size_name'])} {w.number(size)}"
    return f"{whole}{w('number.comma')}{setting}"


def family_name(w: Words, family: str) -> str:
    return w(f"kind.{family}") if w.has(f"kind.{family}") else clean(family)


def _pieces(w: Words, point: Json, size: str) -> str:
    return w(f"tradeoff.pieces.{size}", {"count": count_text(w, point["units"][size]["value"])})


def count_text(w: Words, value: float) -> str:
    """A mean of counts: whole from ten on, otherwise with one decimal where it has one."""
    return w.number(round(value)) if value >= 10 or value == round(value) else w.number(round(value, 1), 2)


def frontier_keys(w: Words, record: Json) -> Markup:
    """What the marks mean: one shape a family, filled and hollow, the line."""
    families: dict[str, Json] = {}
    for p in record["points"]:
        families.setdefault(p["family"], p)
    keys = [(_sample(_mark(p, 8, 8, filled=True)), family_name(w, f)) for f, p in families.items()]
    grey, apart = {"family": "additive"}, any(p["front"]["whole"] and not p["readable"] for p in record["points"])
    keys += [
        (
            _sample(join([path([(0, 8), (16, 8)], "front"), _mark(grey, 8, 8, filled=True)]), "grey"),
            w("tradeoff.state.front"),
        ),
        *([(_sample(path([(0, 8), (16, 8)], "front readable")), w("tradeoff.key.readable"))] if apart else []),
        (_sample(_mark(grey, 8, 8, filled=False), "grey"), w("tradeoff.key.hollow")),
        (_sample(line(8, 1, 8, 15, "whisker family-additive"), "grey"), w("tradeoff.key.interval")),
    ]
    return tag("p", {"class": "keys"}, join([tag("span", {}, sample, text) for sample, text in keys]))


def _sample(drawn: Markup, css: str = "") -> Markup:
    attributes = {
        "viewBox": "0 0 16 16",
        "width": "16",
        "height": "16",
        "class": f"fig {css}".strip(),
        "aria-hidden": "true",
    }
    return tag("svg", attributes, drawn)
