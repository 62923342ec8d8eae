"""One graph input per raw feature, joined to the codes that models see: (n, F) float32, NaN = missing, −1 = unseen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from distillens.exporters.onnx_graph import ML, Graph

if TYPE_CHECKING:
    from distillens.data.base import Column, Ints
    from distillens.models.onnx_description import RawInput


def emit_inputs(graph: Graph, inputs: Sequence[RawInput]) -> str:
    """Numbers as they are; texts to category codes by LabelEncoder (a hash table in onnxruntime)."""
    columns = []
    for one in inputs:
        tensor = graph.input(one.name, one.dtype)
        if one.dtype == "string":
            assert one.missing is not None
            count = len(one.column.categories)
            tensor = graph.node("LabelEncoder", [tensor], domain=ML, attributes={
                "keys_strings": [*one.column.categories, one.missing],
                "values_floats": [*(float(c) for c in range(count)), float("nan")],
                "default_float": -1.0,
            })  # fmt: skip
        columns.append(tensor)
    return graph.join(columns)


def emit_unknown(graph: Graph, raw: str, features: Sequence[int] | Ints, columns: Sequence[Column]) -> str:
    """(n, F') bool: missing, or an unseen boolean (a negative code), for the chosen raw features."""
    tensor = graph.pick(raw, features, len(columns))
    unknown = graph.node("IsNaN", [tensor])
    boolean = np.array([columns[j].kind == "boolean" for j in features])
    if boolean.any():
        bound = np.where(boolean, 0.0, -np.inf)[None, :]  # nothing is less than −∞
        negative = graph.node("Less", [tensor, graph.constant(bound, np.float32)])
        unknown = graph.node("Or", [unknown, negative])
    return unknown
