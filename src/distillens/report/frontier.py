"""The frontier of fidelity against what a person must read: a table, answers, a section of the passport, files of its own.

Everything here is told from `frontier.json` (frontier.schema.json); nothing is computed anew. The figure is in frontier_figure.py.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from distillens.report.frontier_figure import (
    TEMPLATES,
    count_text,
    family_name,
    frontier_css,
    frontier_figure,
    frontier_keys,
    point_name,
)
from distillens.report.svg import join, tag
from distillens.report.words import Words
from distillens.store import write_json, write_text

Json = Mapping[str, Any]

SIZES = ("whole", "decision")  # pieces of the whole model; pieces of one decision
MEASURES = ("fidelity", "performance")
STABILITIES = ("features", "parts", "partition", "importance", "decisions")


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────────────────
def state(point: Json, size: str = "whole") -> str:
    """front, within (not on it, and not clearly behind it), behind."""
    return "front" if point["front"][size] else "behind" if point["dominated_by"][size] else "within"


def frontier_table(w: Words, record: Json) -> dict[str, Any]:
    """Columns and rows of text, smallest model first: what a terminal or a page prints.

    {columns: [{key, title, right}], rows: [{key: text, "front": bool, "readable": bool, "id": …}]}
    """
    names = {m: record[m] for m in MEASURES if record[m] is not None}
    columns = [("student", w("tradeoff.column.student"), False), ("state", w("tradeoff.column.state"), False),
               ("decision", w("tradeoff.column.decision"), True), ("whole", w("tradeoff.column.whole"), True)]  # fmt: skip
    columns += [(m, w.metric(about["metric"]), False) for m, about in names.items()]
    columns += [("spread", w("tradeoff.column.spread"), True)]
    held = [s for s in STABILITIES if any((p["stability"] or {}).get(s) for p in record["points"])]
    columns += [(s, w(f"tradeoff.column.{s}"), True) for s in held]
    rows = []
    for p in sorted(record["points"], key=lambda p: (p["units"]["whole"]["value"], p["id"])):
        spread = p["spread"]["resamples"] or p["spread"]["seeds"]
        row: dict[str, Any] = {
            "id": p["id"], "front": p["front"]["whole"], "readable": p["readable"], "student": point_name(w, p),
            "state": w(f"tradeoff.state.{state(p)}"), "decision": count_text(w, p["units"]["decision"]["value"]),
            "whole": count_text(w, p["units"]["whole"]["value"]), "spread": "—" if spread is None else w.value(spread["sd"], _unit(record)),
        }  # fmt: skip
        row |= {m: w.estimate(p[m].get(about["metric"]), about["unit"], rows=False) for m, about in names.items()}
        found = p["stability"] or {}
        row |= {s: w.number(found[s]["value"], 2) if found.get(s) else "—" for s in held}
        rows.append(row)
    return {"columns": [{"key": k, "title": t, "right": r} for k, t, r in columns], "rows": rows}


def _unit(record: Json) -> str:
    return str(record["fidelity"]["unit"])


def frontier_answers(w: Words, record: Json) -> list[str]:
    """How readable the student can be, as sentences: at the same fidelity, and at the same performance."""
    named = {p["id"]: p for p in record["points"]}
    out = []
    for measure, found in record["answers"].items():
        about = record[measure]
        margin = w.exact(found["margin"])
        if about["unit"] == "share":
            margin = w("gate.points", {"points": w.exact(round(100 * found["margin"], 6))})
        values = {"measure": w.metric(about["metric"]), "margin": margin,
                  "best": w("role.teacher") if found["best"] == "teacher" else point_name(w, named[found["best"]])}  # fmt: skip
        for kind in ("shown", "possible"):
            if found[kind] is None:
                out.append(w(f"tradeoff.answer.no_{kind}", values))
                continue
            p = named[found[kind]]
            given = {"student": point_name(w, p), "whole": count_text(w, p["units"]["whole"]["value"]),
                     "decision": count_text(w, p["units"]["decision"]["value"])}  # fmt: skip
            if kind == "shown" or found[kind] != found["shown"]:  # said already
                out.append(w(f"tradeoff.answer.{'best' if found[kind] == found['best'] else kind}", values | given))
    return out


def frontier_block(w: Words, record: Json) -> Markup:
    """All of it as one fragment for a page with the style of `page.css` and `frontier_css`: lead, figures, table, notes."""
    n, seeds = w.number(record["rows"]["n"]), w.number(record["seeds"])
    lead = tag("p", {}, w.html("tradeoff.lead", {"n": n, "seeds": seeds, "queries": w.number(record["queries"])}))
    answers = tag("ul", {"class": "plain"}, join([tag("li", {}, text) for text in frontier_answers(w, record)]))
    figures = [_captioned(frontier_figure(w, record, size=size), w(f"tradeoff.caption.{size}")) for size in SIZES]
    if record["performance"] is not None:
        figures.append(_captioned(frontier_figure(w, record, measure="performance"), w("tradeoff.caption.performance")))
    table = frontier_table(w, record)
    head = join(
        [tag("th", {"scope": "col"} | ({"class": "r"} if c["right"] else {}), c["title"]) for c in table["columns"]]
    )
    named = {p["id"]: p for p in record["points"]}
    body = []
    for row in table["rows"]:
        cells = [tag("th", {"scope": "row", "class": "num"}, point_name(w, named[row["id"]], short=True))]
        for c in table["columns"][1:]:
            about = record[c["key"]] if c["key"] in MEASURES else None
            e = None if about is None else named[row["id"]][c["key"]].get(about["metric"])
            text: object = row[c["key"]]
            if about is not None and e is not None and e.get("value") is not None:
                interval = tag("span", {"class": "ci"}, w.span(e["low"], e["high"], about["unit"]))
                text = Markup("{} {}").format(w.value(e["value"], about["unit"]), interval)
            cells.append(tag("td", {"class": "r num"} if c["right"] else {"class": "num"} if e else {}, text))
        body.append(tag("tr", {"class": "chosen"} if row["front"] else {}, join(cells)))
    caption = tag("caption", {}, w("tradeoff.caption.table"))
    grid = tag("table", {"class": "wide"}, caption, tag("thead", {}, tag("tr", {}, head)), tag("tbody", {}, join(body)))
    notes = [
        w("tradeoff.note.rows"),
        w("tradeoff.note.choice"),
        w("tradeoff.note.stability"),
        w("tradeoff.note.pieces"),
    ]
    notes += [w("tradeoff.note.left_out", {"family": family_name(w, x["family"])}) for x in record["left_out"]]
    last = join([tag("p", {"class": "note"}, text) for text in notes])
    return join(
        [lead, answers, figures[0], frontier_keys(w, record), *figures[1:], tag("div", {"class": "scroll"}, grid), last]
    )


def _captioned(drawn: Markup, caption: str) -> Markup:
    return tag("figure", {"class": "wide"}, drawn, tag("figcaption", {}, caption)) if drawn else Markup("")


# ── files of their own ──────────────────────────────────────────────────────────────────────────────────────────────
def frontier_page(record: Json, *, language: str = "en") -> str:
    """One self-contained HTML page; light and dark as the reader's system is."""
    w = Words(language)
    title = w("tradeoff.title", {"name": record["name"]})
    css = Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")) + frontier_css()
    block = frontier_block(w, record)
    return (
        Markup('<!doctype html>\n<html lang="{}"><head><meta charset="utf-8"><title>{}</title>').format(w("tradeoff.lang"), title)
        + Markup('<meta name="viewport" content="width=device-width,initial-scale=1"><style>')
        + css
        + Markup("body{{display:block}}main{{margin:0 auto}}</style></head><body><main><h1>{}</h1>{}</main></body></html>\n").format(title, block)
    )  # fmt: skip


