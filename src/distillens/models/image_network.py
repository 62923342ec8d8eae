"""`ImageNetwork`: a preprocessing and a torch module for images, queried like any other model."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.data.images import Images
from distillens.errors import ArtefactError, ModelError
from distillens.models.nets.base import ImageNet, as_image_net, initialised
from distillens.models.preprocess import Preprocess
from distillens.models.torch_module import evaluating

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.data.base import Floats
    from distillens.models.base import Output

NUMBERS = 1 << 20  # input numbers a forward pass takes at most: 341 images of 3×32×32, 6 of 3×224×224
PREFIX = "module."


@dataclass(frozen=True, eq=False)
class ImageNetwork:
    """A network over images: `preprocess` to (n, C, H, W) float32, then `module` to (n, K) logits.

    module: takes the preprocessed images. net: the settings it was built from, which rebuild it from a file. classes: in output order,
    at least two. history: one {epoch, train, validation} an epoch of the training that made it; not part of the stored record.
    Outputs do not depend on batch mates beyond float32 rounding. Raises ModelError for fewer than two classes.
    """

    kind: ClassVar[str] = "image_network"

    preprocess: Preprocess
    module: nn.Module
    net: ImageNet
    classes: tuple[str, ...]
    label: str = "network"
    history: tuple[dict[str, float], ...] = ()
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        _check_classes(self.classes)

    @classmethod
    def fresh(
        cls, net: ImageNet, preprocess: Preprocess, classes: tuple[str, ...], *, seed: int = 0, label: str = "network"
    ) -> ImageNetwork:
        """Freshly initialised for images of `preprocess.shape`; the weights depend on `seed` only (or come from the settings' file)."""
        _check_classes(classes)
        return cls(preprocess, initialised(net, preprocess.shape, len(classes), seed=seed), net, tuple(classes), label)

    @property
    def output(self) -> Output:
        return "logits"

    @property
    def fingerprint(self) -> str:
        """Content hash of preprocessing, settings, classes and weights; the label is no part of it."""
        from distillens.models.store import fingerprint

        stored: Any = self  # a storable model in all but its inputs: protocols speak of tables
        return fingerprint(stored)

    def complexity(self) -> dict[str, int]:
        """Number of parameters and their size in bytes (float32)."""
        parameters = sum(p.numel() for p in self.module.parameters())
        return {"parameters": parameters, "size_bytes": 4 * parameters}

    def to_tensor(self, inputs: Images) -> Tensor:
        """(n, C, H, W) float32 preprocessed images on the module's device. ModelError when channels do not fit, or for no images."""
        self._require_images(inputs)
        return self.preprocess(inputs.pixels).to(next(self.module.parameters()).device)

    def __call__(self, inputs: Images) -> Floats:
        """(n, K) float64 logits. Safe to call from several threads; leaves the module as it was."""
        import torch

        self._require_images(inputs)
        channels, height, width = self.preprocess.shape
        step = max(1, NUMBERS // (channels * height * width))
        outputs = [np.zeros((0, len(self.classes)))]
        # The mode is a property of the module, so that only one thread at a time may change and restore it.
        with self._lock, evaluating(self.module), torch.inference_mode():
            for start in range(0, len(inputs), step):
                batch = self.to_tensor(inputs.take(range(start, min(start + step, len(inputs)))))
                answered: Tensor = self.module(batch)
                if tuple(answered.shape) != (len(batch), len(self.classes)):
                    raise ModelError(
                        f"The network {self.label!r} should answer {len(batch)} images with ({len(batch)}, {len(self.classes)}) logits, "
                        f"but answered {tuple(answered.shape)}."
                    )
                outputs.append(answered.double().cpu().numpy())
        return np.concatenate(outputs)

    def _require_images(self, inputs: object) -> None:
        if not isinstance(inputs, Images):
            raise ModelError(f"The network {self.label!r} looks at images and was given a {type(inputs).__name__}.")

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Raises ModelError while a reused classifier stands where the settings know a plain one."""
        from distillens.models.reused import ReusedClassifier

        if any(isinstance(part, ReusedClassifier) for part in self.module.modules()):
            raise ModelError(
                f"The network {self.label!r} still has its teacher's classifier behind a projector; fold_classifier makes one layer of both."
            )
        arrays = {
            PREFIX + name: value.detach().cpu().numpy().copy() for name, value in self.module.state_dict().items()
        }
        meta = {
            "label": self.label,
            "classes": list(self.classes),
            "net": self.net.to_json(),
            "preprocess": self.preprocess.to_json(),
        }
        return meta, arrays

    @classmethod
    def from_record(
        cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]], *, trust_code: bool = False
    ) -> ImageNetwork:
        """Rebuild to the bit. UntrustedCodeError when the network is the user's own code and nobody trusted it."""
        import torch

        net = as_image_net(meta["net"], trust_code=trust_code)
        preprocess = Preprocess.from_json(meta["preprocess"])
        classes = tuple(str(name) for name in meta["classes"])
        module = initialised(net, preprocess.shape, len(classes))
        state = {
            name.removeprefix(PREFIX): torch.from_numpy(np.array(a))
            for name, a in arrays.items()
            if name.startswith(PREFIX)
        }
        try:
            module.load_state_dict(state)
        except RuntimeError as error:  # missing, superfluous or misshapen weights
            raise KeyError(str(error)) from error
        return cls(preprocess, module, net, classes, str(meta["label"]))

    @classmethod
    def load(cls, path: Path, *, trust_code: bool = False) -> ImageNetwork:
        """Read what `save_model` wrote. With trust_code also a network of the user's own code, which `load_model` never runs."""
        from distillens.store import read_record

        meta, arrays = read_record(path)
        if meta.get("kind") != cls.kind or "model" not in meta:
            raise ArtefactError(f"{path} holds no network for images, but {meta.get('kind')!r}.")
        try:
            return cls.from_record(meta["model"], arrays, trust_code=trust_code)
        except (KeyError, TypeError, IndexError) as error:
            raise ArtefactError(f"{path} holds an incomplete network for images ({error!r}).") from error


def _check_classes(classes: tuple[str, ...]) -> None:
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise ModelError(f"A network for images tells at least two different classes apart, got {classes!r}.")
