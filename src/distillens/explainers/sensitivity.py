"""How much reasons depend on the background: the same rows explained against several draws of it.

A Shapley value answers "compared with whom?". Explaining against the training rows, the approved applicants or another draw of
the same rows gives different numbers, and a reader should know how different before the first one is signed.

Two callers: `distillens explain --background-draws`, which keeps the coalitions and redraws the background alone, and the audit, which
looks at the second explanation that teacher and student have anyway (other background rows and other coalitions). In both the
spread stands beside the sampling error, which is what sampled coalitions alone would give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.errors import InputError

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Table
    from distillens.explainers.base import Explainer, Explanation
    from distillens.models.base import Model


@dataclass(frozen=True, eq=False)
class Movement:
    """Attributions of n rows by U units, made B times.

    spread: (n, U) standard deviation of each attribution over the draws (B − 1 in the denominator).
    sampling: (n, U) root mean square of the standard errors, what sampled coalitions alone would give; zeros for exact methods.
    same_top: (n,) share of pairs of draws that name the same unit as the one with the largest |φ|.
    rank_correlation: (n,) mean over pairs of Spearman's correlation of |φ|; NaN where a row's attributions are all equal.
    """

    spread: Floats
    sampling: Floats
    same_top: Floats
    rank_correlation: Floats


def movement(values: Floats, errors: Floats) -> Movement:
    """How far (B, n, U) attributions with (B, n, U) standard errors move over B ≥ 2 draws. InputError for fewer."""
    if len(values) < 2:
        raise InputError(f"Sensitivity to the background needs at least two backgrounds, but {len(values)} came.")
    pairs = list(combinations(range(len(values)), 2))
    top = np.abs(values).argmax(axis=2)
    return Movement(
        spread=values.std(axis=0, ddof=1),
        sampling=np.sqrt((errors**2).mean(axis=0)),
        same_top=np.mean([top[a] == top[b] for a, b in pairs], axis=0),
        rank_correlation=np.mean([_spearman(np.abs(values[a]), np.abs(values[b])) for a, b in pairs], axis=0),
    )


@dataclass(frozen=True, eq=False)
class BackgroundSensitivity:
    """Reasons of n rows against B backgrounds. explanations: background's name → explanation of the same rows. units: U names."""

    explanations: Mapping[str, Explanation]
    units: tuple[str, ...]
    moved: Movement

    @classmethod
    def of(cls, explanations: Mapping[str, Explanation]) -> BackgroundSensitivity:
        """From explanations of the same rows that were made already. InputError for fewer than two."""
        every = list(explanations.values())
        values = np.stack([e.values for e in every])
        errors = np.stack([np.zeros(e.values.shape) if e.stderr is None else e.stderr for e in every])
        return cls(explanations, every[0].units, movement(values, errors))

    @property
    def importance(self) -> Floats:
        """(B, U) mean |φ| per background."""
        return np.stack([e.global_importance() for e in self.explanations.values()])

    def to_json(self) -> dict[str, Any]:
        """Per unit: mean |φ| against each background, typical spread, and sampling error; then the two agreements' means."""
        moved = self.moved
        defined = moved.rank_correlation[~np.isnan(moved.rank_correlation)]
        return {
            "backgrounds": {name: [int(i) for i in e.background_ids] for name, e in self.explanations.items()},
            "units": {
                unit: {
                    "importance": dict(zip(self.explanations, self.importance[:, j].tolist(), strict=True)),
                    "spread": float(np.sqrt((moved.spread[:, j] ** 2).mean())),
                    "sampling_error": float(np.sqrt((moved.sampling[:, j] ** 2).mean())),
                }
                for j, unit in enumerate(self.units)
            },
            "rows": len(moved.same_top),
            "same_top": float(moved.same_top.mean()),
            "rank_correlation": float(defined.mean()) if len(defined) else None,
            "rows_without_ranking": int(np.isnan(moved.rank_correlation).sum()),
        }


def background_sensitivity(
    model: Model,
    inputs: Table,
    explainer: Explainer,
    *,
    backgrounds: Mapping[str, Table],
    target: Ints,
    seed: int = 0,
    keep: Path | None = None,
) -> BackgroundSensitivity:
    """Explain the rows against each background (with the same seed: the same coalitions) and report how far the reasons move.

    backgrounds: name → rows, at least two. target: (n,) class index per row. keep: as in `explain_rows`. Raises InputError, ModelError.
    """
    if len(backgrounds) < 2:
        raise InputError(f"Sensitivity to the background needs at least two backgrounds, but {len(backgrounds)} came.")
    return BackgroundSensitivity.of(
        explained_against(model, inputs, explainer, backgrounds=backgrounds, target=target, seed=seed, keep=keep)
    )


def explained_against(
    model: Model, inputs: Table, explainer: Explainer, *, backgrounds: Mapping[str, Table], target: Ints, seed: int, keep: Path | None
) -> dict[str, Explanation]:  # fmt: skip
    """The same rows explained against each background, by name."""
    from distillens.explainers.blocks import explain_rows

    return {
        name: explain_rows(
            explainer, model, inputs, target=target, background=background, seed=seed, keep=keep, label=name
        )
        for name, background in backgrounds.items()
    }


def draws(source: Table, *, rows: int, repeats: int, seed: int) -> dict[str, Table]:
    """`repeats` backgrounds of `rows` different rows each, drawn from one table; named `draw 1`, `draw 2`, …

    Raises InputError when the table has fewer rows, and when it has no others to draw.
    """
    if rows < 1 or rows > len(source):
        raise InputError(f"A background of {rows} rows cannot be drawn from a table of {len(source)}.")
    if rows == len(source) and repeats > 1:
        raise InputError(
            f"Every draw of {rows} rows from a table of {len(source)} holds the same rows; draw fewer, or give more rows to draw from."
        )
    rng = np.random.default_rng(seed)
    return {f"draw {k + 1}": source.take(np.sort(rng.choice(len(source), rows, replace=False))) for k in range(repeats)}


def _spearman(a: Floats, b: Floats) -> Floats:
    """(n,) rank correlation row by row, ties by mean ranks; NaN where one side is constant."""
    from scipy.stats import rankdata

    ra, rb = (rankdata(v, axis=1) - (v.shape[1] + 1) / 2 for v in (a, b))
    length = np.sqrt((ra**2).sum(axis=1) * (rb**2).sum(axis=1))
    found = np.divide((ra * rb).sum(axis=1), length, out=np.full(len(a), np.nan), where=length > 0)
    return np.asarray(found, dtype=np.float64)
