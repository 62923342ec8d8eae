"""Soft targets for learners that only know labels and weights: each row once per class, weighted by the class's probability.

The weighted log-loss of the replicated rows is the cross-entropy to the soft targets, and their weighted class counts are the sums of
the probabilities, so nothing is lost; see `transfer.md` on why labels must never be used instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints


def replicate(probabilities: Floats, weights: Floats) -> tuple[Ints, Ints, Floats]:
    """Rows (m,), class indices (m,) and weights (m,) that stand for (n, K) soft targets with (n,) weights.

    One-hot targets are not replicated (m = n; a class that no row has gets one row of weight zero, so that the learner knows of it).
    Soft ones are replicated K times, row by row (m = nK), those of weight zero included: every row has equally many copies.
    """
    n, k = probabilities.shape
    if ((probabilities == 0) | (probabilities == 1)).all():
        labels = probabilities.argmax(axis=1).astype(np.int64)
        absent = np.setdiff1d(np.arange(k, dtype=np.int64), labels)
        rows = np.concatenate([np.arange(n, dtype=np.int64), np.zeros(len(absent), dtype=np.int64)])
        return rows, np.concatenate([labels, absent]), np.concatenate([weights, np.zeros(len(absent))])
    rows = np.repeat(np.arange(n, dtype=np.int64), k)
    return rows, np.tile(np.arange(k, dtype=np.int64), n), (probabilities * weights[:, None]).reshape(-1)
