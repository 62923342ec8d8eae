"""Agreement of the explanations of teacher, student and controls, with chance and repeatability."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.audit.answers import Case
from distillens.audit.measured import Measured
from distillens.audit.references import chance_level, other_rows
from distillens.data.base import Bools, Floats, Ints, Table
from distillens.data.images import Images, Pixels
from distillens.data.pictures.sheet import averaged, png
from distillens.errors import InputError
from distillens.metrics import reasons
from distillens.metrics.base import METRICS
from distillens.similarity import cosine, kendall_tau_b, spearman

if TYPE_CHECKING:
    from distillens.explainers.base import Explanation

MOST_SIDE = 64  # pixels of a picture in the record; the page must stay small

Maps = tuple[Floats, Floats]  # attributions and their standard errors, (m, F) each


@dataclass(frozen=True, eq=False)
class Explained:
    """The explanations of one method on the m rows that teacher and student share.

    rows: (m,) positions in the case. maps: by role, (m, F) attributions (NaN where a role lacks a row) and standard errors.
    backgrounds: by role, ids of the background rows.
    """

    method: str
    rows: Ints
    units: tuple[str, ...]
    maps: Mapping[str, Maps]
    exact: bool
    median_stderr: float | None
    scale: str
    k: int
    backgrounds: Mapping[str, Ints]

    @property
    def teacher(self) -> Floats:
        return self.maps["teacher"][0]

    @property
    def student(self) -> Floats:
        return self.maps["student"][0]


def match(case: Case, method: str, explanations: Mapping[str, Explanation]) -> Explained:
    """Align the explanations of one method by row id. InputError when they cannot be compared."""
    for role in ("teacher", "student"):
        if role not in explanations:
            raise InputError(
                f"The explanations by {method!r} lack the {role}'s; give a mapping role → Explanation with both."
            )
    teacher = explanations["teacher"]
    for role, other in explanations.items():
        for what in ("units", "scale"):
            if getattr(other, what) != getattr(teacher, what):
                raise InputError(
                    f"The explanations by {method!r} of teacher and {role} have different {what} "
                    f"({getattr(teacher, what)!r} and {getattr(other, what)!r}); explain both models the same way."
                )
        if len(np.unique(other.row_ids)) != len(other.row_ids):
            raise InputError(f"The explanation by {method!r} of {role} has a row id twice.")
    shared = np.isin(case.inputs.row_ids, teacher.row_ids) & np.isin(
        case.inputs.row_ids, explanations["student"].row_ids
    )
    rows = np.flatnonzero(shared)
    if not rows.size:
        raise InputError(f"The explanations by {method!r} share no row id with the audited rows.")
    ids = case.inputs.row_ids[rows]
    maps: dict[str, Maps] = {}
    target: Ints | None = None
    for role in sorted(explanations, key=lambda r: (r != "teacher", r)):
        explanation = explanations[role]
        order = np.argsort(explanation.row_ids)
        place = np.searchsorted(explanation.row_ids[order], ids).clip(max=len(order) - 1)
        source = order[place]
        found = explanation.row_ids[source] == ids
        if target is None:
            target = explanation.target[source]
        elif (explanation.target[source] != target)[found].any():
            raise InputError(
                f"The explanations by {method!r} of teacher and {role} explain different classes of the same row."
            )
        stderr = np.zeros_like(explanation.values) if explanation.stderr is None else explanation.stderr
        maps[role] = tuple(np.where(found[:, None], a[source], np.nan) for a in (explanation.values, stderr))  # type: ignore[assignment]
    f = len(teacher.units)
    # of each model by itself, the larger shown: a student that is explained exactly must not hide a noisy teacher
    sampled = [e.stderr for e in (teacher, explanations["student"]) if e.stderr is not None]
    median = max(float(np.nanmedian(s)) for s in sampled) if sampled else None
    return Explained(method, rows, tuple(teacher.units), maps, all(e.exact for e in explanations.values()), median,
                     str(teacher.scale), min(case.k, max(f - 1, 1)), {role: e.background_ids for role, e in explanations.items()})  # fmt: skip


def _signed(formula: Callable[..., Floats]) -> Callable[[Maps, Maps, int], Floats]:
    return lambda a, b, k: formula(a[0], b[0], k=k, first_stderr=a[1], second_stderr=b[1])


_FORMULAS: dict[str, Callable[[Maps, Maps, int], Floats]] = {
    "top_k_overlap": lambda a, b, k: reasons.top_k_overlap(a[0], b[0], k=k),
    "sign_agreement": _signed(reasons.sign_agreement),
    "rank_agreement": lambda a, b, k: reasons.rank_agreement(a[0], b[0], k=k),
    "signed_rank_agreement": _signed(reasons.signed_rank_agreement),
    "reason_spearman": lambda a, b, _: spearman(a[0], b[0]),
    "reason_kendall": lambda a, b, _: kendall_tau_b(a[0], b[0]),
    "reason_rbo": lambda a, b, _: reasons.rank_biased_overlap(a[0], b[0]),
    "reason_cosine": lambda a, b, _: cosine(a[0], b[0]),
    "mass_overlap": lambda a, b, _: reasons.mass_overlap(a[0], b[0]),
}


def _per_row(formula: Callable[[Maps, Maps, int], Floats], first: Maps, second: Maps, k: int) -> Floats:
    """(m,) values; NaN for rows whose attributions are NaN in either map."""
    known: Bools = np.isfinite(np.concatenate([first[0], second[0]], axis=1)).all(axis=1)
    out = np.full(len(known), np.nan)
    if known.any():
        out[known] = formula((first[0][known], first[1][known]), (second[0][known], second[1][known]), k)
    return out


def spread(case: Case, rows: Ints, values: Floats) -> Floats:
    """(n,) values of the case's rows from (m,) values of some of them, NaN elsewhere."""
    out = np.full(len(case), np.nan)
    out[rows] = values
    return out


