"""How far two fitted models have the same structure. Pure functions: 1 is the same.

`Structure` is what a family shows of itself; `alike` compares two of the same family:

- features: the raw features that are used, by Jaccard's index |A ∩ B| / |A ∪ B|, the Tanimoto similarity with which Kalousis, Prados
  and Hilario (2007, "Stability of feature selection algorithms", Knowledge and Information Systems 12, 95) compare selected subsets;
- parts: conditions of a tree or a rule list, cuts and groups of levels of a scorecard, terms of an additive model, by Jaccard's index.
  Thresholds are compared on a grid of quantiles of the training rows: as numbers they never agree, and Bénard et al. (2021, "SIRUS:
  stable and interpretable rule set for classification", Electronic Journal of Statistics 15, 427) restrict rules to quantiles for this
  reason; they compare by Dice's index 2 |A ∩ B| / (|A| + |B|), which is a monotone function of Jaccard's;
- partition: which rows come to the same leaf or rule, by the adjusted Rand index (Hubert and Arabie 1985, "Comparing partitions",
  Journal of Classification 2, 193), 0 on average for unrelated partitions;
- importance: the order of the features by what shuffling each of them changes, by Spearman's correlation, as Kalousis et al. do for
  rankings;
- decisions: share of rows decided alike (for regression: Pearson's correlation of the values). One minus it is called churn.

Jaccard's index is not corrected for chance: a family that uses every feature always has 1, which says nothing in its favour.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from distillens.errors import InputError
from distillens.similarity import Floats, pearson, spearman

Ints = NDArray[np.int64]
NAMES = ("features", "parts", "partition", "importance", "decisions")


@dataclass(frozen=True, eq=False)
class Structure:
    """features: raw features used; parts: hashable parts; partition: (n,) group of each row; None where the family has none.

    importance: (F,). decisions: (n,) class indices, or values for regression.
    """

    features: frozenset[int] | None
    parts: frozenset[Hashable] | None
    partition: Ints | None
    importance: Floats
    decisions: NDArray[np.int64] | Floats
    classes: bool


def jaccard(a: frozenset[Hashable], b: frozenset[Hashable]) -> float:
    """|A ∩ B| / |A ∪ B|; 1 for two empty sets, which are the same."""
    union = len(a | b)
    return len(a & b) / union if union else 1.0


def adjusted_rand(a: Ints, b: Ints) -> float:
    """The adjusted Rand index of two partitions of the same rows (Hubert and Arabie 1985, equation 5).

    With pairs of rows together in both (s), in the first (p), in the second (q) and pairs in all (t): (s − pq/t) / ((p+q)/2 − pq/t).
    Where that is 0/0 (both all in one group, or all apart) the partitions are the same, and it is 1. InputError for unequal lengths.
    """
    if a.shape != b.shape or a.ndim != 1:
        raise InputError(f"Partitions of the same rows are compared; got shapes {a.shape} and {b.shape}.")
    _, first = np.unique(a, return_inverse=True)
    _, second = np.unique(b, return_inverse=True)
    table = np.zeros((first.max(initial=-1) + 1, second.max(initial=-1) + 1))
    np.add.at(table, (first, second), 1.0)

    def pairs(counts: Floats) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    together, one, other = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    everything = len(a) * (len(a) - 1) / 2
    chance = one * other / everything if everything else 0.0
    most = (one + other) / 2
    return 1.0 if most == chance else float((together - chance) / (most - chance))


def alike(a: Structure, b: Structure) -> dict[str, float | None]:
    """Every similarity of two structures; None where the family has no such thing, or it is undefined (a constant model)."""
    both = {name: (getattr(a, name), getattr(b, name)) for name in ("features", "parts", "partition")}
    found: dict[str, float | None] = {
        name: None if x is None or y is None else adjusted_rand(x, y) if name == "partition" else jaccard(x, y)
        for name, (x, y) in both.items()
    }
    found["importance"] = _defined(spearman(a.importance[None, :], b.importance[None, :]))
    if a.classes:
        found["decisions"] = float((a.decisions == b.decisions).mean())
    else:
        found["decisions"] = _defined(
            pearson(a.decisions[None, :].astype(np.float64), b.decisions[None, :].astype(np.float64))
        )
    return found


def _defined(value: Floats) -> float | None:
    return float(value[0]) if np.isfinite(value[0]) else None


def stability(structures: list[Structure]) -> dict[str, dict[str, float | int] | None] | None:
    """Over all pairs: {name: {value (mean), low, high, pairs}}, None where no pair has one. None for fewer than two structures."""
    if len(structures) < 2:
        return None
    compared = [alike(a, b) for a, b in combinations(structures, 2)]
    return {name: _summary([c[name] for c in compared]) for name in NAMES}


def _summary(values: list[float | None]) -> dict[str, float | int] | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"value": float(np.mean(known)), "low": min(known), "high": max(known), "pairs": len(known)}
