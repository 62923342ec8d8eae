"""`ImageOnnxModel`: an exported network for images, run by onnxruntime, as one more model."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.data.base import Floats
from distillens.data.images import Images
from distillens.errors import ArtefactError, ModelError
from distillens.models.base import Decision, Output
from distillens.models.onnx_session import ask, open_session, parse

KEY = "distillens.image"  # the entry of the file's metadata that describes it
OUTPUTS = {"logits", "probabilities", "decision"}
BATCH = 256


@dataclass(frozen=True, eq=False)
class ImageOnnxModel:
    """Stored pixels (n, C, H, W) of one shape in, logits out. fingerprint: SHA-256 of the file."""

    kind: ClassVar[str] = "image_onnx"
    output: ClassVar[Output] = "logits"

    path: Path
    label: str
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    decision: Decision | None
    fingerprint: str
    size_bytes: int
    _session: Any = field(repr=False)

    @classmethod
    def load(cls, path: str | Path, *, label: str | None = None, threads: int | None = None) -> ImageOnnxModel:
        """Open a file written by `exporters/onnx_image.py`. ArtefactError when it is damaged or another kind of file."""
        path = Path(path)
        try:
            payload = path.read_bytes()
        except OSError as error:
            raise ArtefactError(f"{path} cannot be read: {error.strerror}.") from error
        described = image_description(parse(payload, path))
        if described is None:
            raise ArtefactError(
                f"{path} is no network for images exported by distillens: its metadata have no entry {KEY!r}."
            )
        try:
            record = json.loads(described)
            classes, shape = (
                tuple(str(name) for name in record["classes"]),
                tuple(int(size) for size in record["shape"]),
            )
            decision = None if record["decision"] is None else Decision(**record["decision"])
            name = str(record["label"])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"{path} holds a damaged description ({error}); export the network again.") from error
        session = open_session(payload, path, threads=threads)
        (given,) = session.get_inputs() if len(session.get_inputs()) == 1 else (None,)
        if given is None or given.type != "tensor(uint8)" or list(given.shape[1:]) != list(shape) or len(shape) != 3:
            raise ArtefactError(
                f"{path} describes an input that its graph does not have; it was changed after the export."
            )
        if {output.name for output in session.get_outputs()} != OUTPUTS:
            raise ArtefactError(
                f"{path} describes outputs that its graph does not have; it was changed after the export."
            )
        return cls(
            path, label or name, classes, shape, decision, hashlib.sha256(payload).hexdigest(), len(payload), session
        )

    def as_whole_file(self) -> ImageOnnxModel:
        """The same: this file has one way to be run."""
        return self

    def feeds(self, inputs: object) -> dict[str, NDArray[Any]]:
        """What to feed to onnxruntime. ModelError for anything but images of its shape."""
        if not isinstance(inputs, Images):
            raise ModelError(f"{self.path} looks at images and was given a {type(inputs).__name__}.")
        if len(inputs) and inputs.shape != self.shape:
            raise ModelError(f"{self.path} takes images of shape {self.shape}, and {inputs.shape} came.")
        return {"pixels": inputs.pixels}

    def run_feeds(self, feeds: dict[str, NDArray[Any]], outputs: list[str] | None = None) -> list[NDArray[Any]]:
        """One call of onnxruntime; all outputs, or those named."""
        answers: list[NDArray[Any]] = ask(self._session, outputs, feeds)
        return answers

    def __call__(self, inputs: Images) -> Floats:
        """(n, K) float64 logits."""
        pixels = self.feeds(inputs)["pixels"]
        parts = [np.zeros((0, len(self.classes)))]
        for start in range(0, len(pixels), BATCH):
            parts += self.run_feeds({"pixels": pixels[start : start + BATCH]}, ["logits"])
        return np.concatenate(parts)


def image_description(proto: Any) -> str | None:
    """What a file says about itself as a network for images; None when it says nothing."""
    texts = [entry.value for entry in proto.metadata_props if entry.key == KEY]
    return texts[0] if len(texts) == 1 else None
