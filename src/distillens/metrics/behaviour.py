"""Do both models react alike? Output changes under the same masks; no explanation of the student is needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distillens.similarity import Floats, pearson

Bools = NDArray[np.bool_]


def random_masks(features: int, number: int, *, seed: int) -> Bools:
    """(m, F) masks, True = kept: each feature removed alone, then random sets of every size in complementary pairs.

    Distinct, none empty and none full; all of them when there are at most `number`.
    """
    if features < 2:
        return np.zeros((1, features), dtype=np.bool_)
    if features <= 20 and 2**features - 2 <= number:
        codes = np.arange(1, 2**features - 1)
        return (codes[:, None] >> np.arange(features) & 1).astype(np.bool_)
    rng = np.random.default_rng(seed)
    chosen = [~np.eye(features, dtype=np.bool_)[j] for j in range(min(features, number))]
    seen = {mask.tobytes() for mask in chosen}
    while len(chosen) < number:
        mask = np.zeros(features, dtype=np.bool_)
        mask[rng.permutation(features)[: rng.integers(1, features)]] = True
        for candidate in (mask, ~mask):
            if candidate.tobytes() not in seen and len(chosen) < number:
                seen.add(candidate.tobytes())
                chosen.append(candidate)
    return np.stack(chosen)


def mask_correlation(first: Floats, second: Floats) -> Floats:
    """(n,) Pearson correlation over masks of two (n, m) arrays of output changes; NaN where a model never moves."""
    return pearson(first, second)


def aligned_fall(teacher_fall: Floats, fall: Floats) -> Floats:
    """(n,) a model's change of output in the direction of the teacher's: sign(teacher's change) × change."""
    return np.sign(teacher_fall) * fall


def fall_ratio(teacher_fall: Floats, fall: Floats, weights: Floats) -> Floats:
    """Σ w sign(t) s / Σ w |t|; (b, n) weights → (b,). NaN where the teacher does not move."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a teacher that never moves has no ratio
        moved = weights @ np.abs(teacher_fall)
        return np.where(moved > 0, weights @ aligned_fall(teacher_fall, fall) / moved, np.nan)
