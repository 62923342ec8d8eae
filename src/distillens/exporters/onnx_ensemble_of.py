"""An ensemble as one graph: every member's, and what they say put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from distillens.errors import ModelError
from distillens.named import load_object

if TYPE_CHECKING:
    from distillens.exporters.onnx_graph import Graph
    from distillens.models.ensemble import EnsembleModel


def emit_ensemble_of(graph: Graph, raw: str, model: EnsembleModel) -> str:
    """(n, K) float64 probabilities or values. ModelError when a member has no ONNX form."""
    from distillens.exporters.onnx import EMITTERS

    weighted, weights = [], []
    for member, weight in zip(model.members, model.weights, strict=True):
        if getattr(member, "kind", None) not in EMITTERS or tuple(member.columns) != tuple(model.columns):
            raise ModelError(f"The member {member.label!r} of the ensemble cannot be exported to ONNX.")
        answers: str = load_object(EMITTERS[member.kind])(graph, raw, member)
        if member.output == "logits":
            answers = graph.node("Softmax", [answers], attributes={"axis": 1})
        share = graph.constant([[weight]], np.float64)
        if model.combine == "confidence" and model.classes:
            share = graph.node("Mul", [share, _sureness(graph, answers, len(model.classes))])
        weighted.append(graph.node("Mul", [answers, share]))
        weights.append((answers, share, weight))
    total = _sum(graph, weighted)
    if model.combine != "confidence" or not model.classes:
        return total
    shares = _sum(graph, [share for _, share, _ in weights])
    mean = _sum(graph, [graph.node("Mul", [answers, graph.constant([[w]], np.float64)]) for answers, _, w in weights])
    nobody = graph.node("LessOrEqual", [shares, graph.constant([[1e-12]], np.float64)])
    one = graph.node("Where", [nobody, graph.constant([[1.0]], np.float64), shares])
    return graph.node("Where", [nobody, mean, graph.node("Div", [total, one])])


def _sureness(graph: Graph, p: str, classes: int) -> str:
    """(n, 1) 1 − H(p) / log K, at least 0."""
    floor = graph.node("Max", [p, graph.constant([[1e-300]], np.float64)])
    entropy = graph.node("Neg", [_row_sum(graph, graph.node("Mul", [p, graph.node("Log", [floor])]))])
    share = graph.node("Div", [entropy, graph.constant([[np.log(classes)]], np.float64)])
    sure = graph.node("Sub", [graph.constant([[1.0]], np.float64), share])
    return graph.node("Max", [sure, graph.constant([[0.0]], np.float64)])


def _row_sum(graph: Graph, tensor: str) -> str:
    return graph.node("ReduceSum", [tensor, graph.constant([1], np.int64)], attributes={"keepdims": 1})


def _sum(graph: Graph, tensors: list[str]) -> str:
    return tensors[0] if len(tensors) == 1 else graph.node("Sum", tensors)