def frontier_svg(record: Json, *, language: str = "en", size: str = "whole") -> str:
    """The main figure as a file: its style inside, readable where no page gives it colours."""
    drawn = frontier_figure(Words(language), record, size=size)
    if not drawn:
        return ""
    head, _, rest = str(drawn).partition(">")
    style = (TEMPLATES / "frontier-alone.css").read_text(encoding="utf-8") + frontier_css()
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{style}</style>{rest}\n'


def frontier_csv(record: Json) -> str:
    """One line a point: pieces, fidelity and performance with intervals, spread, stability, whether it stands on the front."""
    lines = []
    for p in record["points"]:
        line: dict[str, Any] = {key: p[key] for key in ("id", "family", "size", "size_name", "readable")}
        line |= {f"pieces_{size}": p["units"][size]["value"] for size in SIZES}
        for measure in MEASURES:
            for metric, e in p[measure].items():
                line |= {metric: e["value"], f"{metric}_low": e["low"], f"{metric}_high": e["high"]}
        line |= {f"sd_{by}": (p["spread"][by] or {}).get("sd") for by in ("seeds", "resamples")}
        line |= {f"same_{s}": ((p["stability"] or {}).get(s) or {}).get("value") for s in STABILITIES}
        line |= {f"front_{size}": p["front"][size] for size in SIZES}
        lines.append(line | {f"behind_{size}": " ".join(p["dominated_by"][size]) for size in SIZES})
    out = io.StringIO()
    table = csv.DictWriter(out, list(lines[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    return out.getvalue()


def write_frontier(record: Json, folder: Path, *, languages: Sequence[str] = ("en",)) -> list[Path]:
    """Write frontier.json, .csv, .svg and one page a language (frontier.html is English, frontier.zh.html Chinese); returns the paths."""
    paths = {
        folder / "frontier.csv": frontier_csv(record),
        folder / "frontier.svg": frontier_svg(record, language=languages[0]),
    }
    for language in languages:
        paths[folder / f"frontier{'' if language == 'en' else '.' + language}.html"] = frontier_page(
            record, language=language
        )
    for place, text in paths.items():
        write_text(place, text)
    write_json(folder / "frontier.json", record)
    return [folder / "frontier.json", *paths]


def front_words(record: Json) -> str:
    """The front in one line of a terminal."""
    metric = record["fidelity"]["metric"]
    on = sorted((p for p in record["points"] if p["front"]["whole"]), key=lambda p: p["units"]["whole"]["value"])
    ends = [p["fidelity"][metric]["value"] for p in on]
    names = ", ".join(p["id"] for p in on)
    return f"{len(record['points'])} students on validation · {metric.replace('_', ' ')} {ends[0]:.3g} to {ends[-1]:.3g} on the front: {names}"
