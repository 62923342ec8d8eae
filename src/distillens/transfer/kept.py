"""`WithAnswers`: a teacher network that knows a folder where its answers may be kept (see transfer/cache.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.data.base import Floats
    from distillens.models.base import Output


@dataclass(frozen=True, eq=False)
class WithAnswers:
    """The same model in everything. answers_folder: caches of its answers lie below it, one for every set of views."""

    model: Any
    answers_folder: Path

    @property
    def label(self) -> str:
        return str(self.model.label)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.model.classes)

    @property
    def output(self) -> Output:
        output: Output = self.model.output
        return output

    @property
    def fingerprint(self) -> str:
        return str(self.model.fingerprint)

    @property
    def module(self) -> nn.Module:
        module: nn.Module = self.model.module
        return module

    @property
    def preprocess(self) -> Any:
        return self.model.preprocess

    def to_tensor(self, inputs: Any) -> Tensor:
        tensor: Tensor = self.model.to_tensor(inputs)
        return tensor

    def __call__(self, inputs: Any) -> Floats:
        answers: Floats = self.model(inputs)
        return answers
