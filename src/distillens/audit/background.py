"""How much the reasons of teacher and student change when the background is drawn again: each model's own number.

Nothing is explained for this: the second explanation of both models (other background rows, coalitions and seed), which the agreement
of reasons is held against as repeatability, is looked at for what it says about one model alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.audit.reasons import spread
from distillens.audit.result import AuditFinding
from distillens.explainers.sensitivity import movement

if TYPE_CHECKING:
    from distillens.audit.answers import Case
    from distillens.audit.reasons import Explained

ROLES = ("teacher", "student")
STEADY = 0.8  # a main reason that stays in fewer rows is told with care


def background_record(case: Case, explained: Explained, *, level: float) -> dict[str, Any] | None:
    """What audit.json says under reasons.background_sensitivity; None when no model was explained a second time.

    Per role: background_rows of a draw and how many both draws hold (all of them: only the coalitions were drawn again); same_top:
    Estimate of the share of rows whose main reason stays the same; rank_correlation: Estimate of the mean Spearman correlation of |φ|;
    spread: root mean square over rows and units of the standard deviation over the two draws; sampling_error: the same of the
    standard errors, which sampled coalitions alone would give; attribution: root mean square of φ, to compare both with.
    """
    found: dict[str, Any] = {}
    for role in ROLES:
        if f"{role}.repeat" not in explained.maps or len(explained.units) < 2:
            continue
        first, second = explained.maps[role], explained.maps[f"{role}.repeat"]
        known = np.isfinite(np.concatenate([first[0], second[0]], axis=1)).all(axis=1)
        if not known.any():
            continue
        values = np.stack([first[0][known], second[0][known]])
        moved = movement(values, np.stack([first[1][known], second[1][known]]))
        rows = explained.rows[known]
        ids, again = explained.backgrounds[role], explained.backgrounds[f"{role}.repeat"]
        ranked = spread(case, rows, moved.rank_correlation)
        found[role] = {
            "background_rows": len(ids),
            "rows_in_both": int(np.isin(ids, again).sum()),
            "same_top": case.resamples.proportion(spread(case, rows, moved.same_top)).estimate(level).to_json(),
            "rank_correlation": case.resamples.mean(ranked, missing=int(np.isnan(moved.rank_correlation).sum()))
            .estimate(level)
            .to_json(),
            "spread": float(np.sqrt((moved.spread**2).mean())),
            "sampling_error": float(np.sqrt((moved.sampling**2).mean())),
            "attribution": float(np.sqrt((values**2).mean())),
        }
    return found or None


def background_finding(record: dict[str, Any] | None, method: str) -> list[AuditFinding]:
    """One sentence on `background_record`."""
    if not record or not all(role in record for role in ROLES):
        return []
    teacher, student = (record[role] for role in ROLES)
    if teacher["background_rows"] == 0:
        return []  # a method without a background
    same = " and ".join(
        f"{one['same_top']['value']:.0%} of {one['same_top']['n']:,} rows for the {role}"
        for role, one in ((r, record[r]) for r in ROLES)
        if one["same_top"]["value"] is not None
    )
    if teacher["rows_in_both"] == teacher["background_rows"]:
        text = (f"There are no other background rows to draw, so the reasons ({method}) were found again with other coalitions only: the main "
                f"reason stays the same in {same}.")  # fmt: skip
        return [AuditFinding("minor", text, "background_same", _values(record, method))]
    shaky = min(teacher["same_top"]["value"] or 0, student["same_top"]["value"] or 0) < STEADY
    text = f"With {teacher['background_rows']:,} other background rows the main reason ({method}) stays the same in {same}."
    return [AuditFinding("minor" if shaky else "info", text, "background", _values(record, method))]


def _values(record: dict[str, Any], method: str) -> dict[str, Any]:
    own = {role: record[role]["same_top"] for role in ROLES}
    return {"explainer": method, "background_rows": record["teacher"]["background_rows"]} | own
