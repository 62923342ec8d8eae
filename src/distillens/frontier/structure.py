"""What a fitted model shows of its structure, as `stability` compares it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.frontier.stability import Structure
from distillens.models.base import Decision, as_probabilities, evaluate

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Table
    from distillens.models.base import Model

CELLS = 20  # thresholds in the same twentieth of the training rows are the same
SHUFFLED = 500  # rows that importance is measured on, at most

Parts = tuple[frozenset[int] | None, frozenset[Hashable] | None, "Ints | None"]


@dataclass(frozen=True, eq=False)
class Grid:
    """Quantiles of every raw feature: per feature the ascending inner edges (none for a categorical one)."""

    edges: tuple[Floats, ...]

    @classmethod
    def of(cls, table: Table, *, cells: int = CELLS) -> Grid:
        """Edges at the quantiles 1/cells … (cells − 1)/cells of the known values of each numeric or boolean column."""
        shares = np.arange(1, cells) / cells
        edges = []
        for column, values in zip(table.columns, table.values.T, strict=True):
            known = values[np.isfinite(values)]
            edges.append(
                np.unique(np.quantile(known, shares)) if column.kind != "categorical" and len(known) else np.empty(0)
            )
        return cls(tuple(edges))

    def cell(self, feature: int, threshold: float) -> int:
        """The cell that a threshold lies in."""
        return int(np.searchsorted(self.edges[feature], threshold, side="left"))


def structure(model: Model, inputs: Table, *, grid: Grid, decision: Decision | None, seed: int) -> Structure:
    """The structure of a fitted model on the rows of `inputs`; `grid` is made from training rows. Models that are compared share `seed`."""
    read = _PARTS.get(str(getattr(model, "kind", "")))
    features, parts, partition = read(model, inputs, grid) if read else (None, None, None)
    answers = evaluate(model, inputs)
    classes = bool(model.classes)
    decided = (decision or Decision())(as_probabilities(answers, model.output)) if classes else answers[:, 0]
    return Structure(features, parts, partition, importance(model, inputs, seed=seed), decided, classes)


def importance(model: Model, inputs: Table, *, seed: int) -> Floats:
    """(F,) mean change of the answers when one feature's values are shuffled among the rows: ½ Σ |Δp|, or |Δ value|.

    The permutation importance of Breiman (2001, "Random forests", Machine Learning 45, 5) with the change of the answer in place of
    the loss, so that it needs no labels. The shuffles depend on the seed and the number of rows alone: models with one seed share them.
    """
    rng = np.random.default_rng(seed)
    table = (
        inputs if len(inputs) <= SHUFFLED else inputs.take(np.sort(rng.choice(len(inputs), SHUFFLED, replace=False)))
    )
    n, f = table.values.shape
    stacked = np.tile(table.values, (f + 1, 1))
    for j in range(f):
        stacked[(j + 1) * n : (j + 2) * n, j] = table.values[rng.permutation(n), j]
    answers = evaluate(model, table.with_values(stacked))
    answers = as_probabilities(answers, model.output) if model.classes else answers
    change = np.abs(answers.reshape(f + 1, n, -1)[1:] - answers[None, :n]).sum(axis=2)
    return np.asarray(change.mean(axis=1) / (2 if model.classes else 1), dtype=np.float64)


def _condition(model: Any, grid: Grid, column: int, threshold: float) -> tuple[Hashable, ...]:
    """A condition on an encoded column: its feature, what it asks, and the cell of its threshold (0/1 columns have none)."""
    j, part = int(model.encoding.feature[column]), model.encoding.part[column]
    return (j, part, int(model.encoding.code[column]), grid.cell(j, threshold) if part == "value" else 0)


def _tree(model: Any, inputs: Table, grid: Grid) -> Parts:
    inner = np.flatnonzero(model.feature >= 0)
    parts = frozenset(_condition(model, grid, int(model.feature[i]), float(model.threshold[i])) for i in inner)
    return frozenset(int(model.encoding.feature[model.feature[i]]) for i in inner), parts, model.apply(inputs)


def _rules(model: Any, inputs: Table, grid: Grid) -> Parts:
    asked = zip(model.feature, model.threshold, model.below, strict=True)
    parts = frozenset((*_condition(model, grid, int(d), float(t)), bool(below)) for d, t, below in asked)
    return frozenset(int(model.encoding.feature[d]) for d in model.feature), parts, model.fires(inputs)


def _scorecard(model: Any, inputs: Table, grid: Grid) -> Parts:
    del inputs
    parts: set[Hashable] = set()
    for c in model.characteristics:
        parts |= {(c.feature, "cut", grid.cell(c.feature, float(cut))) for cut in c.cuts}
        parts |= {
            (c.feature, "group", tuple(np.flatnonzero(c.groups == g).tolist())) for g in np.unique(c.groups) if g >= 0
        }
    return frozenset(c.feature for c in model.characteristics), frozenset(parts), None


def _linear(model: Any, inputs: Table, grid: Grid) -> Parts:
    del inputs, grid
    used = np.flatnonzero(np.abs(model.coefficients).sum(axis=0))
    return frozenset(int(model.encoding.feature[d]) for d in used), None, None


def _additive(model: Any, inputs: Table, grid: Grid) -> Parts:
    del inputs, grid
    shown = [term.features for term in model.terms if np.any(term.scores)]
    return frozenset(int(j) for features in shown for j in features), frozenset(tuple(sorted(f)) for f in shown), None


def _soft_tree(model: Any, inputs: Table, grid: Grid) -> Parts:
    del grid
    return None, None, np.asarray(model.path_probabilities(inputs).argmax(axis=1), dtype=np.int64)


_PARTS: Mapping[str, Callable[[Any, Any, Grid], Parts]] = {
    "tree": _tree,
    "rules": _rules,
    "scorecard": _scorecard,
    "linear": _linear,
    "additive": _additive,
    "soft_tree": _soft_tree,
}
