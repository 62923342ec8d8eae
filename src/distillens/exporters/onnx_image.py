"""A network for images as one ONNX file: stored pixels in, probabilities and the decision out; preprocessing is inside.

torch's exporter writes the whole of it. What it notes about where an operator came from, with the paths of this machine, is taken out.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distillens.errors import ModelError
from distillens.exporters.base import ExportResult
from distillens.exporters.onnx_graph import OPSET
from distillens.exporters.onnx_network import quiet
from distillens.models.onnx_image import KEY
from distillens.store import atomic_path, canonical_json

if TYPE_CHECKING:
    from distillens.models.base import Decision
    from distillens.models.image_network import ImageNetwork
    from distillens.models.preprocess import Preprocess


class _Whole(nn.Module):
    """(n, C, H, W) uint8 → logits, probabilities (n, K) and the decided class (n,)."""

    def __init__(
        self, module: nn.Module, look: Preprocess, given: tuple[int, int, int], decision: Decision | None
    ) -> None:
        super().__init__()
        self.module, self.look, self.given, self.decision = module, look, given, decision
        self.mean: Tensor
        self.std: Tensor
        self.grey: Tensor
        self.register_buffer("mean", torch.tensor(look.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(look.std).view(1, -1, 1, 1))
        self.register_buffer("grey", torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        images = pixels.to(torch.float32) / 255
        if self.given[0] == 1 and self.look.channels == 3:
            images = torch.cat([images, images, images], dim=1)
        elif self.given[0] == 3 and self.look.channels == 1:
            images = (images * self.grey).sum(dim=1, keepdim=True)
        if self.given[1:] != self.look.size:
            images = nn.functional.interpolate(
                images, self.look.size, mode="bilinear", antialias=True, align_corners=False
            )
        logits = self.module((images - self.mean) / self.std)
        probabilities = torch.softmax(logits.double(), dim=1)
        if self.decision is not None and logits.shape[1] == 2:
            adverse = self.decision.adverse
            above = (probabilities[:, adverse] >= self.decision.threshold).to(torch.int64)
            decided = above if adverse == 1 else 1 - above
        else:
            decided = probabilities.argmax(dim=1)
        return logits.double(), probabilities, decided


def export_images(
    model: ImageNetwork, path: Path, *, shape: tuple[int, int, int] | None, decision: Decision | None
) -> ExportResult:
    """Write the network for images of `shape` (C, H, W), as they are stored; None: of the shape that it takes.

    Equal networks give equal bytes. Raises ModelError, with torch's reason, when the network cannot be exported.
    """
    import onnx

    from distillens import __version__

    given = model.preprocess.shape if shape is None else shape
    if {given[0], model.preprocess.channels} - {1, 3} and given[0] != model.preprocess.channels:
        raise ModelError(
            f"The network {model.label!r} takes {model.preprocess.channels} channels, and the images have {given[0]}."
        )
    whole = _Whole(copy.deepcopy(model.module).cpu().eval(), model.preprocess, given, decision).eval()
    example = torch.zeros(2, *given, dtype=torch.uint8)
    try:
        with quiet():
            program = torch.onnx.export(
                whole, (example,), dynamo=True, dynamic_shapes=({0: torch.export.Dim("rows")},), opset_version=OPSET, verbose=False,
                input_names=["pixels"], output_names=["logits", "probabilities", "decision"],
            )  # fmt: skip
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"torch cannot export the network {model.label!r} to ONNX: {reason[0] if reason else type(error).__name__}"
        ) from error
    assert program is not None
    proto = _plain(program.model_proto)
    if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ModelError(
            f"torch exported the network {model.label!r} for a fixed number of images; in its forward write x.shape[0] in place of len(x)."
        )
    described = {
        "format": "distillens.image", "schema": 1, "label": model.label, "fingerprint": model.fingerprint,
        "classes": list(model.classes), "shape": list(given), "version": __version__,
        "decision": None if decision is None else {"adverse": decision.adverse, "threshold": decision.threshold},
    }  # fmt: skip
    onnx.helper.set_model_props(proto, {KEY: canonical_json(described)})
    onnx.checker.check_model(proto, full_check=True)
    payload: bytes = proto.SerializeToString(deterministic=True)
    with atomic_path(Path(path)) as part:
        part.write_bytes(payload)
    inputs = ({"input": "pixels", "feature": f"image {given[0]}×{given[1]}×{given[2]}", "dtype": "uint8"},)
    return ExportResult(Path(path).name, len(payload), hashlib.sha256(payload).hexdigest(), inputs, OPSET)


def _plain(proto: Any) -> Any:
    """The same graph without notes on where it came from."""
    proto.producer_name, proto.producer_version, proto.doc_string = "distillens", "", ""
    del proto.metadata_props[:]
    graph = proto.graph
    graph.name, graph.doc_string = "distillens", ""
    del graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
    for number, node in enumerate(graph.node):
        node.name = str(number)
    for function in proto.functions:
        function.doc_string = ""
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]
    return proto
