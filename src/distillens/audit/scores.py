"""Who gets which score: the distribution by true class, bands of the score with their bad rate, and what each leaf or rule is worth."""

from __future__ import annotations

from typing import Any

import numpy as np

from distillens.audit.answers import Answers, Case
from distillens.data.base import Bools, Floats
from distillens.intervals import Quantity
from distillens.metrics.stability import reference_cuts
from distillens.store import JSON

BANDS, BARS, REACH = 10, 24, 6.0  # log-odds beyond ±6 are drawn at the end


def scores_record(case: Case, *, level: float) -> JSON | None:
    """{edges, teacher, student}, each {classes{name: [share per bar]}, bands[…]}; None without labels or unless the task is binary.

    Scores are log-odds of the adverse class. A band is a tenth of the rows by the model's own score, the riskiest first:
    {low, high, n, adverse: rows labelled so, rate: Estimate, predicted: mean probability}; fewer bands where scores tie.
    decided{adverse: share decided adversely, missed: adverse labels among the favourably decided, caught: adversely decided among the adverse
    labels, refused: adversely decided among the other labels}, all Estimates at the decision threshold.
    """
    if case.labels is None or case.task != "binary":
        return None
    used = case.labelled
    ends = [np.clip(a.score[used], -REACH, REACH) for a in (case.teacher, case.student)]
    low, high = (float(f(np.concatenate(ends))) for f in (np.min, np.max))
    edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
    return {"edges": edges.tolist()} | {
        role: {
            "classes": _bars(case, case.answers[role], edges),
            "bands": _bands(case, case.answers[role], level),
            "decided": _decided(case, case.answers[role], level),
        }
        for role in ("teacher", "student")
    }


def _bars(case: Case, answers: Answers, edges: Floats) -> dict[str, list[float]]:
    bars = {}
    for c, name in enumerate(case.classes):
        rows = case.labelled & (np.nan_to_num(case.labels) == c) if case.labels is not None else case.labelled
        mass, _ = np.histogram(
            np.clip(answers.score[rows], edges[0], edges[-1]), edges, weights=case.resamples.base[rows]
        )
        bars[name] = (mass / max(float(mass.sum()), 1e-300)).tolist()
    return bars


def _decided(case: Case, answers: Answers, level: float) -> JSON:
    """What the threshold makes of the score, on labelled rows."""
    adverse = case.decision.adverse
    said = (answers.decided == adverse).astype(np.float64)
    true = np.zeros(len(case)) if case.labels is None else (case.labels == adverse).astype(np.float64)

    def share(outcomes: Floats, rows: Bools) -> JSON:
        made: Quantity = case.resamples.proportion(np.where(rows & case.labelled, outcomes, np.nan), missing=0)
        return made.estimate(level).to_json()

    return {
        "adverse": share(said, case.labelled), "missed": share(true, said == 0),
        "caught": share(said, true == 1), "refused": share(said, true == 0),
    }  # fmt: skip


def _bands(case: Case, answers: Answers, level: float) -> list[JSON]:
    assert case.labels is not None
    used, weights = case.labelled, case.resamples.base
    cuts = reference_cuts(answers.score[used], weights[used], bins=BANDS)
    band = np.searchsorted(cuts, answers.score, side="left")
    adverse = np.where(used, case.labels == case.decision.adverse, np.nan)
    p = answers.p[:, case.decision.adverse]
    out = []
    for b in range(len(cuts), -1, -1):
        rows = used & (band == b)
        if not rows.any() or not weights[rows].sum() > 0:
            continue
        rate = case.resamples.proportion(np.where(rows, adverse, np.nan), missing=0)
        out.append({
            "low": float(answers.score[rows].min()), "high": float(answers.score[rows].max()), "n": int(rows.sum()),
            "adverse": int(adverse[rows].sum()), "rate": rate.estimate(level).to_json(),
            "predicted": float(np.average(p[rows], weights=weights[rows])),
        })  # fmt: skip
    return out


def parts_record(case: Case, *, level: float) -> list[JSON] | None:
    """What each leaf or rule of the student is worth on these rows; None for students without parts, and for regression.

    [{part, n, share, agreement: Estimate with the teacher's decision, precision: Estimate with the label | null}], where part is what
    `part_of` of the model returns: the leaf's node, or the number of the rule. A part that no row reaches has n = 0.
    """
    student: Any = case.models["student"]
    if not hasattr(student, "part_of") or case.task == "regression":
        return None
    part, weights = student.part_of(case.inputs), case.resamples.base
    same = (case.teacher.decided == case.student.decided).astype(np.float64)
    right = None if case.labels is None else np.where(case.labelled, case.student.decided == case.labels, np.nan)
    total = float(weights.sum())

    def share(outcomes: Floats, rows: Any) -> JSON:
        made: Quantity = case.resamples.proportion(np.where(rows, outcomes, np.nan), missing=0)
        return made.estimate(level).to_json()

    return [
        {
            "part": int(number), "n": int(rows.sum()), "share": float(weights[rows].sum()) / total,
            "agreement": share(same, rows), "precision": None if right is None else share(right, rows),
        }
        for number in student.parts
        for rows in [part == number]
    ]  # fmt: skip


def attributes_record(case: Case, *, level: float) -> list[JSON] | None:
    """What each line of a points table is worth on these rows; None for students without such lines, and unless the task is binary.

    [{feature, bins: [{n, adverse: rows labelled so | null, rate: Estimate | null}]}], the bins in the order of the student's own.
    """
    student: Any = case.models["student"]
    if not hasattr(student, "attributes_of") or case.task != "binary":
        return None
    adverse = None if case.labels is None else np.where(case.labelled, case.labels == case.decision.adverse, np.nan)
    out = []
    for feature, (bins, count) in student.attributes_of(case.inputs).items():
        entries = []
        for b in range(count):
            rows = bins == b
            rate, bad = None, None
            if adverse is not None:
                rate = case.resamples.proportion(np.where(rows, adverse, np.nan), missing=0).estimate(level).to_json()
                bad = int(np.nansum(adverse[rows]))
            entries.append({"n": int(rows.sum()), "adverse": bad, "rate": rate})
        out.append({"feature": feature, "bins": entries})
    return out
