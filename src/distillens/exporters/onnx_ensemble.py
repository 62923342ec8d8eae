"""Decision trees as one `TreeEnsembleRegressor` that answers with leaf numbers.

The operator compares in float32 and answers in float32. Both do no harm here: thresholds are float32 numbers already, inputs are
float32, and what is asked of it is not the leaf's value but the leaf's *number*, a small integer that float32 holds exactly.
The values are looked up afterwards, in double precision.

A row goes to the true branch where x ≤ threshold; a missing number (NaN) where `missing_left` says so
(`nodes_missing_value_tracks_true`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from distillens.data.base import Bools, Floats, Ints
from distillens.errors import ModelError
from distillens.exporters.onnx_graph import ML, Graph

MOST_LEAVES = 2**24  # float32 counts that far without a gap


@dataclass
class Ensemble:
    """Trees side by side; tree t answers in column t."""

    ids: dict[str, list[int]] = field(default_factory=lambda: {
        name: [] for name in ("treeids", "nodeids", "featureids", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    })  # fmt: skip
    modes: list[str] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    leaves: list[tuple[int, int, float]] = field(default_factory=list)  # tree, node, number
    trees: int = 0

    def add(self, feature: Ints, threshold: Floats, left: Ints, right: Ints, missing_left: Bools) -> None:
        """A tree of `nodes` nodes (node 0 its root); feature: input column asked, −1 at a leaf. threshold: float32 numbers.

        Leaves answer with their node's number. ModelError when there are too many nodes for that.
        """
        if len(feature) >= MOST_LEAVES:
            raise ModelError(
                f"A tree of {len(feature)} nodes is too big for ONNX export; fewer than {MOST_LEAVES} fit."
            )
        tree = self.trees
        self.trees += 1
        for node in range(len(feature)):
            leaf = feature[node] < 0
            asked = (int(column[node]) for column in (feature, left, right, missing_left))
            row = (tree, node, *((0, 0, 0, 0) if leaf else asked))
            for name, value in zip(self.ids, row, strict=True):
                self.ids[name].append(value)
            self.modes.append("LEAF" if leaf else "BRANCH_LEQ")
            self.values.append(0.0 if leaf else float(threshold[node]))
            if leaf:
                self.leaves.append((tree, node, float(node)))

    def emit(self, graph: Graph, encoded: str) -> str:
        """(n, trees) int64 node numbers of the leaves, from (n, D) float32 columns."""
        attributes = {f"nodes_{name}": values for name, values in self.ids.items()} | {
            "nodes_modes": self.modes,
            "nodes_values": self.values,
            "target_treeids": [tree for tree, _, _ in self.leaves],
            "target_nodeids": [node for _, node, _ in self.leaves],
            "target_ids": [tree for tree, _, _ in self.leaves],
            "target_weights": [number for _, _, number in self.leaves],
            "n_targets": self.trees,
            "aggregate_function": "SUM",
            "post_transform": "NONE",
        }
        return graph.cast(graph.node("TreeEnsembleRegressor", [encoded], domain=ML, attributes=attributes), "int64")


def table_lookup(graph: Graph, table: Floats, index: str) -> str:
    """(n, T, K) rows of an (S, K) float64 table at (n, T) positions."""
    return graph.node("Gather", [graph.constant(table, np.float64), index], attributes={"axis": 0})
