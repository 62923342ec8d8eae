"""Which pairs of features interact in the teacher? Friedman and Popescu 2008, "Predictive Learning via Rule Ensembles", section 8.1.

With centred partial dependences PD of the teacher's score over b background rows, at n rows of the data:

    H_jk = √( 1/n Σ_i [PD_jk(x_ij, x_ik) − PD_j(x_ij) − PD_k(x_ik)]² )

the unnormalised statistic of their equation 45, in units of the score: divided by the variance of PD_jk, as there, pairs of features that
hardly matter would come first. It asks the teacher, also where no row of the data lies; boosting's own search (FAST, Lou et al. 2013) looks at
what main effects leave over on the training rows, costs nothing more, and cannot see an interaction that these rows do not show.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from distillens.models.base import as_logits, evaluate

if TYPE_CHECKING:
    from distillens.data.base import Floats, Table
    from distillens.models.base import Model

ROWS = 40  # at which, and over which, partial dependences are taken: 1,600 answers a pair
MOST_FEATURES = 30  # of more, those with the largest main effects are paired: 435 pairs, 700,000 answers


def interaction_strengths(
    teacher: Model, table: Table, *, seed: int, limit: float, leave_out: frozenset[int] = frozenset(), rows: int = ROWS
) -> dict[tuple[int, int], float]:
    """H of every pair (j, k), j < k, of raw features, strongest first; ties in the order of the features.

    The score: log-odds of the second of two classes, held within ±limit; the mean square over the centred logits of more classes, floored at
    −limit; the value. leave_out: features that may be in no pair.
    """
    rng = np.random.default_rng(seed)
    count = min(rows, len(table))
    points = table.values[np.sort(rng.choice(len(table), count, replace=False))]
    f = points.shape[1]

    def dependence(features: tuple[int, ...]) -> Floats:
        """(count, K') centred partial dependence at the points' own values of `features`."""
        asked = np.repeat(points[None], count, axis=0)  # (point, background, F)
        for j in features:
            asked[:, :, j] = points[:, j, None]
        answers = evaluate(teacher, table.with_values(asked.reshape(-1, f)))
        score = _score(teacher, answers, limit).reshape(count, count, -1).mean(axis=1)
        return np.asarray(score - score.mean(axis=0), dtype=np.float64)

    single = {j: dependence((j,)) for j in range(f) if j not in leave_out}
    taken = sorted(single)
    if len(taken) > MOST_FEATURES:
        taken = sorted(sorted(taken, key=lambda j: -float((single[j] ** 2).mean()))[:MOST_FEATURES])
    found = {
        (j, k): float(np.sqrt(((dependence((j, k)) - single[j] - single[k]) ** 2).mean()))
        for j, k in combinations(taken, 2)
    }
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _score(teacher: Model, answers: Floats, limit: float) -> Floats:
    if not teacher.classes:
        return answers
    logits = as_logits(answers, teacher.output)
    if len(teacher.classes) == 2:
        return np.clip(logits[:, 1:] - logits[:, :1], -limit, limit)
    logs = np.maximum(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), -limit)
    return np.asarray(logs - logs.mean(axis=1, keepdims=True), dtype=np.float64)
