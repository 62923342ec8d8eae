"""A scorecard as a graph: it is an additive model, and written as one. The file answers with probabilities and logits;

score = offset + factor · (logit of good − logit of adverse).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillens.exporters.onnx_additive import emit_additive

if TYPE_CHECKING:
    from distillens.exporters.onnx_graph import Graph
    from distillens.models.scorecard import ScorecardModel


def emit_scorecard(graph: Graph, raw: str, model: ScorecardModel) -> str:
    """(n, 2) float64 logits."""
    return emit_additive(graph, raw, model.additive)
