"""ONNX: one file that takes raw features and answers with probabilities or values; preprocessing is inside.

Linear models, trees, additive models and boosted trees are written by our own emitters; the body of a network by torch's exporter
(`torch.onnx.export`, dynamo), with the same preprocessing before it. What float32 inputs cannot change: thresholds and cuts are
compared as float32 numbers, rounded so that no float32 row changes sides; everything else is computed in double precision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from distillens.errors import ModelError
from distillens.exporters.base import ExportResult
from distillens.store import atomic_path, canonical_json

if TYPE_CHECKING:
    from distillens.models.base import Decision, Model
    from distillens.models.onnx_description import Description

EMITTERS: dict[str, str] = {
    "linear": "distillens.exporters.onnx_linear:emit_linear",
    "tree": "distillens.exporters.onnx_tree:emit_tree",
    "additive": "distillens.exporters.onnx_additive:emit_additive",
    "scorecard": "distillens.exporters.onnx_scorecard:emit_scorecard",
    "rules": "distillens.exporters.onnx_rules:emit_rules",
    "soft_tree": "distillens.exporters.onnx_soft_tree:emit_soft_tree",
    "network": "distillens.exporters.onnx_network:emit_network",
    "boosted_trees": "distillens.exporters.onnx_boosted:emit_boosted",
    "ensemble": "distillens.exporters.onnx_ensemble_of:emit_ensemble_of",
}


@dataclass(frozen=True)
class OnnxExport:
    """`export: [onnx]` of a recipe."""

    kind: ClassVar[str] = "onnx"

    def __call__(
        self, model: Model, path: Path, *, decision: Decision | None = None, shape: tuple[int, int, int] | None = None
    ) -> ExportResult:
        """Write `model` to `path`, whole or not at all.

        shape: of the images as they are stored, for networks that look at images; None: what the network itself takes.
        decision: written into the metadata, and computed inside the file as one more output, `decision`.
        Equal models give equal bytes. Raises ModelError when the model has no ONNX form here, RunError when the disk is full.
        """
        from distillens.exporters.onnx_graph import OPSET

        if getattr(model, "kind", None) == "image_network":
            from distillens.exporters.onnx_image import export_images

            network: Any = model
            return export_images(network, Path(path), shape=shape, decision=decision)
        exported, description = build(model, decision=decision)
        payload: bytes = exported.SerializeToString(deterministic=True)
        with atomic_path(Path(path)) as part:
            part.write_bytes(payload)
        inputs = tuple({"input": i.name, "feature": i.column.name, "dtype": i.dtype} for i in description.inputs)
        return ExportResult(Path(path).name, len(payload), hashlib.sha256(payload).hexdigest(), inputs, OPSET)


def build(model: Model, *, decision: Decision | None = None) -> tuple[Any, Description]:
    """The `onnx.ModelProto` of a model, checked, and its `Description`. ModelError as for `OnnxExport`."""
    import onnx

    from distillens import __version__
    from distillens.exporters.onnx_graph import Graph
    from distillens.exporters.onnx_inputs import emit_inputs
    from distillens.exporters.onnx_outputs import emit_outputs
    from distillens.models.onnx_description import KEY, Description, raw_inputs

    emit = _emitter(model)
    columns = model.columns  # type: ignore[attr-defined]  # every model that has an emitter has columns
    if not columns:
        raise ModelError(f"The model {model.label!r} has no features, so there is no file to export.")
    if decision is not None and (not model.classes or not 0 <= decision.adverse < len(model.classes)):
        raise ModelError(
            f"The decision speaks of class {decision.adverse}, but the model {model.label!r} has {len(model.classes)} classes."
        )
    graph = Graph()
    inputs = raw_inputs(columns)
    answers = emit(graph, emit_inputs(graph, inputs), model)
    outputs = emit_outputs(graph, answers, output=model.output, classes=model.classes, decision=decision)
    description = Description(
        str(model.kind),  # type: ignore[attr-defined]
        model.label,
        model.fingerprint,
        model.output,
        model.classes,
        inputs,
        tuple(outputs),
        decision,
        __version__,
    )
    exported = graph.model(metadata={KEY: canonical_json(description.to_json())}, producer_version=__version__)
    onnx.checker.check_model(exported, full_check=True)
    return exported, description


def _emitter(model: Model) -> Callable[..., str]:
    from distillens.models.store import KINDS
    from distillens.named import load_object

    kind = getattr(model, "kind", None)
    if kind not in EMITTERS or not isinstance(model, load_object(KINDS[kind])):
        raise ModelError(
            f"The model {model.label!r} ({type(model).__name__}) cannot be exported to ONNX; models of the kinds "
            f"{', '.join(EMITTERS)} made by distillens can."
        )
    emitter: Callable[..., str] = load_object(EMITTERS[kind])
    return emitter
