"""Modules that single methods learn beside the student. Imports torch, so objectives import it inside `term`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from distillens.errors import InputError
from distillens.transfer.layers.projectors import grid_of, projector
from distillens.transfer.objectives.maps import as_maps, on_common_grid

Shape = tuple[int, ...]


def map_shape(shape: Shape) -> tuple[int, int, int]:
    """The shape (C, H, W) of a layer used as maps: tokens on their grid, a vector as one pixel. InputError for no grid."""
    grid = (1, 1) if len(shape) == 1 else grid_of(shape)
    if grid is None:
        raise InputError(
            f"A layer of shape {shape} is no map, no vector and no square grid of tokens; tap another layer."
        )
    return (shape[-1] if len(shape) == 2 else shape[0], *grid)


class GaussianHead(nn.Module):
    """VID's q(t | s): (student layer, teacher layer) → (mean (B, C, P), target (B, C, P), variance (C,)) at P common positions.

    A layer beside a vector is averaged over its positions; tokens of the same number stay tokens; all else meets on a grid.
    """

    def __init__(self, student_shape: Shape, teacher_shape: Shape, *, variance: float, epsilon: float) -> None:
        super().__init__()
        self.vector = 1 in (len(student_shape), len(teacher_shape))
        self.tokens = len(student_shape) == len(teacher_shape) == 2 and student_shape[0] == teacher_shape[0]
        if not self.vector and not self.tokens:
            map_shape(student_shape), map_shape(teacher_shape)
        c_s = student_shape[-1] if len(student_shape) == 2 else student_shape[0]
        c_t = teacher_shape[-1] if len(teacher_shape) == 2 else teacher_shape[0]
        # 1×1 convolutions; the bias of the first two is left out as in published code, the last has none either
        self.mean = nn.Sequential(
            nn.Conv1d(c_s, c_t, 1, bias=False), nn.ReLU(), nn.Conv1d(c_t, c_t, 1, bias=False), nn.ReLU(), nn.Conv1d(c_t, c_t, 1, bias=False),
        )  # fmt: skip
        self.alpha = nn.Parameter(torch.full((c_t,), math.log(math.expm1(variance - epsilon))))
        self.epsilon = epsilon

    def variance(self) -> Tensor:
        """(C,) σ² = log(1 + exp(α)) + ε."""
        return functional.softplus(self.alpha) + self.epsilon

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s, t = self._meet(student.to(self.alpha.dtype), teacher.detach().to(self.alpha.dtype))
        return self.mean(s), t, self.variance()

    def _meet(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        if self.vector:
            return _averaged(student), _averaged(teacher)
        if self.tokens:
            return student.transpose(1, 2), teacher.transpose(1, 2)
        s, t = on_common_grid(as_maps(student), as_maps(teacher))
        return s.flatten(2), t.flatten(2)


def _averaged(layer: Tensor) -> Tensor:
    """(B, C, 1): a vector as it is, tokens and maps averaged over positions."""
    if layer.ndim == 2:
        return layer[:, :, None]
    return layer.mean(dim=1)[:, :, None] if layer.ndim == 3 else layer.flatten(2).mean(dim=2, keepdim=True)


class MaskedGenerator(nn.Module):
    """MGD's align and G: `align` brings the student's maps to the teacher's shape; the module itself generates from masked maps.

    Where a batch brings no generator, masks are drawn from one whose state is kept here, and goes into checkpoints.
    """

    draws: Tensor

    def __init__(self, student_shape: Shape, teacher_shape: Shape, *, seed: int) -> None:
        super().__init__()
        s, t = map_shape(student_shape), map_shape(teacher_shape)
        self.align = nn.Identity() if s == t else projector(s, t)
        self.generate = nn.Sequential(
            nn.Conv2d(t[0], t[0], 3, padding=1), nn.ReLU(), nn.Conv2d(t[0], t[0], 3, padding=1)
        )
        self.register_buffer("draws", torch.Generator().manual_seed(seed).get_state())

    def keep(self, shape: Shape, masked: float, draw: torch.Generator | None) -> Tensor:
        """0 with probability `masked` and 1 otherwise."""
        own = draw is None
        if draw is None:
            draw = torch.Generator()
            draw.set_state(self.draws.cpu())
        keep = torch.rand(shape, generator=draw, device=draw.device) >= masked
        if own:
            self.draws.copy_(draw.get_state())
        return keep

    def forward(self, masked: Tensor) -> Tensor:
        generated: Tensor = self.generate(masked.to(next(self.parameters()).dtype))
        return generated
