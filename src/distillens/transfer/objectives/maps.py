"""Maps of two models brought together: onto one grid, to unit length, and their angle.

Explanations and attention maps are compared by direction, because their size says how steep a network is and not where it
looks. A map that is zero everywhere has no direction; what then happens is said here once, for all methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillens.errors import InputError
from distillens.transfer.objectives.geometry import unit as unit_rows

if TYPE_CHECKING:
    from torch import Tensor

NOTHING = 1e-12  # a map with no larger entry is taken for zero: its direction would be rounding


def unit(maps: Tensor) -> Tensor:
    """(B, …) → (B, N): every example flattened and of Euclidean length 1; zero, with gradient 0, where it is zero.

    Nothing overflows or vanishes on the way, in values as in first and second derivatives.
    """
    flat = maps.flatten(1)
    return unit_rows(flat, undefined=flat.detach().abs().amax(dim=1) <= NOTHING)


def cosine_distance(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """(B,) 1 − cos of the flattened maps, between 0 and 2, computed as half the squared distance of the unit maps.

    That form is exactly 0 for equal maps. A teacher's map that is zero gives no reason to follow: 0. A student's that is zero
    where the teacher's is not: 1, with gradient 0.
    """
    import torch

    u, v = unit(student_maps), unit(teacher_maps)
    distance = (u - v).square().sum(dim=1) / 2
    student_is, teacher_is = u.detach().any(dim=1), v.detach().any(dim=1)
    distance = torch.where(student_is, distance, 1.0)
    return torch.where(teacher_is, distance, 0.0)


def as_maps(features: Tensor) -> Tensor:
    """(B, C, H, W) as it is; (B, T, D) tokens on their grid; (B, D) as one pixel. InputError for anything else."""
    from distillens.transfer.layers.projectors import tokens_to_maps

    if features.ndim == 4:
        return features
    if features.ndim == 3:
        return tokens_to_maps(features)
    if features.ndim == 2:
        return features[:, :, None, None]
    raise InputError(
        f"A layer of shape (B, C, H, W), (B, T, D) or (B, D) was expected, got {tuple(features.shape)}; tap another layer."
    )


def on_common_grid(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Two stacks of maps (B, ·, H, W), both averaged onto the smaller height and the smaller width."""
    from distillens.transfer.layers.projectors import resize

    grid = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return resize(student, grid), resize(teacher, grid)
