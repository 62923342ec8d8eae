"""From a model's answers to the outputs of the graph: probabilities and logits, or the value; and the decision, where one was given.

All are float64. A leaf of 7 in 10 has probability 0.7 and is decided at a threshold of 0.7; as float32 it would be
0.699999988, and every row of that leaf would be decided otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.exporters.onnx_graph import Graph

if TYPE_CHECKING:
    from distillens.models.base import Decision, Output


def emit_from_log_odds(graph: Graph, scores: str, classes: tuple[str, ...]) -> str:
    """(n, 2) logits (−s/2, s/2) from the (n, 1) log-odds s of the second of two classes; other scores as they are."""
    return graph.node("Mul", [scores, graph.constant([[-0.5, 0.5]], np.float64)]) if len(classes) == 2 else scores


def emit_outputs(
    graph: Graph, answers: str, *, output: Output, classes: tuple[str, ...], decision: Decision | None
) -> list[dict[str, Any]]:
    """Outputs from the (n, K) float64 answers of a model; returns what the file's metadata say about them."""
    described: list[dict[str, Any]] = []

    def give(tensor: str, name: str, dtype: str, shape: list[int | str], meaning: str) -> None:
        graph.output(tensor, name, dtype, shape)
        described.append({"name": name, "dtype": dtype, "shape": shape, "meaning": meaning})

    if output == "values":
        give(answers, "value", "float64", ["rows", 1], "predicted value")
        return described
    width: list[int | str] = ["rows", len(classes)]
    probabilities = answers
    if output == "logits":
        probabilities = graph.node("Softmax", [answers], attributes={"axis": 1})
    give(probabilities, "probabilities", "float64", width, "probability of each class, in the order of `classes`")
    if output == "logits":
        give(answers, "logits", "float64", width, "logit of each class, in the order of `classes`")
    if decision is not None:
        if len(classes) == 2:
            chosen = graph.pick(probabilities, [decision.adverse], 2)
            adverse = graph.node("GreaterOrEqual", [chosen, graph.constant(decision.threshold, np.float64)])
            names = [graph.constant(c, np.int64) for c in (decision.adverse, 1 - decision.adverse)]
            decided = graph.node("Where", [adverse, *names])
        else:
            decided = graph.node("ArgMax", [probabilities], attributes={"axis": 1, "keepdims": 1})
        give(decided, "decision", "int64", ["rows", 1], "position in `classes` of the decided class")
    return described
