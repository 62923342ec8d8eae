"""`Exporter`: from a fitted model to a file that runs without distillens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from distillens.models.base import Decision, Model

EXPORTERS: dict[str, str] = {
    "onnx": "distillens.exporters.onnx:OnnxExport",
}


@dataclass(frozen=True)
class ExportResult:
    """A written file. inputs: one {input, feature, dtype} per raw feature, in the model's order. opset: of the standard operators."""

    file: str
    bytes: int
    sha256: str
    inputs: tuple[Mapping[str, str], ...]
    opset: int

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "bytes": self.bytes,
            "sha256": self.sha256,
            "inputs": [dict(i) for i in self.inputs],
            "opset": self.opset,
        }


class Exporter(Protocol):
    """A frozen dataclass; it IS its recipe entry, named by `kind`."""

    kind: ClassVar[str]

    def __call__(self, model: Model, path: Path, *, decision: Decision | None = None) -> ExportResult:
        """Write `model` to `path`, whole or not at all; `decision` is written into the file.

        Raises ModelError for a model that has no such form, RunError when the disk is full.
        """
        ...
