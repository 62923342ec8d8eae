"""Shape functions of an additive student: one small figure a feature and output, pairs of features as heat maps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distillens.report.points import bin_text
from distillens.report.reasons import signed
from distillens.report.svg import Axis, box, figure, line, path, tag, words
from distillens.report.words import Words, name

Json = Mapping[str, Any]

MOST_FIGURES, MOST_PAIRS = 72, 12
LEVELS = 4  # shades of each sign in a heat map
BAND = 2.0  # standard deviations over the refits


def shapes(w: Words, d: Json) -> dict[str, Any]:
    """`groups`, one an output: figures of single features and heat maps of pairs. All figures of a student share one vertical scale.

    Where there are so many outputs that more than `MOST_FIGURES` would be drawn, every output loses its least important features.
    """
    outputs = len(d["outputs"])
    singles = [t for t in d["terms"] if len(t["features"]) == 1]
    pairs = [t for t in d["terms"] if len(t["features"]) == 2]
    most = max(1, MOST_FIGURES // outputs)
    drawn = [[_shape(t, k) for t in singles[:most]] for k in range(outputs)]
    ends = [v for shapes_ in drawn for s in shapes_ for key in ("y", "low", "high") for v in s[key] or ()]
    reach = (min([0.0, *ends]), max([1e-9, *ends]))
    groups = [
        {
            "output": name(output) if output != "value" else w("answer.value"),
            "figures": [shape_function(w, s, reach) for s in drawn[k]],
            "maps": [heat_map(w, t, k) for t in pairs[: max(1, MOST_PAIRS // outputs)]],
        }
        for k, output in enumerate(d["outputs"])
    ]
    return {
        "groups": groups, "singles": len(singles), "shown": min(most, len(singles)), "pairs": len(pairs),
        "uncertain": any(s["low"] is not None for s in drawn[0]),
    }  # fmt: skip


def _of(values: Any, output: int) -> list[float]:
    """The numbers of one output, whether or not outputs have an axis of their own."""
    return [float(v[output]) if isinstance(v, list) else float(v) for v in values]


def _shape(term: Json, output: int) -> Json:
    """One shape function without its bins for missing and unseen values, which have no place on the axis."""
    feature, y = term["features"][0], _of(term["scores"], output)[1:-1]
    spread = _of(term["spread"], output)[1:-1] if term.get("spread") is not None else None
    low = [v - BAND * s for v, s in zip(y, spread, strict=True)] if spread else None
    high = [v + BAND * s for v, s in zip(y, spread, strict=True)] if spread else None
    cuts = [float(c) for c in feature.get("cuts") or ()]
    shape = {"name": feature["name"], "y": y, "low": low, "high": high}
    if feature["kind"] == "numeric" and cuts:
        first, last = feature.get("bounds") or (-math.inf, math.inf)
        return shape | {"kind": "numeric", "x": [min(float(first), cuts[0]), *cuts, max(float(last), cuts[-1])]}
    return shape | {"kind": "categorical", "x": feature["bins"][1:-1]}


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
    banded = shape.get("low") is not None and shape.get("high") is not None
    if shape["kind"] == "numeric" and len(x) == len(y) + 1:  # steps between edges
        edges = _finite_edges([float(v) for v in x])
        axis_x = (
            Axis(edges[0], edges[-1], 36, width - 6)
            if edges[-1] > edges[0]
            else Axis(edges[0], edges[0] + 1, 36, width - 6)
        )
        if banded:
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
            if banded:
                parts.append(line(centre, axis_y(shape["low"][i]), centre, axis_y(shape["high"][i]), "whisker"))
            parts.append(words(centre, height - 16, str(i + 1), "t tick", anchor="middle", size=9))
        spoken = w.list([f"{level}: {signed(w, v)}" for level, v in zip(levels, y, strict=False)][:40])
    made = figure(width, height - 10, shape["name"], spoken, parts, css="shape-function")
    if shape["kind"] == "numeric" and len(x) == len(y) + 1:
        return made
    key = Markup("").join(
        Markup("<li><div><span>{}</span><span class='num'>{}</span></div></li>").format(name(level), signed(w, v))
        for level, v in zip(levels, y, strict=False)
    )
    return made + Markup('<ol class="key">{}</ol>').format(key)


def _finite_edges(edges: list[float]) -> list[float]:
    """Open ends (−∞, ∞) are drawn one step beyond the last cut."""
    inner = [e for e in edges if math.isfinite(e)] or [0.0, 1.0]
    step = (inner[-1] - inner[0]) / max(1, len(inner) - 1) or 1.0
    return [e if math.isfinite(e) else (inner[0] - step if i == 0 else inner[-1] + step) for i, e in enumerate(edges)]


# ── pairs ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def heat_map(w: Words, term: Json, output: int = 0, *, width: float = 420) -> Markup:
    """What a pair of features adds together, beside what each adds alone: a cell a combination of bins, in four shades of each sign.

    Bins are drawn equally wide; those for missing and unseen values are left out, as in the shape functions.
    """
    rows, columns = (dict(f) for f in term["features"])
    cells = [_of(row, output)[1:-1] for row in term["scores"][1:-1]]
    if columns["kind"] == "categorical" and rows["kind"] != "categorical":  # names need the room at the side
        rows, columns, cells = columns, rows, [list(c) for c in zip(*cells, strict=True)]
    ys, xs = ([bin_text(w, str(b)) for b in f["bins"][1:-1]] for f in (rows, columns))
    reach = max([abs(v) for row in cells for v in row] + [1e-12])
    left, top = 132.0, 34.0
    tall = 20.0 if len(ys) <= 14 else 280.0 / len(ys)
    wide, high = (width - left - 6) / max(1, len(xs)), tall
    bottom = top + high * len(ys)
    parts: list[Markup] = [
        words(left, 12, columns["name"], "t strong", limit=width - left),
        words(0, 26, rows["name"], "t strong", limit=left + 100),
    ]
    shades: dict[str, list[str]] = {}
    for i, row in enumerate(cells):
        for start, stop, shade in _runs([_shade(v, reach) for v in row]):
            x, y = left + start * wide, top + i * high
            shades.setdefault(shade, []).append(f"M{x:.1f} {y:.1f}h{(stop - start) * wide:.1f}v{high:.1f}H{x:.1f}z")
    parts += [tag("path", {"d": "".join(d), "class": f"heat {shade}"}) for shade, d in sorted(shades.items())]
    parts.append(
        tag("path", {"d": f"M{left:.1f} {top:.1f}H{width - 6:.1f}V{bottom:.1f}H{left:.1f}z", "class": "frame"})
    )
    if wide >= 34 and high >= 15:
        parts += [
            words(left + (j + 0.5) * wide, top + (i + 0.5) * high + 3.5, signed(w, v, 1), f"t value {_shade(v, reach)}", anchor="middle", size=9)
            for i, row in enumerate(cells) for j, v in enumerate(row)
        ]  # fmt: skip
    for at in _spaced(len(ys), high, 13):
        parts.append(
            words(left - 5, top + (at + 0.5) * high + 3.5, ys[at], "t tick", anchor="end", limit=left - 8, size=10)
        )
    if columns["kind"] == "numeric" and columns.get("cuts"):
        for at in _spaced(len(columns["cuts"]), wide, 44):
            x = left + (at + 1) * wide
            cut = w.exact(float(f"{columns['cuts'][at]:.4g}"))
            parts += [
                line(x, bottom, x, bottom + 4, "axis"),
                words(x, bottom + 15, cut, "t tick", anchor="middle", size=10),
            ]
    else:
        for at in range(len(xs)):
            x = left + (at + 0.5) * wide
            parts.append(
                tag(
                    "g",
                    {"transform": f"translate({x:.1f} {bottom + 12:.1f}) rotate(-28)"},
                    words(0, 0, xs[at], "t tick", anchor="end", limit=88, size=10),
                )
            )
    title = f"{rows['name']} × {columns['name']}"
    ranked = sorted((v, ys[i], xs[j]) for i, row in enumerate(cells) for j, v in enumerate(row))
    spoken = w.list([f"{y} / {x}: {signed(w, v)}" for v, y, x in (ranked[0], ranked[-1])]) if ranked else ""
    height = bottom + (22 if columns["kind"] == "numeric" else 58)
    return figure(width, height, title, spoken, parts, css="heat-map")


def _shade(value: float, reach: float) -> str:
    """p1…p4 for positive, n1…n4 for negative values, z near zero."""
    level = math.ceil(LEVELS * abs(value) / reach - 0.5)
    return "z" if level <= 0 else f"{'p' if value > 0 else 'n'}{min(LEVELS, level)}"


def _runs(shades: Sequence[str]) -> list[tuple[int, int, str]]:
    """(start, stop, shade) of equal neighbours."""
    runs: list[tuple[int, int, str]] = []
    for at, shade in enumerate(shades):
        if runs and runs[-1][2] == shade:
            runs[-1] = (runs[-1][0], at + 1, shade)
        else:
            runs.append((at, at + 1, shade))
    return runs


def _spaced(count: int, step: float, room: float) -> range:
    """Places of so many labels that each has `room` pixels."""
    return range(0, count, max(1, math.ceil(room / step)))