def measure_reasons(case: Case, explained: Explained) -> list[Measured]:
    """Every reason metric of one explanation method; empty when there is only one unit (there is nothing to rank)."""
    if len(explained.units) < 2:
        return []
    maps, k = explained.maps, explained.k
    partners = other_rows(case.groups[explained.rows], seed=case.seed)
    measured = []
    for name, formula in _FORMULAS.items():

        def quantity(values: Floats) -> Any:
            full = spread(case, explained.rows, values)
            return case.resamples.mean(full, missing=int(np.isnan(values).sum()))

        def against_teacher(role: str, formula: Any = formula) -> Floats:
            return _per_row(formula, maps["teacher"], maps[role], k)

        def shuffled(rows: Ints, others: Ints, formula: Any = formula) -> Floats:
            first, second = maps["teacher"], maps["student"]
            return _per_row(formula, (first[0][rows], first[1][rows]), (second[0][others], second[1][others]), k)

        values = against_teacher("student")
        repeats = {
            role: quantity(_per_row(formula, maps[role], maps[f"{role}.repeat"], k))
            for role in ("teacher", "student")
            if f"{role}.repeat" in maps
        }
        measured.append(
            Measured(
                METRICS[name],
                quantity(values),
                explained.method,
                chance=quantity(chance_level(shuffled, partners)),
                repeatability=repeats or None,
                controls={role: quantity(against_teacher(role)) for role in case.controls if role in maps},
                rows=spread(case, explained.rows, values),
            )
        )
    return measured


def distances(explained: Explained) -> Floats:
    """(m,) half the L1 distance of the two signed attributions, each divided by its sum of sizes: 0 same, 1 disjoint."""
    shares = []
    for values in (explained.teacher, explained.student):
        total = np.abs(values).sum(axis=1, keepdims=True)
        shares.append(np.divide(values, total, out=np.zeros_like(values), where=total > 0))
    return np.asarray(np.abs(shares[0] - shares[1]).sum(axis=1) / 2)


