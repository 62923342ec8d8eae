"""A network as a graph: its encoding by our own operators, its body by torch's exporter, put together by name.

torch's exporter writes where each operator came from, with the paths of this machine; that is taken out, so that the file
says nothing about where it was made and equal networks give equal bytes.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from distillens.errors import ModelError
from distillens.exporters.onnx_encoding import emit_encoding
from distillens.exporters.onnx_graph import OPSET, Graph

if TYPE_CHECKING:
    from distillens.models.torch_module import TabularNetwork

PREFIX = "net."


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torch's exporter prints, logs and warns about parts of itself; silenced inside the block only."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            # torch.export's own use of its own deprecated tree classes
            warnings.filterwarnings("ignore", message=r".*LeafSpec.*", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(torch|onnxscript|copyreg)(\..*)?")
            yield
    finally:
        logger.setLevel(level)


def emit_network(graph: Graph, raw: str, model: TabularNetwork) -> str:
    """(n, K) float64 logits or values. ModelError, with torch's reason, when the module cannot be exported."""
    from onnx import helper

    if model.encoding.width == 0:
        raise ModelError(f"The network {model.label!r} has no encoded columns, so there is nothing to export.")
    encoded = graph.cast(emit_encoding(graph, raw, model.encoding), "float32")
    body = _body(model)
    if {o.domain for o in body.opset_import if o.version != OPSET} - {"pkg.torch.onnx"} or body.functions:
        raise ModelError(
            f"torch's exporter wrote the network {model.label!r} with operators beyond ONNX opset {OPSET}, which distillens cannot join "
            "to its preprocessing; use standard layers (linear, ReLU, GELU, softplus, tanh)."
        )
    (entry,), (end,) = body.graph.input, body.graph.output
    names = {entry.name: encoded, "": ""}
    taken = sum(
        node.name.startswith(PREFIX) and node.name.split(".")[-1] == "0" for node in graph.nodes
    )  # networks before this one
    prefix = PREFIX if taken == 0 else f"{PREFIX}{taken}."

    def renamed(name: str) -> str:
        return names.setdefault(name, prefix + name)

    for initializer in body.graph.initializer:
        initializer.name = renamed(initializer.name)
        initializer.doc_string = ""
        del initializer.metadata_props[:]
        graph.initializers.append(initializer)
    for number, node in enumerate(body.graph.node):
        if any(a.type in (a.GRAPH, a.GRAPHS) for a in node.attribute):
            raise ModelError(
                f"The network {model.label!r} branches or loops inside, which its ONNX export does not support."
            )
        copied = helper.make_node(
            node.op_type,
            [renamed(i) for i in node.input],
            [renamed(o) for o in node.output],
            name=f"{prefix}{number}",
            domain=node.domain,
        )
        copied.attribute.extend(sorted(node.attribute, key=lambda a: a.name))
        graph.nodes.append(copied)
    return graph.cast(renamed(end.name), "float64")


def _body(model: TabularNetwork) -> Any:
    """The module as an ONNX model (rows, D) float32 → (rows, K) float32."""
    import torch

    module = copy.deepcopy(model.module).cpu().eval()  # a copy: the model's own mode and device stay as they are
    rows = torch.export.Dim("rows")
    example = torch.zeros(2, model.encoding.width)
    try:
        with quiet():
            program = torch.onnx.export(
                module, (example,), dynamo=True, dynamic_shapes=({0: rows},), opset_version=OPSET, verbose=False,
                input_names=["encoded"], output_names=["answers"],
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"torch cannot export the network {model.label!r} to ONNX: {reason[0] if reason else type(error).__name__}"
        ) from error
    assert program is not None
    return program.model_proto
