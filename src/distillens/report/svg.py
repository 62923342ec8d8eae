"""SVG elements as escaped text, a linear axis, and how wide a label will be.

Every text that reaches the page goes through `tag` and is escaped there: feature, class and file names are user input.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup, escape

Attributes = Mapping[str, str | float | int]

BIDI_ISOLATE = "\u2068{}\u2069"  # a right-to-left name must not turn its neighbours around


def clean(text: object) -> str:
    """Text without control characters (a line break becomes a space), so that it can be shown in one line."""
    return "".join(
        " " if c in "\t\n\r" else "\ufffd" if unicodedata.category(c) in {"Cc", "Cs"} else c for c in str(text)
    )


def tag(name: str, attributes: Attributes, *children: object) -> Markup:
    """One element; attributes and text are escaped, children that are Markup already are kept."""
    pairs = "".join(f' {key}="{escape(number(value))}"' for key, value in attributes.items())
    inner = "".join(str(escape(child)) for child in children)
    return Markup(f"<{name}{pairs}>{inner}</{name}>") if inner else Markup(f"<{name}{pairs}/>")


def number(value: str | float | int) -> str:
    """A coordinate with one decimal at most; text as it is."""
    if isinstance(value, str):
        return value
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text


def join(parts: list[Markup]) -> Markup:
    return Markup("").join(parts)


def figure(width: float, height: float, title: str, description: str, parts: list[Markup], *, css: str = "") -> Markup:
    """An inline SVG that scales with its column, with a title and a description for those who do not see it."""
    head = [tag("title", {}, clean(title)), tag("desc", {}, clean(description))]
    attributes: Attributes = {
        "viewBox": f"0 0 {number(width)} {number(height)}", "width": width, "height": height,
        "class": f"fig {css}".strip(), "role": "img", "aria-label": clean(f"{title}. {description}"),
    }  # fmt: skip
    return tag("svg", attributes, join(head), join(parts))


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    return tag("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": css})


def box(x: float, y: float, width: float, height: float, css: str, *, radius: float = 0) -> Markup:
    """A rectangle; a negative width or height is turned around."""
    attributes: dict[str, str | float | int] = {
        "x": min(x, x + width), "y": min(y, y + height), "width": abs(width), "height": abs(height), "class": css,
    }  # fmt: skip
    return tag("rect", attributes | ({"rx": radius} if radius else {}))


def dot(x: float, y: float, r: float, css: str) -> Markup:
    return tag("circle", {"cx": x, "cy": y, "r": r, "class": css})


def path(points: list[tuple[float, float]], css: str, *, closed: bool = False) -> Markup:
    d = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in points) + ("Z" if closed else "")
    return tag("path", {"d": d, "class": css})


def words(
    x: float, y: float, text: object, css: str = "", *, anchor: str = "start", limit: float = math.inf, size: float = 11
) -> Markup:
    """A text of at most `limit` pixels; what was cut off can be read by hovering."""
    full = clean(text)
    shown = shorten(full, limit, size)
    attributes: Attributes = {"x": x, "y": y, "class": css or "t", "text-anchor": anchor}
    if shown != full:
        return tag("text", attributes, tag("title", {}, full), BIDI_ISOLATE.format(shown))
    return tag("text", attributes, BIDI_ISOLATE.format(shown) if not shown.isascii() else shown)


def text_width(text: str, size: float = 11) -> float:
    """Approximate width in pixels: wide (CJK, emoji) characters count one em, others a little more than half."""
    return sum(
        size if unicodedata.east_asian_width(c) in "WF" else size * (0.68 if c in "MWmw%@" else 0.56) for c in text
    )


def shorten(text: str, limit: float, size: float = 11) -> str:
    """The text itself when it fits into `limit` pixels, otherwise its beginning and an ellipsis."""
    if text_width(text, size) <= limit:
        return text
    kept, room = "", limit - size
    for character in text:
        room -= text_width(character, size)
        if room < 0:
            break
        kept += character
    return kept.rstrip() + "…"


@dataclass(frozen=True)
class Axis:
    """Maps values low…high linearly to pixels start…end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, count: int = 4) -> list[float]:
        """About `count` round values inside the axis."""
        step = nice_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]

    @classmethod
    def around(
        cls, values: list[float], start: float, end: float, *, floor: float = -math.inf, ceiling: float = math.inf
    ) -> Axis:
        """An axis that holds all the finite values with a margin, inside floor…ceiling."""
        finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
        low, high = max(floor, low - margin), min(ceiling, high + margin)
        return cls(low, high if high > low else low + 1.0, start, end)


def nice_step(rough: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
