"""`TabularNetwork`: an encoding and a torch module, queried like any other model."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from distillens.errors import ModelError
from distillens.models.encoding import Encoding
from distillens.models.nets.mlp import MLPSettings
from distillens.models.store import fingerprint
from distillens.models.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.data.base import Column, Floats, Table
    from distillens.models.base import Output

# Rows per forward pass. The last, shorter pass is padded with zero rows to a multiple of 16: matrix products then run
# through the same kernels for one row as for many, so that a row's output does not depend on its batch mates. (Bit
# for bit on the x86 machines measured; float32 rounding is all that is promised.)
BATCH = 1024
PAD = 16


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module and all its parts in eval mode inside the block, each in its own mode again afterwards."""
    modes = [(part, True) for part in module.modules() if part.training]
    if modes:
        module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@dataclass(frozen=True, eq=False)
class TabularNetwork:
    """A network over raw columns: `encoding` to (n, D) float32, then `module` to (n, K) logits or values.

    module: takes the encoded rows; for regression its last part brings values back to the user's units.
    net: the settings it was built from. classes: in output order, empty for regression.
    history: one {epoch, train, validation} an epoch of the training that made it; not part of the stored record.
    """

    kind: ClassVar[str] = "network"

    encoding: Encoding
    module: nn.Module
    net: MLPSettings
    classes: tuple[str, ...]
    label: str = "network"
    history: tuple[dict[str, float], ...] = ()
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The F raw columns it takes."""
        return self.encoding.columns

    @property
    def output(self) -> Output:
        return "logits" if self.classes else "values"

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)

    def complexity(self) -> dict[str, int]:
        """Number of parameters, of hidden units, and the size in bytes (float32)."""
        parameters = sum(p.numel() for p in self.module.parameters())
        return {"parameters": parameters, "hidden": sum(self.net.hidden), "size_bytes": 4 * parameters}

    def to_tensor(self, inputs: Table) -> Tensor:
        """(n, D) float32 encoded rows on the module's device. ModelError when the columns are not the trained ones."""
        import torch

        if inputs.columns is not self.columns and inputs.columns != self.columns:
            raise ModelError(
                f"The network {self.label!r} was trained on the columns {[c.name for c in self.columns]}, but was asked about "
                f"{list(inputs.names)} (names, kinds and categories must be the same)."
            )
        device = next(self.module.parameters()).device
        return torch.from_numpy(self.encoding(inputs.values).astype(np.float32)).to(device)

    def __call__(self, inputs: Table) -> Floats:
        """(n, K) float64 logits, or (n, 1) values. Safe to call from several threads; leaves the module as it was."""
        import torch

        encoded = self.to_tensor(inputs)
        n = len(encoded)
        padding = -n % PAD
        if padding:
            encoded = torch.cat([encoded, encoded.new_zeros(padding, encoded.shape[1])])
        # The mode is a property of the module, so that only one thread at a time may change and restore it.
        with self._lock, one_thread(), evaluating(self.module), torch.inference_mode():
            outputs = [self.module(batch) for batch in torch.split(encoded, BATCH)]
        k = len(self.classes) or 1
        joined = torch.cat(outputs) if n else encoded.new_zeros(0, k)
        return joined[:n].cpu().numpy().astype(np.float64)

    def first_layer(self, inputs: Table) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Every raw feature's part (n, F, H) in the sums of the first linear layer, and its bias (H,); None when there is no such layer."""
        from torch import nn

        layer = self.module[0] if isinstance(self.module, nn.Sequential) and len(self.module) > 1 else None
        if not isinstance(layer, nn.Linear):
            return None
        encoded = self.to_tensor(inputs).cpu().numpy()
        weight = layer.weight.detach().cpu().numpy()
        parts = np.empty((len(encoded), len(self.columns), len(weight)), dtype=np.float32)
        for j in range(len(self.columns)):
            own = np.flatnonzero(self.encoding.feature == j)
            parts[:, j] = encoded[:, own] @ weight[:, own].T
        bias: Tensor | None = getattr(layer, "bias", None)
        if bias is None:
            return parts, np.zeros(len(weight), dtype=np.float32)
        return parts, bias.detach().cpu().numpy()

    def from_hidden(self, hidden: NDArray[np.float32]) -> Floats:
        """(n, K) outputs from (n, H) sums of the first layer."""
        import torch

        device = next(self.module.parameters()).device
        with self._lock, one_thread(), evaluating(self.module), torch.inference_mode():
            sums = torch.from_numpy(np.ascontiguousarray(hidden)).to(device)
            outputs = [self._after_first(batch) for batch in torch.split(sums, 2 * BATCH)]
        return torch.cat(outputs).cpu().numpy().astype(np.float64)

    def _after_first(self, sums: Tensor) -> Tensor:
        for part in list(self.module.children())[1:]:
            sums = part(sums)
        return sums

    def to_record(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        encoding, arrays = self.encoding.to_record()
        arrays |= {
            f"module.{name}": value.detach().cpu().numpy().copy() for name, value in self.module.state_dict().items()
        }
        meta = {"label": self.label, "classes": list(self.classes), "net": self.net.to_json(), "encoding": encoding}
        return meta, arrays

    @classmethod
    def from_record(cls, meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> TabularNetwork:
        import torch

        net = MLPSettings(**(meta["net"] | {"hidden": tuple(meta["net"]["hidden"])}))
        encoding = Encoding.from_record(meta["encoding"], arrays)
        classes = tuple(meta["classes"])
        module = assemble(net, encoding.width, classes)
        prefix = "module."
        state = {
            name.removeprefix(prefix): torch.from_numpy(a.copy())
            for name, a in arrays.items()
            if name.startswith(prefix)
        }
        try:
            module.load_state_dict(state)
        except RuntimeError as error:  # missing, superfluous or misshapen weights
            raise KeyError(str(error)) from error
        return cls(encoding, module, net, classes, str(meta["label"]))


def assemble(
    net: MLPSettings, width: int, classes: tuple[str, ...], *, mean: float = 0.0, scale: float = 1.0, seed: int = 0
) -> nn.Sequential:
    """A freshly initialised module in eval mode: (B, width) → (B, classes) logits, or (B, 1) values · scale + mean.

    The initial weights depend on `seed` only; the global generator is left untouched.
    """
    import torch

    from distillens.models.nets.rescale import Rescale

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers = net.build(width, len(classes) or 1)
    if not classes:
        layers.append(Rescale(mean, scale))
    return layers.eval()
