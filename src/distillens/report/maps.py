"""Reasons of image models as maps over the patches of the picture: teacher | student | difference, on one scale.

Sizes (mean |φ|) go from nothing to full ink, signed values and differences around zero in two hues whose steps also carry + or −, so that
neither colour vision nor a colour printer is needed. Every cell says its number on hovering, the description names the largest, and
the page has the numbers of the overall maps as a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from distillens.report.reasons import signed
from distillens.report.svg import Attributes, box, clean, figure, tag, words
from distillens.report.words import Words

Json = Mapping[str, Any]

INKS = 8  # steps of a size, beyond none
STEPS = 5  # steps of each sign, beyond none
PANEL, GAP, TOP = 190.0, 26.0, 22.0
NAMED = 3  # patches named in a description


@dataclass(frozen=True)
class Patches:
    """Where the patches of a picture lie in a panel: `down` × `across` squares of `side` pixels, cut at the picture's edges."""

    down: int
    across: int
    side: int
    height: int
    width: int

    @classmethod
    def of(cls, reasons: Json) -> Patches:
        _, height, width = reasons["image"]
        down, across = reasons["grid"]
        return cls(down, across, reasons["patch"], height, width)

    @property
    def scale(self) -> float:
        return PANEL / max(self.height, self.width)

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of a panel."""
        return self.width * self.scale, self.height * self.scale

    def cell(self, unit: int) -> tuple[float, float, float, float]:
        """x, y, width and height of a patch, from the panel's corner."""
        row, column = divmod(unit, self.across)
        x, y = column * self.side, row * self.side
        wide, high = min(self.side, self.width - x), min(self.side, self.height - y)
        return x * self.scale, y * self.scale, wide * self.scale, high * self.scale


def patch_name(w: Words, unit: int, across: int) -> str:
    """`row 2 column 3` in the language of the page, counted from the upper left."""
    row, column = divmod(unit, across)
    return w("maps.patch", {"row": row + 1, "column": column + 1})


def ink(value: float, reach: float) -> str:
    """The class of a size from 0 to `reach`: i0 … i8."""
    return f"i{round(INKS * min(1.0, max(0.0, value / reach)))}"


def hue(value: float, reach: float) -> str:
    """The class of a signed value: z below a twentieth of `reach`, otherwise p1 … p5 or n1 … n5."""
    step = math.ceil(STEPS * min(1.0, abs(value) / reach) - 0.25)
    return "z" if step <= 0 else f"{'p' if value > 0 else 'n'}{step}"


def overall_maps(w: Words, reasons: Json) -> Markup:
    """Mean |φ| of every patch: teacher | student | difference. The three scales have one length: the largest mean of either model."""
    patches, importance = Patches.of(reasons), reasons["importance"]
    teacher, student = importance["teacher"], importance["student"]
    reach = max([*teacher, *student, 1e-12])
    gaps = [s - t for t, s in zip(teacher, student, strict=True)]
    wide, high = patches.extent
    starts = [i * (wide + GAP) for i in range(3)]
    parts = [*_panel(w, patches, starts[0], w("role.teacher"), "teacher-text", teacher, lambda v: ink(v, reach), w.number),
             *_panel(w, patches, starts[1], w("role.student"), "student-text", student, lambda v: ink(v, reach), w.number),
             *_panel(w, patches, starts[2], w("plot.difference"), "", gaps, lambda v: hue(v, reach), lambda v: signed(w, v, 3))]  # fmt: skip
    parts.append(
        words(starts[2] + wide, 13, w("maps.greatest", {"value": signed(w, max(gaps, key=abs))}), "t tick", anchor="end", size=10)
    )  # fmt: skip
    y = TOP + high + 12
    parts += [*_ink_bar(w, starts[0], y, 2 * wide + GAP, reach), *_hue_bar(w, starts[2], y, wide, reach)]
    spoken = w("maps.spoken", {"teacher": _largest(w, teacher, patches), "student": _largest(w, student, patches),
                               "difference": _largest(w, gaps, patches, sign=True)})  # fmt: skip
    return figure(starts[2] + wide, y + 30, w("maps.overall"), spoken, parts, css="patch-map")


def row_maps(w: Words, reasons: Json, row: Json, *, title: str) -> Markup:
    """One picture beside the signed reasons of both models and their difference, all three on one scale around zero."""
    patches = Patches.of(reasons)
    teacher, student = row["teacher"], row["student"]
    gaps = [s - t for t, s in zip(teacher, student, strict=True)]
    reach = max([abs(v) for v in (*teacher, *student, *gaps)] + [1e-12])
    wide, high = patches.extent
    starts = [i * (wide + GAP) for i in range(4)]
    address = f"data:image/png;base64,{row['picture']}"
    parts = [words(0, 13, w("maps.picture"), "t strong"),
             tag("image", {"href": address, "x": 0, "y": TOP, "width": wide, "height": high, "preserveAspectRatio": "none", "class": "pixels"}),
             _grid(patches, 0.0)]  # fmt: skip
    for start, name, css, values in (
        (starts[1], w("role.teacher"), "teacher-text", teacher),
        (starts[2], w("role.student"), "student-text", student),
        (starts[3], w("plot.difference"), "", gaps),
    ):
        parts += _panel(w, patches, start, name, css, values, lambda v: hue(v, reach), lambda v: signed(w, v, 3))
    y = TOP + high + 12
    parts += _hue_bar(w, starts[1], y, 3 * wide + 2 * GAP, reach, ends=True)
    spoken = w("maps.spoken_row", {"teacher": _largest(w, teacher, patches, sign=True), "student": _largest(w, student, patches, sign=True)})  # fmt: skip
    return figure(starts[3] + wide, y + 44, title, spoken, parts, css="patch-map")


