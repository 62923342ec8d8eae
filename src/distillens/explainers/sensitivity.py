"""How much reasons depend on the background: the same rows explained against several.

A Shapley value answers "compared with whom?". Explaining against the training rows, the approved applicants or another draw of
the same rows gives different numbers, and a reader should know how different before the first one is signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.errors import InputError

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Table
    from distillens.explainers.base import Explainer, Explanation
    from distillens.models.base import Model


@dataclass(frozen=True, eq=False)
class BackgroundSensitivity:
    """Reasons of n rows against B backgrounds.

    explanations: background's name → explanation of the same rows. units: U names.
    spread: (n, U) standard deviation of each attribution over the backgrounds (B − 1 in the denominator).
    sampling: (n, U) root mean square of the standard errors, what sampled coalitions alone would give; zeros for exact methods.
    same_top: (n,) share of pairs of backgrounds that name the same unit as the one with the largest |φ|.
    rank_correlation: (n,) mean over pairs of Spearman's correlation of |φ|; NaN where a row's attributions are all equal.
    """

    explanations: Mapping[str, Explanation]
    units: tuple[str, ...]
    spread: Floats
    sampling: Floats
    same_top: Floats
    rank_correlation: Floats

    @property
    def importance(self) -> Floats:
        """(B, U) mean |φ| per background."""
        return np.stack([e.global_importance() for e in self.explanations.values()])

    def to_json(self) -> dict[str, Any]:
        """Per unit: mean |φ| against each background, typical spread, and sampling error; then the two agreements' means."""
        defined = self.rank_correlation[~np.isnan(self.rank_correlation)]
        return {
            "backgrounds": {name: [int(i) for i in e.background_ids] for name, e in self.explanations.items()},
            "units": {
                unit: {
                    "importance": dict(zip(self.explanations, self.importance[:, j].tolist(), strict=True)),
                    "spread": float(np.sqrt((self.spread[:, j] ** 2).mean())),
                    "sampling_error": float(np.sqrt((self.sampling[:, j] ** 2).mean())),
                }
                for j, unit in enumerate(self.units)
            },
            "same_top": float(self.same_top.mean()),
            "rank_correlation": float(defined.mean()) if len(defined) else None,
            "rows_without_ranking": int(np.isnan(self.rank_correlation).sum()),
        }


def background_sensitivity(
    model: Model, inputs: Table, explainer: Explainer, *, backgrounds: Mapping[str, Table], target: Ints, seed: int = 0
) -> BackgroundSensitivity:
    """Explain the rows against each background (with the same seed: the same coalitions) and report how far the reasons move.

    backgrounds: name → rows, at least two. target: (n,) class index per row. Raises InputError, ModelError.
    """
    if len(backgrounds) < 2:
        raise InputError(f"Sensitivity to the background needs at least two backgrounds, but {len(backgrounds)} came.")
    made = {
        name: explainer(model, inputs, target=target, background=background, seed=seed)
        for name, background in backgrounds.items()
    }
    first = next(iter(made.values()))
    values = np.stack([e.values for e in made.values()])
    errors = np.stack([np.zeros(e.values.shape) if e.stderr is None else e.stderr for e in made.values()])
    pairs = list(combinations(range(len(made)), 2))
    top = np.abs(values).argmax(axis=2)
    same = np.mean([top[a] == top[b] for a, b in pairs], axis=0)
    return BackgroundSensitivity(
        explanations=made,
        units=first.units,
        spread=values.std(axis=0, ddof=1),
        sampling=np.sqrt((errors**2).mean(axis=0)),
        same_top=same,
        rank_correlation=np.mean([_spearman(np.abs(values[a]), np.abs(values[b])) for a, b in pairs], axis=0),
    )


def draws(source: Table, *, rows: int, repeats: int, seed: int) -> dict[str, Table]:
    """`repeats` backgrounds of `rows` different rows each, drawn from one table; named `draw 1`, `draw 2`, …

    Raises InputError when the table has fewer rows.
    """
    if rows < 1 or rows > len(source):
        raise InputError(f"A background of {rows} rows cannot be drawn from a table of {len(source)}.")
    rng = np.random.default_rng(seed)
    return {f"draw {k + 1}": source.take(np.sort(rng.choice(len(source), rows, replace=False))) for k in range(repeats)}


def _spearman(a: Floats, b: Floats) -> Floats:
    """(n,) rank correlation row by row, ties by mean ranks; NaN where one side is constant."""
    from scipy.stats import rankdata

    ra, rb = (rankdata(v, axis=1) - (v.shape[1] + 1) / 2 for v in (a, b))
    length = np.sqrt((ra**2).sum(axis=1) * (rb**2).sum(axis=1))
    found = np.divide((ra * rb).sum(axis=1), length, out=np.full(len(a), np.nan), where=length > 0)
    return np.asarray(found, dtype=np.float64)
