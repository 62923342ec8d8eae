"""One decision tree with probabilities or values at its leaves.

A row goes left where float32(x) ≤ threshold; thresholds are stored as the largest float32 not above the learnt one, so that
neither storing nor exporting as float32 can flip a row. A missing number goes the way `missing_left` says.

`contributions` is the path's exact bookkeeping (Saabas 2014): each step from a node to its child changes the expected answer, and the
change belongs to the feature that was asked. It is *not* a Shapley value: features asked earlier on a path get no share of later ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Column
from distillens.models.encoding import Encoding
from distillens.models.store import fingerprint

if TYPE_CHECKING:
    from distillens.data.base import Bools, Floats, Ints, Table
    from distillens.models.base import Output, Scale


def float32_floor(threshold: Floats) -> Floats:
    """(n,) the largest float32 ≤ each threshold, as float64: x ≤ t and x ≤ floor(t) agree for every float32 x."""
    rounded = np.asarray(threshold, dtype=np.float64).astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded.astype(np.float64) > threshold, below, rounded).astype(np.float64)


@dataclass(frozen=True, eq=False)
class TreeModel:
    """A fitted tree of `nodes` nodes, node 0 its root.

    feature: (nodes,) encoded column asked at a node, −1 at a leaf. threshold: (nodes,). left, right: (nodes,) children, −1 at a leaf.
    missing_left: (nodes,) where a missing number goes. value: (nodes, K) probabilities or values, expected at inner nodes too.
    encoding: one 0/1 column per category, numbers as they are, NaN kept.
    """

    kind: ClassVar[str] = "tree"

    columns: tuple[Column, ...]
    classes: tuple[str, ...]
    label: str
    encoding: Encoding
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    missing_left: Bools
    value: Floats

    @property
    def output(self) -> Output:
        return "probabilities" if self.classes else "values"

    @property
    def contribution_scale(self) -> Scale:
        return "probability" if self.classes else "value"

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self)

    def _steps(self, inputs: Table) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Level by level: the rows still on their way, the node each is at, and the node each goes to."""
        used = np.unique(self.feature[self.feature >= 0])
        place = np.zeros(self.encoding.width, dtype=np.int64)
        place[used] = np.arange(len(used))
        encoded = self.encoding(inputs.values, only=used)
        rows = np.arange(len(inputs), dtype=np.int64)
        node = np.zeros(len(inputs), dtype=np.int64)
        while True:
            inner = self.feature[node] >= 0
            if not inner.all():
                rows, node = rows[inner], node[inner]
            if not len(rows):
                return
            x = encoded[rows, place[self.feature[node]]]
            goes_left = np.where(np.isnan(x), self.missing_left[node], x <= self.threshold[node])
            child = np.where(goes_left, self.left[node], self.right[node])
            yield rows, node, child
            node = child

    def apply(self, inputs: Table) -> Ints:
        """(n,) the leaf of each row."""
        leaf = np.zeros(len(inputs), dtype=np.int64)
        for rows, _, child in self._steps(inputs):
            leaf[rows] = child
        return leaf

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) probabilities or values."""
        return np.asarray(self.value[self.apply(inputs)], dtype=np.float64)

    def contributions(self, inputs: Table) -> tuple[Floats, Floats]:
        """Path contributions (n, F, K) by raw feature and the root's value (K,); base + sum over features = outputs."""
        out = np.zeros((len(inputs), len(self.columns), self.value.shape[1]))
        for rows, node, child in self._steps(inputs):
            out[rows, self.encoding.feature[self.feature[node]]] += self.value[child] - self.value[node]
        return out, self.value[0].copy()

    @cached_property
    def depth(self) -> int:
        """Questions on the longest path."""
        deepest = np.zeros(len(self.feature), dtype=np.int64)
        for node in range(len(self.feature)):  # children always come after their parent
            if self.feature[node] >= 0:
                deepest[self.left[node]] = deepest[self.right[node]] = deepest[node] + 1
        return int(deepest.max())

    @property
    def leaves(self) -> int:
        return int((self.feature < 0).sum())
