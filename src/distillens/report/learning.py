"""How the networks of a run learnt: losses by epoch, with the epoch whose weights were kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from distillens.report.figures import finite
from distillens.report.svg import Axis, clean, dot, figure, line, path, words
from distillens.report.words import Words, name

Json = Mapping[str, Any]
Line = tuple[str, str, list[tuple[int, float]]]  # what it is, its class, (epoch, loss)

MOST_POINTS = 300  # of one line; longer trainings are thinned, the kept epoch never
DECADES = 20.0  # a loss that falls by more is drawn on a logarithmic axis
TOTALS = ("epoch", "train", "validation")


def curves(w: Words, p: Json) -> list[tuple[Markup, Markup]]:
    """[(caption, figure)] of every network with a history: teacher, students (the chosen one first), the same students without a teacher.

    A network whose training loss has several terms has a second figure for them.
    """
    chosen = p["chosen"]["id"] if p["chosen"] else None
    models: list[tuple[Markup, str, Json, Json]] = []
    if p["teacher"]:
        teacher = p["teacher"]
        models.append((Markup("{}").format(w("role.teacher")), "teacher", teacher, teacher.get("settings") or {}))
    for sid in sorted(p["students"], key=lambda s: (s != chosen, s)):
        settings = p["students"][sid].get("settings") or {}
        models.append((w.html("learning.student", {"id": name(sid)}), "student", p["students"][sid], settings))
        alone = p["controls"].get(f"{sid}.undistilled")
        if alone:  # the same family with the same settings
            models.append((w.html("learning.undistilled", {"id": name(sid)}), "control", alone, settings))
    out = []
    for model, role, record, settings in models:
        history = [h for h in record.get("history") or () if finite(h.get("validation")) is not None]
        if not history:
            continue
        kept, plain = kept_epoch(history, str(settings.get("keep", "best"))), model.striptags()
        for key, drawn in (("total", _total(w, history, role, kept, plain)), ("terms", _terms(w, history, kept, plain))):  # fmt: skip
            if drawn:
                out.append((w.html(f"learning.{key}", {"model": model}), drawn))
    return out


def kept_epoch(history: Sequence[Json], keep: str) -> int:
    """The epoch whose weights were kept: the last, or the first of the smallest validation loss; the last where it never changed."""
    losses = [float(h["validation"]) for h in history]
    if keep == "last" or len(set(losses)) == 1:
        return int(history[-1]["epoch"])
    return int(history[losses.index(min(losses))]["epoch"])


def _total(w: Words, history: Sequence[Json], role: str, kept: int, title: str) -> Markup:
    lines: list[Line] = [
        (w(f"learning.{key}"), f"{css} {role}", _points(history, key, kept))
        for key, css in (("train", "train"), ("validation", "validation"))
    ]
    return _figure(w, [one for one in lines if one[2]], kept, w("learning.figure", {"model": title}), len(history))


def _terms(w: Words, history: Sequence[Json], kept: int, title: str) -> Markup:
    keys = list(dict.fromkeys(k for h in history for k in h if k not in TOTALS))
    if len(keys) < 2:
        return Markup("")
    lines: list[Line] = [
        (w(f"learning.{key}") if w.has(f"learning.{key}") else clean(key.replace("_", " ")), f"loss-term d{i % 4}", _points(history, key, kept))
        for i, key in enumerate(keys)
    ]  # fmt: skip
    return _figure(
        w, [one for one in lines if one[2]], kept, w("learning.terms_figure", {"model": title}), len(history)
    )


def _points(history: Sequence[Json], key: str, kept: int) -> list[tuple[int, float]]:
    every = math.ceil(len(history) / MOST_POINTS)
    known = [(int(h["epoch"]), finite(h.get(key))) for h in history]
    last = known[-1][0]
    return [(e, v) for i, (e, v) in enumerate(known) if v is not None and (i % every == 0 or e in (kept, last))]


def _figure(
    w: Words, lines: Sequence[Line], kept: int, title: str, epochs_run: int, *, width: float = 410, height: float = 190
) -> Markup:
    values = [v for _, _, points in lines for _, v in points]
    logarithmic = min(values) > 0 and max(values) / min(values) > DECADES
    at = math.log10 if logarithmic else float
    y = Axis.around([at(v) for v in values], height - 34, 16)
    epochs = [e for _, _, points in lines for e, _ in points]
    x = Axis(min(epochs), max(max(epochs), min(epochs) + 1), 44, width - 88)
    parts = [line(x.start, y.start, x.end, y.start, "axis")]
    for place, text in _ticks(w, y, logarithmic):
        parts += [line(x.start, place, x.end, place, "grid"), words(x.start - 5, place + 3.5, text, "t tick", anchor="end", size=10)]  # fmt: skip
    whole = [t for t in x.ticks(5) if t == round(t) and min(epochs) <= t <= max(epochs)] or [float(epochs[0])]
    parts += [words(x(t), y.start + 13, w.number(int(t)), "t tick", anchor="middle", size=10) for t in whole]
    parts.append(words((x.start + x.end) / 2, height - 6, w("learning.epoch"), "t muted", anchor="middle", size=10))
    anchor = "start" if x(kept) <= x.start + 40 else "end" if x(kept) >= x.end - 20 else "middle"
    parts.append(line(x(kept), 14, x(kept), y.start, "kept-epoch"))
    parts.append(words(x(kept), 10, w("learning.kept", {"epoch": w.number(kept)}), "t label", anchor=anchor, size=10))
    ends = []
    for label, css, points in lines:
        places = [(x(e), y(at(v))) for e, v in points]
        parts.append(path(places, f"loss {css}") if len(places) > 1 else dot(*places[0], 3, f"loss-dot {css}"))
        ends.append((places[-1][1], label, css))
        parts += [dot(x(e), y(at(v)), 3.2, f"loss-dot {css}") for e, v in points if e == kept]
    for place, label, css in _apart(ends):
        parts.append(words(x.end + 7, place + 3.5, label, f"t label {css}", limit=80, size=10))
    changes = [
        f"{label} {w.number(points[0][1])} → {w.number(dict(points).get(kept, points[-1][1]))}"
        for label, _, points in lines
    ]
    values_said = {"epochs": w.number(epochs_run), "kept": w.number(kept), "lines": w.list(changes)}
    spoken = w("learning.spoken", values_said)
    return figure(width, height, title, spoken, parts, css="learning")


def _ticks(w: Words, y: Axis, logarithmic: bool) -> list[tuple[float, str]]:
    if not logarithmic:
        return [(y(t), w.exact(t)) for t in y.ticks(4)]
    powers = [p for p in range(math.floor(y.low), math.ceil(y.high) + 1) if y.low <= p <= y.high]
    return [(y(p), w.exact(10.0**p)) for p in powers]


def _apart(ends: Sequence[tuple[float, str, str]], gap: float = 12) -> list[tuple[float, str, str]]:
    """Labels from top to bottom, moved down until none covers the one above."""
    out: list[tuple[float, str, str]] = []
    for place, label, css in sorted(ends):
        out.append((max(place, out[-1][0] + gap) if out else place, label, css))
    return out
