"""The modules that knowledge review learns: one attention based fusion a layer. The method is described in review.py."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from distillens.errors import InputError
from distillens.transfer.objectives.base import Batch, Loss, Objective, View
from distillens.transfer.objectives.heads import map_shape
from distillens.transfer.objectives.maps import as_maps
from distillens.transfer.objectives.precision import full_precision
from distillens.transfer.objectives.review import review_loss
from distillens.transfer.objectives.taps import layer_pairs

Shape = tuple[int, ...]


class Normalised(nn.Module):
    """A convolution without bias and batch normalisation, which for one value a channel takes its running statistics."""

    def __init__(self, channels: int, out: int, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False)
        nn.init.kaiming_uniform_(self.convolution.weight, a=1)  # as in the authors' code
        self.norm = nn.BatchNorm2d(out)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.convolution(maps)
        if maps.numel() > maps.shape[1]:
            normalised: Tensor = self.norm(maps)
            return normalised
        norm = self.norm
        return functional.batch_norm(maps, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


class Fusion(nn.Module):
    """ABF: (layer (B, C, H, W), deeper (B, middle, ·, ·) or None) → (for the teacher (B, C', *grid), for the next layer)."""

    def __init__(self, channels: int, middle: int, out: int, grid: tuple[int, int], *, deepest: bool) -> None:
        super().__init__()
        self.narrow = Normalised(channels, middle, 1)
        self.attention = None if deepest else nn.Conv2d(2 * middle, 2, 1)
        self.widen = Normalised(middle, out, 3)
        self.grid = grid

    def forward(self, maps: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        mixed: Tensor = self.narrow(maps)
        if self.attention is not None and deeper is not None:
            deeper = functional.interpolate(deeper, size=mixed.shape[2:], mode="nearest")
            shares = self.attention(torch.cat([mixed, deeper], dim=1)).sigmoid()
            mixed = mixed * shares[:, :1] + deeper * shares[:, 1:]
        if tuple(mixed.shape[2:]) != self.grid:
            mixed = functional.interpolate(mixed, size=self.grid, mode="nearest")
        return self.widen(mixed), mixed


class ReviewTerm(nn.Module):
    """Fuses the student's layers from deep to shallow and compares each with the teacher's of the same place."""

    def __init__(self, objective: Objective, pairs: Sequence[tuple[Shape, Shape]], *, middle: int | None) -> None:
        super().__init__()
        shapes = [(map_shape(s), map_shape(t)) for s, t in pairs]
        if not shapes:
            raise InputError("review needs at least one pair of layers.")
        middle = min(512, shapes[-1][0][0]) if middle is None else middle
        self.objective = objective
        self.fusions = nn.ModuleList(
            Fusion(s[0], middle, t[0], (t[1], t[2]), deepest=position == len(shapes) - 1)
            for position, (s, t) in enumerate(shapes)
        )

    def fused(self, layers: Sequence[Tensor]) -> list[Tensor]:
        """What is compared with the teacher's layers, shallow to deep, from the student's layers in that order."""
        results: list[Tensor] = []
        deeper: Tensor | None = None
        for fusion, layer in zip(reversed(self.fusions), reversed(layers), strict=True):
            maps = as_maps(layer).to(next(fusion.parameters()).dtype)
            result, deeper = fusion(maps, deeper)
            results.insert(0, result)
        return results

    def forward(self, student: View, teacher: View, batch: Batch) -> Loss:
        pairs = layer_pairs(self.objective, student, teacher)
        with full_precision(student.outputs):
            fused = self.fused([s for s, _ in pairs])
            return Loss.pointwise(review_loss(fused, [t for _, t in pairs]), batch)
