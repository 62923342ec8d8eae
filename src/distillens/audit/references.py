"""References that the audit makes itself: the constant model, repeatability, and rows shuffled within a decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from distillens.data.base import Floats, Ints

if TYPE_CHECKING:
    from distillens.models.base import Model

SHUFFLES = 8  # other rows that each row is compared with


def constant_model(labels: Floats | None, teacher_says: Floats, classes: tuple[str, ...], weights: Floats) -> Model:
    """The constant control: class frequencies (or the mean) of the labels, of the teacher's answers without labels."""
    from distillens.models.constant import ConstantModel

    return ConstantModel.from_labels(teacher_says if labels is None else labels, classes, weights=weights)


def other_rows(groups: Ints, *, seed: int, shuffles: int = SHUFFLES) -> Ints:
    """(s, n) positions of other rows of the same group, each row's partners distinct; −1 where the group has no more.

    Rows of a group are put in random order and shifted, so that every row is also used equally often as a partner.
    """
    rng = np.random.default_rng(seed)
    partners = np.full((shuffles, len(groups)), -1, dtype=np.int64)
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        for shift in range(1, min(shuffles, len(members) - 1) + 1):
            partners[shift - 1, members] = np.roll(members, shift)
    return partners


def chance_level(compare: Callable[[Ints, Ints], Floats], partners: Ints) -> Floats:
    """(n,) mean over partners of `compare(rows, their partners)`, NaN where a row has no partner with a value."""
    n = partners.shape[1]
    total, count = np.zeros(n), np.zeros(n)
    for other in partners:
        rows = np.flatnonzero(other >= 0)
        if not rows.size:
            continue
        values = compare(rows, other[rows])
        known = ~np.isnan(values)
        total[rows[known]] += values[known]
        count[rows[known]] += 1
    return np.asarray(np.divide(total, count, out=np.full(n, np.nan), where=count > 0))


def normalised(value: float, chance: float | None, repeats: tuple[float, ...]) -> float | None:
    """(value − chance) ÷ (repeatability − chance), repeatability the mean over the models; None where it makes no sense."""
    if chance is None or not repeats or not np.isfinite([value, chance, *repeats]).all():
        return None
    room = float(np.mean(repeats)) - chance
    return None if room <= 1e-9 else (value - chance) / room
