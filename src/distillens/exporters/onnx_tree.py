"""A decision tree as a graph: the encoded columns it asks, the leaf of each row, the leaf's values in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from distillens.errors import ModelError
from distillens.exporters.onnx_encoding import emit_encoding
from distillens.exporters.onnx_ensemble import Ensemble, table_lookup
from distillens.exporters.onnx_graph import Graph
from distillens.models.tree import float32_floor

if TYPE_CHECKING:
    from distillens.models.tree import TreeModel


def emit_tree(graph: Graph, raw: str, model: TreeModel) -> str:
    """(n, K) float64 probabilities or values. ModelError when the tree asks rescaled numbers (float32 could then flip a row)."""
    used = np.unique(model.feature[model.feature >= 0])
    if not len(used):
        return graph.repeat(model.value[0], raw)
    asked = model.encoding.feature[used]
    if (model.encoding.mean[asked] != 0).any() or (model.encoding.scale[asked] != 1).any():
        raise ModelError(
            f"The tree {model.label!r} asks standardised numbers, whose rounding to float32 could flip rows; fit it with an encoding "
            "of standardize=False to export it."
        )
    place = np.full(model.encoding.width + 1, -1, dtype=np.int64)  # the last entry serves feature −1
    place[used] = np.arange(len(used))
    encoded = graph.cast(emit_encoding(graph, raw, model.encoding, only=used), "float32")
    ensemble = Ensemble()
    # x ≤ t for a float32 x is x ≤ the largest float32 ≤ t, so rounding down flips no row
    with np.errstate(over="ignore"):
        threshold = float32_floor(model.threshold)
    ensemble.add(place[model.feature], threshold, model.left, model.right, model.missing_left)
    leaf = ensemble.emit(graph, encoded)
    flat = graph.node("Reshape", [leaf, graph.constant([-1], np.int64)])
    return table_lookup(graph, model.value, flat)
