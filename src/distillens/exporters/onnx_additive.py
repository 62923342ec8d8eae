"""An additive model as a graph: the bin of every feature, one look-up in all score tables at once, a sum in double precision.

Bins of numbers come from a binary search without branches, for all features side by side: with 2^b − 1 cuts (shorter lists are
filled up with NaN, which no number reaches), b rounds of

    position += step · (cuts[position + step − 1] ≤ x)      step = 2^(b−1), …, 2, 1

end at the number of cuts ≤ x. It costs b comparisons a value where comparing with every cut would cost 2^b, and the file holds each
cut once. For a float32 x, cut ≤ x holds exactly where the smallest float32 ≥ cut is ≤ x, so rounding cuts up flips no row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from distillens.exporters.onnx_ensemble import table_lookup
from distillens.exporters.onnx_graph import Graph
from distillens.exporters.onnx_inputs import emit_unknown
from distillens.exporters.onnx_outputs import emit_from_log_odds
from distillens.models.additive import float32_ceiling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distillens.data.base import Column, Floats
    from distillens.models.additive import AdditiveModel


def emit_additive(graph: Graph, raw: str, model: AdditiveModel) -> str:
    """(n, K) float64 logits or values."""
    if not model.terms:
        return emit_from_log_odds(graph, graph.repeat(model.intercepts, raw), model.classes)
    binnings: dict[tuple[int, bytes], tuple[int, Floats]] = {}  # features that several terms cut alike are binned once
    first, second, stride, tables = [], [], [], []
    for term in model.terms:
        places = []
        for j, cuts in zip(term.features, term.cuts, strict=True):
            key = (j, cuts.tobytes())
            binnings.setdefault(key, (j, cuts))
            places.append(list(binnings).index(key))
        first.append(places[0])
        second.append(places[-1])
        stride.append((1, 0) if len(places) == 1 else (term.scores.shape[1], 1))
        tables.append(term.scores.reshape(-1, len(model.intercepts)))

    bins = _emit_bins(graph, raw, list(binnings.values()), model.columns)
    offset = np.concatenate([[0], np.cumsum([len(t) for t in tables])[:-1]])
    strides = np.array(stride)
    index = graph.pick(bins, first, len(binnings))
    if (strides[:, 0] != 1).any():
        index = graph.node("Mul", [index, graph.constant(strides[None, :, 0], np.int32)])
    if (strides[:, 1] != 0).any():
        other = graph.pick(bins, second, len(binnings))
        other = graph.node("Mul", [other, graph.constant(strides[None, :, 1], np.int32)])
        index = graph.node("Add", [index, other])
    index = graph.node("Add", [index, graph.constant(offset[None, :], np.int32)])
    parts = table_lookup(graph, np.concatenate(tables), index)
    total = graph.node("ReduceSum", [parts, graph.constant([1], np.int64)], attributes={"keepdims": 0})
    scores = graph.node("Add", [total, graph.constant(model.intercepts[None, :], np.float64)])
    return emit_from_log_odds(graph, scores, model.classes)


def _emit_bins(graph: Graph, raw: str, binnings: Sequence[tuple[int, Floats]], columns: Sequence[Column]) -> str:
    """(n, B) int32 bins as in models/additive.py: 0 missing; 1 + cuts ≤ x, or 1 + code; the last one unseen."""
    numbers = [b for b, (j, _) in enumerate(binnings) if columns[j].kind != "categorical"]
    texts = [b for b, (j, _) in enumerate(binnings) if columns[j].kind == "categorical"]
    blocks = []
    if numbers:
        features = [binnings[b][0] for b in numbers]
        x = graph.pick(raw, features, len(columns))
        blocks.append(_emit_search(graph, x, [binnings[b][1] for b in numbers]))
    if texts:
        features = [binnings[b][0] for b in texts]
        code = graph.pick(raw, features, len(columns))
        unseen = graph.constant([[float(len(columns[j].categories)) for j in features]], np.float32)
        negative = graph.node("Less", [code, graph.constant(0.0, np.float32)])
        # missing codes are NaN until here, and the cast of a NaN to an integer is anybody's guess
        known = graph.node("Where", [graph.node("IsNaN", [code]), graph.constant(0.0, np.float32), code])
        shifted = graph.cast(graph.node("Where", [negative, unseen, known]), "int32")
        blocks.append(graph.node("Add", [shifted, graph.constant(1, np.int32)]))
    order = numbers + texts
    bins = graph.pick(graph.join(blocks), [order.index(b) for b in range(len(binnings))], len(binnings))
    unknown = emit_unknown(graph, raw, [j for j, _ in binnings], columns)
    return graph.node("Where", [unknown, graph.constant(0, np.int32), bins])


def _emit_search(graph: Graph, x: str, cuts: Sequence[Floats]) -> str:
    """(n, B) int32: 1 + number of cuts ≤ x."""
    rounds = max(len(c) for c in cuts).bit_length()
    size = 2**rounds - 1
    table = np.full((len(cuts), max(size, 1)), np.nan, dtype=np.float32)
    for row, c in zip(table, cuts, strict=True):
        with np.errstate(over="ignore"):  # a cut beyond float32 becomes infinite, which only infinite numbers reach
            row[: len(c)] = float32_ceiling(c)
    flat = graph.constant(table.reshape(-1), np.float32)
    start = np.arange(len(cuts)) * size
    below = graph.constant(np.ones((1, len(cuts))), np.int32)
    if rounds == 0:  # no feature has a cut: every number lies in bin 1
        zero = graph.cast(graph.node("IsNaN", [x]), "int32")
        return graph.node("Add", [graph.node("Mul", [zero, graph.constant(0, np.int32)]), below])
    count = ""
    for step in (2**b for b in reversed(range(rounds))):
        probe = start[None, :] + step - 1
        if not count:  # the first probe is the same for every row
            cut = graph.constant(table.reshape(-1)[probe], np.float32)
        else:
            position = graph.node("Add", [count, graph.constant(probe, np.int32)])
            cut = graph.node("Gather", [flat, position], attributes={"axis": 0})
        reached = graph.cast(graph.node("LessOrEqual", [cut, x]), "int32")
        move = reached if step == 1 else graph.node("Mul", [reached, graph.constant(step, np.int32)])
        count = move if not count else graph.node("Add", [count, move])
    return graph.node("Add", [count, below])
