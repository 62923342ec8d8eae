"""Do scores and features lie as they did in development, who gets which score, and does the bad rate follow the score?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from distillens.report.svg import Axis, box, figure, line, path, words
from distillens.report.words import Words, name

Json = Mapping[str, Any]

STABLE, SHIFTED = 0.10, 0.25  # a convention of the field, no test


def stability(w: Words, audit: Json) -> dict[str, Any] | None:
    """Scores and features with their index, its interval, and what a shiftless sample would give; the largest index first."""
    found = audit.get("stability")
    if not found:
        return None
    rows = [
        {"name": w("stability.score", {"model": w(f"role.{role}")}), "own": True} | _line(w, entry)
        for role, entry in found["scores"].items()
    ]
    features = sorted(found["features"], key=lambda f: -(f["psi"].get("value") or 0.0))
    rows += [{"name": name(f["name"]), "own": False} | _line(w, f) for f in features]
    return {"rows": rows, "then": w.number(found["reference_rows"]), "now": w.number(found["rows"])}


def _line(w: Words, entry: Json) -> dict[str, Any]:
    index = entry["psi"]
    value = index.get("value") if index.get("status") == "ok" else None
    word = "none" if value is None else "stable" if value < STABLE else "some" if value < SHIFTED else "shifted"
    beyond = value is not None and value > entry["unshifted"]
    return {
        "psi": index,
        "bins": w.number(entry["bins"]),
        "unshifted": w.number(entry["unshifted"]),
        "word": word,
        "beyond": beyond,
    }


def scores(w: Words, audit: Json, student: Json | None) -> dict[str, Any] | None:
    """The score distribution of both models by true class, and the bands of the student's score (in points for a scorecard)."""
    found = audit.get("scores")
    if not found:
        return None
    described = (student or {}).get("described") or {}
    points = described if described.get("form") == "scorecard" else None
    adverse = audit["decision"]["adverse"]
    figures = [
        Markup("<figure><figcaption>{}</figcaption>{}</figure>").format(
            w(f"role.{role}"),
            distribution(
                w,
                found["edges"],
                found[role]["classes"],
                adverse=adverse,
                role=role,
                threshold=audit["decision"]["threshold"],
                points=points if role == "student" else None,
            ),
        )
        for role in ("teacher", "student")
    ]
    decided = [
        {"model": w(f"role.{role}"), "role": role} | found[role]["decided"]
        for role in ("teacher", "student")
        if found[role].get("decided")
    ]
    total = sum(b["adverse"] for b in found["student"]["bands"])
    bands, caught = [], 0
    for band in found["student"]["bands"]:
        caught += band["adverse"]
        bands.append({
            "range": _range(w, band, points), "n": w.number(band["n"]), "adverse": w.number(band["adverse"]), "rate": band["rate"],
            "predicted": w.percent(band["predicted"]), "caught": w.percent(caught / total) if total else "—",
        })  # fmt: skip
    return {
        "figures": figures,
        "decided": decided,
        "threshold": w.exact(audit["decision"]["threshold"]),
        "bands": bands,
        "adverse": name(adverse),
        "points": points is not None,
        "ordered": _falls(found["student"]["bands"]),
    }


def _falls(bands: list[Json]) -> tuple[int, int]:
    """(bands whose bad rate is above that of the riskier band before it, bands that have one before them)."""
    rates = [b["rate"]["value"] for b in bands if b["rate"].get("value") is not None]
    return sum(b > a for a, b in pairwise(rates)), max(0, len(rates) - 1)


def _range(w: Words, band: Json, points: Json | None) -> str:
    if points is None:
        low, high = _probability(band["low"]), _probability(band["high"])
        return w.span(low, high, "share")
    ends = sorted(points["offset"] - points["factor"] * z for z in (band["low"], band["high"]))
    return w.span(round(ends[0]), round(ends[1])) if ends[0] != ends[1] else w.number(round(ends[0]))


def distribution(
    w: Words, edges: list[float], classes: Mapping[str, list[float]], *, adverse: str, role: str, threshold: float, points: Json | None = None,
    width: float = 420, height: float = 190,
) -> Markup:  # fmt: skip
    """Shares of each true class along the score: the adverse class downwards, the other upwards, on one scale; dashed: the threshold."""
    axis_x = Axis(edges[0], edges[-1], 8, width - 8)
    most = max([v for shares in classes.values() for v in shares] + [1e-9])
    middle = (height - 22) / 2
    parts = []
    spoken = []
    for label, shares in classes.items():
        down = label == adverse
        for i, v in enumerate(shares):
            left, right = axis_x(edges[i]), axis_x(edges[i + 1])
            tall = v / most * (middle - 16)
            if tall > 0:
                parts.append(
                    box(
                        left + 0.5,
                        middle if down else middle - tall,
                        max(0.5, right - left - 1),
                        tall,
                        f"{role} bar{' adverse' if down else ''}",
                    )
                )
        at = height - 26 if down else 11
        parts.append(words(8, at, label, "t strong", limit=width / 2))
        mean = sum(v * (a + b) / 2 for v, a, b in zip(shares, edges, edges[1:], strict=False))
        spoken.append(f"{label}: {w('scores.centre')} {w.percent(_probability(mean))}")
    parts.append(line(8, middle, width - 8, middle, "zero"))
    limit = math.log(threshold / (1 - threshold))
    if axis_x.low < limit < axis_x.high:
        parts.append(path([(axis_x(limit), 14), (axis_x(limit), height - 22)], "diagonal"))
    for z, text in _ticks(w, edges, points):
        parts.append(words(min(max(axis_x(z), 16), width - 16), height - 8, text, "t tick", anchor="middle", size=10))
    return figure(width, height, w("scores.title", {"model": w(f"role.{role}")}), w.list(spoken), parts, css="scores")


def _ticks(w: Words, edges: list[float], points: Json | None) -> list[tuple[float, str]]:
    """Ticks of the log-odds axis: as points for a scorecard, else as probabilities."""
    if points is not None:
        ends = sorted(points["offset"] - points["factor"] * z for z in (edges[0], edges[-1]))
        return [((points["offset"] - p) / points["factor"], w.exact(p)) for p in Axis(ends[0], ends[1], 0, 1).ticks(6)]
    shares = (0.005, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 0.995)
    return [
        (z, w.percent(p, exact=True)) for p in shares for z in [math.log(p / (1 - p))] if edges[0] <= z <= edges[-1]
    ]


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))
