"""`Encoding` as a graph: (n, F) float32 codes → (n, D) encoded columns, in float64, by a handful of operators over whole blocks.

The arithmetic is that of `models.encoding.Encoding`, operator for operator, in double precision: (filled − mean) / scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from distillens.exporters.onnx_graph import Graph
from distillens.exporters.onnx_inputs import emit_unknown

if TYPE_CHECKING:
    from distillens.data.base import Ints
    from distillens.models.encoding import Encoding

PARTS = ("value", "category", "missing")  # the order in which blocks of columns are put together


def emit_encoding(graph: Graph, raw: str, encoding: Encoding, *, only: Ints | None = None) -> str:
    """(n, D) float64 encoded rows; with `only`, those encoded columns in that order (at least one)."""
    wanted = np.arange(encoding.width) if only is None else np.asarray(only)
    width = len(encoding.columns)
    blocks, order = [], []

    values = [int(d) for d in wanted if encoding.part[d] == "value"]
    if values:
        features = encoding.feature[values]
        number = graph.cast(graph.pick(raw, features, width), "float64")
        unknown = emit_unknown(graph, raw, features, encoding.columns)
        fill = encoding.fill[features] if encoding.fill_missing else np.full(len(features), np.nan)
        block = graph.node("Where", [unknown, graph.constant(fill[None, :], np.float64), number])
        mean, scale = encoding.mean[features], encoding.scale[features]
        if (mean != 0).any():
            block = graph.node("Sub", [block, graph.constant(mean[None, :], np.float64)])
        if (scale != 1).any():
            block = graph.node("Div", [block, graph.constant(scale[None, :], np.float64)])
        blocks.append(block)
        order += values

    categories = [int(d) for d in wanted if encoding.part[d] == "category"]
    if categories:
        code = graph.constant(encoding.code[categories][None, :], np.float32)  # exact below 2²⁴ categories
        same = graph.node("Equal", [graph.pick(raw, encoding.feature[categories], width), code])
        blocks.append(graph.cast(same, "float64"))
        order += categories

    missing = [int(d) for d in wanted if encoding.part[d] == "missing"]
    if missing:
        blocks.append(graph.cast(emit_unknown(graph, raw, encoding.feature[missing], encoding.columns), "float64"))
        order += missing

    place = {d: i for i, d in enumerate(order)}
    return graph.pick(graph.join(blocks), [place[int(d)] for d in wanted], len(order))
