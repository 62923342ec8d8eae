"""`Graph`: an ONNX graph under construction. Names are numbered in the order of construction, so equal models give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# What onnxruntime 1.20 and later read, and torch's exporter writes; all that the emitters need is in there.
OPSET = 18
ML_OPSET = 3
IR_VERSION = 8
ML = "ai.onnx.ml"


class Graph:
    """Nodes and constants. Tensors are spoken of by name (str); rows are the first axis of every tensor that is not a constant."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def input(self, name: str, dtype: str) -> str:
        """A graph input (rows, 1); dtype: float32 or string."""
        from onnx import TensorProto, helper

        element = {"float32": TensorProto.FLOAT, "string": TensorProto.STRING}[dtype]
        self.inputs.append(helper.make_tensor_value_info(name, element, ["rows", 1]))
        return name

    def output(self, tensor: str, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """A graph output; dtype: float64 or int64."""
        from onnx import TensorProto, helper

        element = {"float64": TensorProto.DOUBLE, "int64": TensorProto.INT64}[dtype]
        self.nodes.append(helper.make_node("Identity", [tensor], [name], name=f"out_{name}"))
        self.outputs.append(helper.make_tensor_value_info(name, element, list(shape)))

    def constant(self, array: Any, dtype: Any) -> str:
        """A constant of a NumPy dtype; equal ones are stored once."""
        from onnx import numpy_helper

        value: NDArray[Any] = np.ascontiguousarray(np.asarray(array), dtype=dtype)
        value = value.reshape(np.shape(array))  # ascontiguousarray makes a scalar one-dimensional
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self._constants[key] = name
            self.initializers.append(numpy_helper.from_array(value, name))
        return self._constants[key]

    def node(
        self, op: str, inputs: Sequence[str], *, attributes: Mapping[str, Any] | None = None, domain: str = ""
    ) -> str:
        """Add an operator; returns its (first) output."""
        from onnx import helper

        name = f"{op.lower()}_{len(self.nodes)}"
        node = helper.make_node(op, list(inputs), [name], name=name, domain=domain)
        for key in sorted(attributes or {}):
            node.attribute.append(helper.make_attribute(key, (attributes or {})[key]))
        self.nodes.append(node)
        return name

    def cast(self, tensor: str, dtype: str) -> str:
        """To float32, float64, int32 or int64."""
        from onnx import TensorProto

        to = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int32": TensorProto.INT32, "int64": TensorProto.INT64}  # fmt: skip
        return self.node("Cast", [tensor], attributes={"to": int(to[dtype])})

    def pick(self, tensor: str, columns: Sequence[int] | NDArray[Any], width: int) -> str:
        """Columns of an (n, width) tensor; the tensor itself where that changes nothing."""
        if list(columns) == list(range(width)):
            return tensor
        return self.node("Gather", [tensor, self.constant(columns, np.int64)], attributes={"axis": 1})

    def join(self, tensors: Sequence[str]) -> str:
        """Side by side: (n, a), (n, b), … → (n, a + b + …)."""
        return tensors[0] if len(tensors) == 1 else self.node("Concat", tensors, attributes={"axis": 1})

    def repeat(self, row: NDArray[np.float64], like: str) -> str:
        """(n, K) the same (K,) row for every row of `like` (n, …)."""
        shape = self.node("Shape", [like], attributes={"start": 0, "end": 1})
        target = self.node("Concat", [shape, self.constant([len(row)], np.int64)], attributes={"axis": 0})
        return self.node("Expand", [self.constant(row[None, :], np.float64), target])

    def model(self, *, metadata: Mapping[str, str], producer_version: str) -> Any:
        """The finished model: deterministic, without doc strings."""
        from onnx import helper

        graph = helper.make_graph(self.nodes, "distillens", self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == ML for node in self.nodes):
            opsets.append(helper.make_opsetid(ML, ML_OPSET))
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="distillens",
            producer_version=producer_version,
        )
        helper.set_model_props(model, dict(sorted(metadata.items())))
        return model
