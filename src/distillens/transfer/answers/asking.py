"""Asking a teacher network about views of images, in one pass for everything that is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distillens.data.images import Images
from distillens.models.capture import Tapped
from distillens.models.torch_module import evaluating
from distillens.transfer.answers.stored import to_top
from distillens.transfer.objectives.base import View

if TYPE_CHECKING:
    from distillens.data.views import Augmentation
    from distillens.transfer.answers.stored import Stored, Teacher


class Asker:
    """A teacher, what is wanted of it, and how precisely it answers."""

    def __init__(self, teacher: Teacher, stored: Stored, *, precision: str, device: Literal["cpu", "auto"]) -> None:
        self.teacher, self.stored, self.precision = teacher, stored, precision
        self.device = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else "cpu")
        teacher.module.to(self.device)
        self.taps = stored.layers + (stored.map.teacher_taps if stored.map is not None else ())

    def view_of(self, images: Images, augmentation: Augmentation, *, view: int, seed: int) -> View:
        """What the teacher says about one view of a batch of images, without gradients of its weights."""
        shown = Images(augmentation(images.pixels, images.row_ids, view=view, seed=seed), images.row_ids)
        inputs = self.teacher.to_tensor(shown).to(self.device)
        module, gradients = self.teacher.module, self.stored.map is not None and self.stored.map.needs_gradient
        inputs = inputs.requires_grad_(gradients)
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with evaluating(module), torch.set_grad_enabled(gradients), half, Tapped(module, self.taps) as run:
            outputs, layers = run(inputs)

        def ask(others: Tensor) -> Tensor:
            with evaluating(module), torch.set_grad_enabled(others.requires_grad), half:
                answered: Tensor = module(others)
            return answered

        return View(outputs, inputs, layers, ask=ask)

    def about(
        self,
        images: Images,
        augmentation: Augmentation,
        *,
        view: int,
        seed: int,
        batch_size: int,
        advance: Callable[[int], None],
    ) -> dict[str, NDArray[Any]]:
        """Arrays of all that is stored about one view of the images, rows first."""
        collected: dict[str, list[NDArray[Any]]] = {}
        for start in range(0, len(images), batch_size):
            part = images.take(range(start, min(start + batch_size, len(images))))
            for name, tensor in self._kept(self.view_of(part, augmentation, view=view, seed=seed)).items():
                collected.setdefault(name, []).append(tensor.detach().cpu().numpy())
            advance(len(part))
        return {name: np.concatenate(parts) for name, parts in collected.items()}

    def _kept(self, said: View) -> dict[str, Tensor]:
        stored = self.stored
        kind = torch.float16 if stored.dtype == "float16" else torch.float32
        kept: dict[str, Tensor] = {}
        if stored.top is None:
            kept["outputs"] = said.outputs.to(kind)
        else:
            classes, values, tail = to_top(said.outputs, stored.top)
            kept |= {"top": classes.to(torch.int32), "log_probabilities": values.to(kind), "tail": tail.to(kind)}
        for tap in stored.layers:
            layer = said.layers[tap].float()
            kept[f"layer/{tap}"] = (layer.flatten(2).mean(dim=2) if stored.pooled and layer.ndim > 2 else layer).to(
                kind
            )
        if stored.map is not None:
            kept["map"] = stored.map.teacher_map(said).to(kind)
        return kept


def pooled(layer: Tensor) -> Tensor:
    """(B, D) the mean over positions of maps (B, D, H, W) or token sequences (B, T, D); vectors as they are."""
    return layer.mean(dim=1) if layer.ndim == 3 else layer.flatten(2).mean(dim=2) if layer.ndim > 3 else layer
