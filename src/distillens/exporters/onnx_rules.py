"""A rule list as a graph: every condition at once, the rules whose conditions all hold, the first of them, its answer in double precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from distillens.exporters.onnx_encoding import emit_encoding
from distillens.exporters.onnx_ensemble import table_lookup

if TYPE_CHECKING:
    from distillens.exporters.onnx_graph import Graph
    from distillens.models.rules import RuleListModel


def emit_rules(graph: Graph, raw: str, model: RuleListModel) -> str:
    """(n, K) float64 probabilities or values. Encoded columns are float32 numbers and so are thresholds: no row changes sides."""
    if not model.rules:
        return graph.repeat(model.value[-1], raw)
    used, place = np.unique(model.feature, return_inverse=True)
    encoded = graph.cast(emit_encoding(graph, raw, model.encoding, only=used), "float32")
    asked = graph.pick(encoded, place, len(used))
    threshold = graph.constant(model.threshold[None, :], np.float32)
    at_most = graph.cast(graph.node("LessOrEqual", [asked, threshold]), "float32")  # onnxruntime chooses no booleans
    above = graph.cast(graph.node("Greater", [asked, threshold]), "float32")
    holds = graph.node("Where", [graph.constant(model.below[None, :], np.bool_), at_most, above])
    belongs = model.rule[:, None] == np.arange(model.rules + 1)  # the ELSE has no conditions, so it always holds
    count = graph.node("MatMul", [holds, graph.constant(belongs, np.float32)])
    needed = graph.constant(belongs.sum(axis=0)[None, :] - 0.5, np.float32)
    matched = graph.cast(graph.node("Greater", [count, needed]), "float32")
    first = graph.node("ArgMax", [matched], attributes={"axis": 1, "keepdims": 0, "select_last_index": 0})
    return table_lookup(graph, model.value, first)
