"""The frontier of fidelity against what a person must read: how readable can the student be at the same performance?

    record = frontier(members(("tree", "rules"), task="binary"), Ground(targets, teacher, validation, decision))

Students of several families and sizes are fitted on the same targets and measured on the same validation rows with the same
resamples, so that differences are paired. The record is JSON-able (report/frontier.schema.json).

- An estimate is the mean over the seeds of a point's fits; its interval is over rows, the models being fixed. `spread` holds what
  other seeds and other training rows change.
- The *front*, for the pieces of the whole model and of one decision (frontier/units.py): the points that no point with as few pieces
  equals or beats, by value. With a few hundred rows that is partly luck, so two more things are told: `dominated_by` names the points
  that are no larger and better by the whole of a paired interval, and
- `answers` says which is the smallest readable student whose loss lies within `margin` with its whole paired interval ("shown"), and
  the smallest for which it may ("possible"): of fidelity, against the student closest to the teacher; of performance, against the
  teacher. Each interval is of one comparison and not corrected for the number of points: this is for choosing, and the student that
  was chosen is judged on rows that nothing here has seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from distillens.errors import InputError
from distillens.frontier.measure import SHARES, Scale
from distillens.frontier.points import Ground, Point, fit_point
from distillens.frontier.sizes import Members
from distillens.intervals import Quantity
from distillens.progress import task
from distillens.store import JSON

SIZES = ("whole", "decision")
COSTS = {
    "additive": 30,
    "network": 15,
    "soft_tree": 30,
}  # of a fit, as multiples of a tree's or a list's, for the time left
MARGIN = 0.02  # of agreement, R² or AUC: what the answers call the same


def frontier(
    members: Members, ground: Ground, *, name: str = "frontier", margin: float = MARGIN, level: float = 0.95, draws: int = 1000,
    folder: Path | None = None,
) -> JSON:  # fmt: skip
    """Fit every member and measure it; the record described in the module's text.

    margin: of the answers. level, draws: of the intervals. folder: where fitted points are kept, so that a frontier that was stopped
    goes on where it was. Raises InputError for impossible settings, and what a fit raises.
    """
    if ground.seeds < 1 or ground.queries < 0 or not 0 < margin < 1:
        raise InputError(
            f"A frontier needs at least one seed, 0 or more queries and a margin between 0 and 1; got {ground.seeds}, "
            f"{ground.queries} and {margin}."
        )
    if not members.chosen or not len(ground.validation):
        raise InputError("A frontier needs at least one student, and validation rows to measure it on.")
    points = []
    costs = [COSTS.get(member.family, 1) for member in members.chosen]
    with task("frontier", total=sum(costs), unit="parts of the work") as advance:
        for member, cost in zip(members.chosen, costs, strict=True):
            points.append(fit_point(member, ground, folder=folder))
            advance(cost)
    teacher = ground.teacher
    scale = Scale.of(ground.validation, teacher, decision=ground.decision, draws=draws, seed=ground.seed)
    fidelity = [scale.fidelity(p.outputs, p.output) for p in points]
    performance = [scale.performance(p.outputs, p.output) for p in points]
    own = scale.performance(scale.answers[None], scale.output)
    records = [_record(p, scale, f, q, level) for p, f, q in zip(points, fidelity, performance, strict=True)]
    close = [f[scale.fidelity_metric] for f in fidelity]
    mark_front(records, close, scale.fidelity_metric, level)
    best = max(
        range(len(points)), key=lambda i: (close[i].point, -float(np.mean(points[i].whole)))
    )  # of equals the smallest
    answers = {"fidelity": answer(records, close, close[best], records[best]["id"], margin=margin, level=level)}
    metric = scale.performance_metric
    if metric is not None:
        skill = [q[metric] for q in performance]
        answers["performance"] = answer(records, skill, own[metric], "teacher", margin=margin, level=level)
    return {
        "schema": 1,
        "name": name,
        "task": "regression" if not teacher.classes else "binary" if len(teacher.classes) == 2 else "multiclass",
        "classes": list(teacher.classes),
        "rows": {"split": "validation", "n": len(ground.validation)},
        "seeds": ground.seeds,
        "queries": ground.queries,
        "level": level,
        "fidelity": _about(scale.fidelity_metric),
        "performance": None if metric is None else _about(metric),
        "teacher": {"label": teacher.label, "fingerprint": teacher.fingerprint, "performance": _estimates(own, level)},
        "points": records,
        "answers": answers,
        "left_out": [{"family": family, "why": why} for family, why in members.left_out],
        "measured": {"seconds": {p.member.id: round(p.seconds, 2) for p in points}},
    }


def _about(metric: str) -> JSON:
    return {"metric": metric, "unit": "share" if metric in SHARES else "value"}


def _estimates(quantities: dict[str, Quantity], level: float) -> JSON:
    return {name: q.estimate(level).to_json() for name, q in quantities.items()}


def _record(
    p: Point, scale: Scale, fidelity: dict[str, Quantity], performance: dict[str, Quantity], level: float
) -> JSON:
    student: Any = p.member.student
    keys = [key for key in p.complexity[0] if all(key in c for c in p.complexity)]
    return {
        "id": p.member.id,
        "family": p.member.family,
        "size": p.member.size,
        "size_name": p.member.setting,
        "settings": p.settings,
        "readable": bool(student.readable),
        "complexity": {key: float(np.mean([c[key] for c in p.complexity])) for key in keys},
        "units": {"whole": _span(p.whole), "decision": _span(p.decision)},
        "fidelity": _estimates(fidelity, level),
        "performance": _estimates(performance, level),
        "spread": {"seeds": scale.spread(p.outputs, p.output), "resamples": scale.spread(p.refitted, p.output)},
        "stability": p.stability,
    }


def _span(values: tuple[float, ...]) -> JSON:
    return {"value": float(np.mean(values)), "low": float(min(values)), "high": float(max(values))}


def mark_front(records: list[JSON], close: list[Quantity], metric: str, level: float) -> None:
    """Add `front` and `dominated_by` to every record. close: the fidelity of each, higher is better."""
    values = [r["fidelity"][metric]["value"] for r in records]
    known = [-np.inf if v is None else float(v) for v in values]
    better = [  # [i][j]: i is closer to the teacher than j by the whole of a paired interval
        [i != j and close[i].difference(close[j], level).low > 0 for j in range(len(records))]
        for i in range(len(records))
    ]
    for j, record in enumerate(records):
        front, behind = {}, {}
        for size in SIZES:
            pieces = [r["units"][size]["value"] for r in records]
            no_larger = [i for i in range(len(records)) if i != j and pieces[i] <= pieces[j]]
            front[size] = bool(np.isfinite(known[j])) and not any(
                known[i] >= known[j] and (pieces[i] < pieces[j] or known[i] > known[j]) for i in no_larger
            )
            behind[size] = [records[i]["id"] for i in no_larger if better[i][j]]
        record["front"], record["dominated_by"] = front, behind


def answer(
    records: list[JSON], values: list[Quantity], best: Quantity, name: str, *, margin: float, level: float
) -> JSON:
    """The smallest readable points that are at most `margin` below the best: shown by the whole paired interval, and possible."""
    found: JSON = {"best": name, "margin": margin, "shown": None, "possible": None}
    for i in sorted(range(len(records)), key=lambda i: (records[i]["units"]["whole"]["value"], records[i]["id"])):
        if not records[i]["readable"]:
            continue
        itself = values[i] is best  # an interval of nothing would have a width all the same
        loss = best.difference(values[i], level)
        if found["possible"] is None and (itself or loss.low <= margin):
            found["possible"] = records[i]["id"]
        if found["shown"] is None and (itself or loss.high <= margin):
            found["shown"] = records[i]["id"]
    return found
