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

    def part_of(self, inputs: Table) -> Ints:
        """(n,) the part of the model that answers each row, one of `parts`: the node of its leaf."""
        return self.apply(inputs)

    @property
    def parts(self) -> tuple[int, ...]:
        """The nodes that are leaves."""
        return tuple(int(node) for node in np.flatnonzero(self.feature < 0))

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

    def describe(self) -> dict[str, Any]:
        """What people read: nested rules. An inner node has `condition` (text), `feature`, `yes` and `no`; a leaf has `value` (K,)."""
        return {
            "form": "tree",
            "scale": self.contribution_scale,
            "outputs": list(self.classes) or ["value"],
            "leaves": self.leaves,
            "depth": self.depth,
            "root": self._describe(0),
        }

    def _describe(self, node: int) -> dict[str, Any]:
        value = self.value[node].tolist()
        d = int(self.feature[node])
        if d < 0:
            return {"node": node, "value": value}
        column = self.columns[int(self.encoding.feature[d])]
        part, left, right = self.encoding.part[d], int(self.left[node]), int(self.right[node])
        if part != "value" or column.kind == "boolean":  # 0 goes left, 1 goes right: ask for the 1
            yes, no, missing_yes = right, left, part == "value" and not self.missing_left[node]
            text = f"{column.name} = {column.categories[1]}" if part == "value" else self.encoding.names[d]
        else:
            yes, no, missing_yes = left, right, bool(self.missing_left[node])
            text = f"{column.name} ≤ {self.threshold[node]:.6g}"
        return {
            "node": node,
            "feature": column.name,
            "condition": text + (" or missing" if missing_yes else ""),
            "threshold": float(self.threshold[node]),
            "value": value,
            "yes": self._describe(yes),
            "no": self._describe(no),
        }

    def complexity(self) -> dict[str, int]:
        """leaves, depth (questions on the longest path), parameters (thresholds and leaf values), size_bytes."""
        arrays = self.to_record()[1]
        free = self.value.shape[1] - 1 if self.classes else 1
        return {
            "leaves": self.leaves,
            "depth": self.depth,
            "parameters": int((self.feature >= 0).sum() + self.leaves * free),
            "size_bytes": int(sum(a.nbytes for a in arrays.values())),
        }

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        encoding, arrays = self.encoding.to_record()
        names = ("feature", "threshold", "left", "right", "missing_left", "value")
        meta = {"encoding": encoding, "classes": list(self.classes), "label": self.label}
        return meta, arrays | {name: getattr(self, name) for name in names}

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> TreeModel:
        encoding = Encoding.from_record(meta["encoding"], arrays)
        return cls(encoding.columns, tuple(meta["classes"]), meta["label"], encoding, arrays["feature"], arrays["threshold"],
                   arrays["left"], arrays["right"], arrays["missing_left"], arrays["value"])  # fmt: skip