def map_table(w: Words, reasons: Json) -> list[tuple[str, str, str, str]]:
    """The overall maps as text: (patch, teacher, student, difference), row by row of the picture."""
    across, importance = reasons["grid"][1], reasons["importance"]
    both = zip(importance["teacher"], importance["student"], strict=True)
    return [(patch_name(w, u, across), w.number(t), w.number(s), signed(w, s - t, 3)) for u, (t, s) in enumerate(both)]


def _largest(w: Words, values: Sequence[float], patches: Patches, *, sign: bool = False) -> str:
    order = sorted(range(len(values)), key=lambda u: -abs(values[u]))[:NAMED]
    shown = [
        f"{patch_name(w, u, patches.across)} {signed(w, values[u]) if sign else w.number(values[u], 2)}" for u in order
    ]
    return w.list(shown)


def _panel(
    w: Words,
    patches: Patches,
    x: float,
    name: str,
    css: str,
    values: Sequence[float],
    shade: Callable[[float], str],
    said: Callable[[float], str],
) -> list[Markup]:
    """One map with its name above; each patch says its number on hovering, and a signed one its sign."""
    parts = [words(x, 13, name, f"t strong {css}".strip())]
    for unit, value in enumerate(values):
        left, top, wide, high = patches.cell(unit)
        mark, css_class = "", shade(value)
        if css_class[0] in "pn":
            mark = "+" if css_class[0] == "p" else "−"
        title = tag("title", {}, clean(f"{patch_name(w, unit, patches.across)}{w('number.colon')}{said(value)}"))
        inside = [title, box(x + left, TOP + top, wide, high, f"heat {css_class}")]
        size = min(13.0, 0.5 * min(wide, high))
        if mark and size >= 5:
            at: Attributes = {"x": x + left + wide / 2, "y": TOP + top + high / 2 + size / 3, "class": f"sign {css_class}",
                  "text-anchor": "middle", "font-size": size}  # fmt: skip
            inside.append(tag("text", at, mark))
        parts.append(tag("g", {}, *inside))
    wide, high = patches.extent
    return [*parts, box(x, TOP, wide, high, "frame")]


def _grid(patches: Patches, x: float) -> Markup:
    """The borders of the patches, thin, over a picture."""
    wide, high = patches.extent
    step = patches.side * patches.scale
    d = [f"M{x + c * step:.1f} {TOP:.1f}v{high:.1f}" for c in range(1, patches.across)]
    d += [f"M{x:.1f} {TOP + r * step:.1f}h{wide:.1f}" for r in range(1, patches.down)]
    return tag("g", {}, tag("path", {"d": "".join(d), "class": "patch-grid"}), box(x, TOP, wide, high, "frame"))


def _ink_bar(w: Words, x: float, y: float, width: float, reach: float) -> list[Markup]:
    step = width / (INKS + 1)
    parts = [box(x + i * step, y, step, 9, f"heat i{i}") for i in range(INKS + 1)]
    return [*parts, box(x, y, width, 9, "frame"), words(x, y + 22, "0", "t tick", size=10),
            words(x + width, y + 22, w.number(reach, 2), "t tick", anchor="end", size=10)]  # fmt: skip


def _hue_bar(w: Words, x: float, y: float, width: float, reach: float, *, ends: bool = False) -> list[Markup]:
    shades = [*(f"n{i}" for i in range(STEPS, 0, -1)), "z", *(f"p{i}" for i in range(1, STEPS + 1))]
    step = width / len(shades)
    parts = [box(x + i * step, y, step, 9, f"heat {shade}") for i, shade in enumerate(shades)]
    parts += [box(x, y, width, 9, "frame"), words(x, y + 22, signed(w, -reach), "t tick", size=10),
              words(x + width / 2, y + 22, "0", "t tick", anchor="middle", size=10),
              words(x + width, y + 22, signed(w, reach), "t tick", anchor="end", size=10)]  # fmt: skip
    if ends:
        parts += [words(x, y + 36, f"← − {w('plot.against')}", "t muted", size=10),
                  words(x + width, y + 36, f"{w('plot.towards')} + →", "t muted", anchor="end", size=10)]  # fmt: skip
    return parts
