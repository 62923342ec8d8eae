"""A scorecard as its points table, the way a bank prints one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from distillens.report.reasons import signed
from distillens.report.words import Words, name

Json = Mapping[str, Any]

MOST_FEATURES = 40


def scorecard(w: Words, d: Json, attributes: Sequence[Json] | None = None) -> dict[str, Any]:
    """The card of a described scorecard: features with their bins and points, the scale, and what rounding cost.

    attributes: rows and labels of each line on the audited rows, from the audit.
    """
    known = {a["feature"]: a["bins"] for a in attributes or ()}
    features = [
        {
            "name": name(f["name"]), "name_key": f["name"], "iv": w.number(f["iv"]), "coefficient": w.number(f["coefficient"]),
            "bins": [
                _bin(w, b, integer=d["integer"]) | {"audited": known[f["name"]][at] if f["name"] in known else None}
                for at, b in enumerate(f["bins"])
                if b["share"] > 0
            ],
        }
        for f in d["features"][:MOST_FEATURES]
    ]  # fmt: skip
    reach = max([abs(b["points"]) for f in d["features"] for b in f["bins"]] + [1e-9])
    scale = {
        "base": w.exact(d["base_score"]), "odds": w.exact(d["base_odds"]), "pdo": w.exact(d["pdo"]),
        "good": name(d["good"]), "adverse": name(d["adverse"]),
    }  # fmt: skip
    out = {
        "features": features, "total": len(d["features"]), "reach": reach, "audited": bool(known), "adverse": name(d["adverse"]),
        "base_points": _points(w, d["base_points"], integer=d["integer"]),
        "scale_text": w.html("scorecard.scale", scale),
        "formula": w.html("scorecard.formula", {"good": name(d["good"]), "offset": w.number(d["offset"], 5), "factor": w.number(d["factor"], 5)}),
        "range_text": w("scorecard.range", {"low": w.number(round(d["lowest_score"])), "high": w.number(round(d["highest_score"]))}),
        "rounding": "", "left_out": [],
    }  # fmt: skip
    if d["rounding"]:
        cost = {key: w.number(d["rounding"][key]) for key in ("mean", "largest", "bound")}
        out["rounding"] = w("scorecard.rounding", cost)
    out["left_out"] = [(name(x["name"]), w.number(x["iv"])) for x in d["left_out"]]
    return out


def _bin(w: Words, b: Json, *, integer: bool) -> dict[str, Any]:
    text = str(b["bin"])
    special = {"(missing)": "cell.missing", "(unseen)": "cell.unseen", "any": "scorecard.any"}
    return {
        "name": w(special[text]) if text in special else name(bin_text(w, text)),
        "share": w.percent(b["share"]), "rate": w.percent(b["adverse_rate"]),
        "woe": signed(w, b["woe"], 3), "points": b["points"], "shown": _points(w, b["points"], integer=integer),
    }  # fmt: skip


_RANGE = re.compile(r"(?P<low>[-+.\de]+) to (?P<below>< )?(?P<high>[-+.\de]+)")


def bin_text(w: Words, text: str) -> str:
    """A range of numbers in this language; every other bin keeps its name."""
    match = _RANGE.fullmatch(text)
    return w("level.range_below" if match["below"] else "level.range", match.groupdict()) if match else text


def _points(w: Words, value: float, *, integer: bool) -> str:
    return w.exact(round(value)) if integer else w.number(value)
