"""Behaviour under masks: the same features removed from both models, without explaining the student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distillens.audit.answers import Case
from distillens.audit.measured import Measured
from distillens.audit.reasons import Explained, spread
from distillens.audit.references import chance_level, other_rows
from distillens.data.base import Floats, Ints
from distillens.intervals import Quantity
from distillens.metrics import behaviour
from distillens.metrics.base import METRICS
from distillens.metrics.reasons import top_k

if TYPE_CHECKING:
    from distillens.data.base import Inputs

MASKS = 64
BACKGROUND = 20  # background rows of each of the two draws


@dataclass(frozen=True, eq=False)
class Background:
    """Two draws of background rows: the first for every comparison, the second for repeatability."""

    first: Inputs
    second: Inputs | None


def draw_background(background: Inputs, *, seed: int) -> Background:
    """Two disjoint draws of at most `BACKGROUND` rows; the second is None when fewer than four rows are given."""
    order = np.random.default_rng(seed).permutation(np.argsort(background.row_ids, kind="stable"))
    half = min(BACKGROUND, len(order) // 2)
    if half < 2:
        return Background(background.take(order), None)
    return Background(background.take(order[:half]), background.take(order[half : 2 * half]))


def _changes(case: Case, role: str, rows: Ints, masks: np.ndarray, background: Inputs) -> Floats:
    """(m, masks) fall of one model's score when features are removed."""
    from distillens.explainers.masking import masked_means

    means = masked_means(
        case.models[role],
        case.inputs.take(rows),
        masks,
        background=background,
        target=case.target[rows],
        scale=case.scale,
    )
    return np.asarray(case.answers[role].score[rows][:, None] - means)


def measure_masks(case: Case, rows: Ints, background: Background) -> list[Measured]:
    """Correlation of the output changes of teacher and every model under the same random masks."""
    masks = behaviour.random_masks(len(case.inputs.columns), MASKS, seed=case.seed)
    if len(masks) < 3:
        return []
    roles = [role for role in case.answers if role != "constant"]
    moved = {role: _changes(case, role, rows, masks, background.first) for role in roles}

    def quantity(values: Floats) -> Quantity:
        return case.resamples.mean(spread(case, rows, values), missing=int(np.isnan(values).sum()))

    def shuffled(own: Ints, other: Ints) -> Floats:
        return behaviour.mask_correlation(moved["teacher"][own], moved["student"][other])

    repeats: Mapping[str, Quantity] | None = None
    if background.second is not None:
        again = {role: _changes(case, role, rows, masks, background.second) for role in ("teacher", "student")}
        repeats = {role: quantity(behaviour.mask_correlation(moved[role], values)) for role, values in again.items()}
    values = behaviour.mask_correlation(moved["teacher"], moved["student"])
    partners = other_rows(case.groups[rows], seed=case.seed)
    controls = {
        role: quantity(behaviour.mask_correlation(moved["teacher"], moved[role]))
        for role in case.controls
        if role in moved
    }
    return [
        Measured(METRICS["mask_correlation"], quantity(values), chance=quantity(chance_level(shuffled, partners)),
                 repeatability=repeats, controls=controls, rows=spread(case, rows, values))
    ]  # fmt: skip


def measure_deletion(case: Case, explained: Explained, background: Background) -> list[Measured]:
    """Fall of every model's score when the teacher's k main reasons are removed, row by row.

    Only where the explanation's units are the raw features; of units tied at the cut the first ones are taken.
    """
    if explained.units != case.inputs.names or len(explained.units) < 2:
        return []
    known = np.isfinite(explained.teacher).all(axis=1)
    rows, main = explained.rows[known], np.ones((int(known.sum()), len(explained.units)), dtype=np.bool_)
    if not rows.size:
        return []
    chosen = np.argsort(-top_k(explained.teacher[known], explained.k), axis=1, kind="stable")[:, : explained.k]
    np.put_along_axis(main, chosen, values=False, axis=1)
    masks, which = np.unique(main, axis=0, return_inverse=True)
    which = which.reshape(-1)
    falls = {}
    for role in case.answers:
        fall = np.zeros(len(rows))
        if role != "constant":
            for index in range(len(masks)):
                members = np.flatnonzero(which == index)
                fall[members] = _changes(case, role, rows[members], masks[index : index + 1], background.first)[:, 0]
        falls[role] = fall
    used = np.zeros(len(case), dtype=np.bool_)
    used[rows] = True

    def mean(role: str) -> Quantity:
        return case.resamples.mean(spread(case, rows, behaviour.aligned_fall(falls["teacher"], falls[role])), missing=0)

    def ratio(role: str) -> Quantity:
        return case.resamples.statistic(
            lambda w: behaviour.fall_ratio(falls["teacher"], falls[role], w[:, rows]), used=used
        )

    return [
        Measured(METRICS["deletion_fall"], mean("student"), explained.method, teacher=mean("teacher"),
                 controls={role: mean(role) for role in case.controls},
                 rows=spread(case, rows, behaviour.aligned_fall(falls["teacher"], falls["student"]))),
        Measured(METRICS["deletion_ratio"], ratio("student"), explained.method,
                 controls={role: ratio(role) for role in case.controls}),
    ]  # fmt: skip
