"""A linear model as a graph: encoding, one matrix product in double precision, intercepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from distillens.exporters.onnx_encoding import PARTS, emit_encoding
from distillens.exporters.onnx_graph import Graph
from distillens.exporters.onnx_outputs import emit_from_log_odds

if TYPE_CHECKING:
    from distillens.models.linear import LinearModel


def emit_linear(graph: Graph, raw: str, model: LinearModel) -> str:
    """(n, K) float64 logits or values."""
    if model.encoding.width == 0:
        return emit_from_log_odds(graph, graph.repeat(model.intercepts, raw), model.classes)
    # columns of one part next to each other, as they are computed: the coefficients are put in that order instead of the columns
    order = np.argsort([PARTS.index(part) for part in model.encoding.part], kind="stable")
    encoded = emit_encoding(graph, raw, model.encoding, only=order)
    product = graph.node("MatMul", [encoded, graph.constant(model.coefficients.T[order], np.float64)])
    scores = graph.node("Add", [product, graph.constant(model.intercepts[None, :], np.float64)])
    return emit_from_log_odds(graph, scores, model.classes)
