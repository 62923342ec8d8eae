"""A soft decision tree as a graph, in double precision: the scores of all nodes at once, then level by level who comes through where.

With a hard path the branch probabilities are 0 and 1, and the mixture of the leaves is the one leaf that is reached.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from distillens.errors import ModelError
from distillens.exporters.onnx_encoding import emit_encoding

if TYPE_CHECKING:
    from distillens.exporters.onnx_graph import Graph
    from distillens.models.soft_tree import SoftTreeModel


def emit_soft_tree(graph: Graph, raw: str, model: SoftTreeModel) -> str:
    """(n, K) float64 probabilities. ModelError when there are no encoded columns."""
    if model.encoding.width == 0:
        raise ModelError(f"The soft tree {model.label!r} has no encoded columns, so there is nothing to export.")
    encoded = emit_encoding(graph, raw, model.encoding)
    product = graph.node("MatMul", [encoded, graph.constant(model.weights.T, np.float64)])
    scores = graph.node("Add", [product, graph.constant(model.biases[None, :], np.float64)])
    if model.path == "hard":
        right = graph.cast(graph.node("Greater", [scores, graph.constant(0.0, np.float64)]), "float64")
    else:
        right = graph.node("Sigmoid", [graph.node("Mul", [scores, graph.constant(model.beta, np.float64)])])
    left = graph.node("Sub", [graph.constant(1.0, np.float64), right])
    inner, places, through = len(model.weights), [0], ""
    for _ in range(model.depth):  # columns stand in the order of `places`: all left children first, then all right ones
        sides = []
        for branch in (left, right):
            p = graph.pick(branch, places, inner)
            sides.append(graph.node("Mul", [through, p]) if through else p)
        through = graph.join(sides)
        places = [2 * i + 1 for i in places] + [2 * i + 2 for i in places]
    leaves = model.distributions[[i - inner for i in places]]
    return graph.node("MatMul", [through, graph.constant(leaves, np.float64)])