def reasons_record(
    case: Case, explained: Explained, *, worst: int = 8, at_random: int = 4, shown: int = 6
) -> dict[str, Any]:
    """Global importance of teacher, student and undistilled control, the rows whose reasons differ most, and some of the others at random.

    Of images also `grid`, `patch` and `image` (see `picture_of`), and of every row kept the picture and both models' whole maps.
    """

    def importance(role: str) -> list[float] | None:
        if role not in explained.maps:
            return None
        size = np.abs(explained.maps[role][0])
        known = np.isfinite(size).all(axis=1)
        weights = case.resamples.base[explained.rows][known]
        return None if not weights.sum() > 0 else [float(v) for v in weights @ size[known] / weights.sum()]

    distance = distances(explained)
    order = np.argsort(-np.nan_to_num(distance, nan=-1.0), kind="stable")
    order = order[np.isfinite(distance[order])]
    others = np.random.default_rng([case.seed, len(order)]).permutation(order[worst:])[:at_random]
    kept = {
        "worst_rows": order[:worst],
        "random_rows": others[np.argsort(-distance[others], kind="stable")],
    }
    rows = {part: [_row(case, explained, i, float(distance[i]), shown) for i in index] for part, index in kept.items()}
    target = (
        case.classes[case.decision.adverse]
        if case.task == "binary"
        else ("the teacher's top class" if case.classes else "value")
    )
    about: dict[str, Any] = {}
    if isinstance(case.inputs, Images):
        _, height, width = case.inputs.shape
        side = case.inputs.patch
        about = {"grid": [-(-height // side), -(-width // side)], "patch": side, "image": list(case.inputs.shape)}
    return {
        "method": explained.method, "scale": explained.scale, "target": target, "rows": len(explained.rows),
        "units": list(explained.units), "k": explained.k, **about,
        "importance": {role: importance(role) for role in ("teacher", "student", "undistilled")},
        **rows, "exact": explained.exact, "median_stderr": explained.median_stderr,
    }  # fmt: skip


def _row(case: Case, explained: Explained, i: int, distance: float, shown: int) -> dict[str, Any]:
    """One explained row: its decisions, its main reasons, and of an image the picture and the whole maps."""
    position = int(explained.rows[i])
    teacher, student = explained.teacher[i], explained.student[i]
    units = np.argsort(-np.maximum(np.abs(teacher), np.abs(student)), kind="stable")[:shown]
    names = list(case.inputs.names)
    items = []
    for u in units:
        unit = explained.units[u]
        at = names.index(unit) if unit in names else None
        text = "" if at is None else _said(case, position, at)
        items.append({"unit": unit, "value": "(missing)" if text is None else text,
                      "teacher": float(teacher[u]), "student": float(student[u])})  # fmt: skip
    row: dict[str, Any] = {
        "row_id": int(case.inputs.row_ids[position]), "distance": distance,
        "teacher_decision": said(case, "teacher", position), "student_decision": said(case, "student", position),
        "items": items,
    }  # fmt: skip
    if isinstance(case.inputs, Images):
        row |= {
            "picture": picture_of(case.inputs.pixels[position]),
            "teacher": [float(v) for v in teacher],
            "student": [float(v) for v in student],
        }
    return row


def picture_of(pixels: Pixels) -> str:
    """A (C, H, W) picture as a PNG file in base64: the stored pixels, averaged down where a side has more than `MOST_SIDE`."""
    return base64.b64encode(png(averaged(pixels[None], side=MOST_SIDE)[0])).decode()


def _said(case: Case, position: int, unit: int) -> str | None:
    """The value of a unit of a row in words: of a feature, or the mean brightness of a patch; None when missing."""
    inputs = case.inputs
    if isinstance(inputs, Table):
        return inputs.text_of(float(inputs.values[position, unit]), unit)
    inside = inputs.patch_of_pixel == unit
    return f"brightness {inputs.pixels[position][:, inside].mean() / 255:.2f}"


def said(case: Case, role: str, position: int) -> str:
    """A model's answer to one row in words: the decided class, or the value."""
    answers = case.answers[role]
    return (
        f"{answers.score[position]:.6g}"
        if answers.decisions is None
        else case.classes[int(answers.decisions[position])]
    )
