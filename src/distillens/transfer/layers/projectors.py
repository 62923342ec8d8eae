"""Projectors: what a student's layer must pass before it can be compared with a teacher's of another size or kind.

    projector(student_shape, teacher_shape) → module: (B, *student_shape) → (B, *teacher_shape)

Three kinds of layers are known by their number of dimensions (without the batch):
    vector (D,)   pooled features, hidden units         token sequence (T, D)   transformers        map (C, H, W)   convolutions

- vector → vector: linear.
- map → map: average pooling where the teacher's grid is smaller, bilinear interpolation where it is larger, and a 1×1
  convolution; both are linear and commute, so the cheaper order is taken.
- tokens → tokens of the same number: one linear map for all positions.
- tokens ↔ map: T tokens are a g×g grid when T = g², or T = g² + 1 with a class token in front; the grid is resized as a map.
  A class token that the student has is left out of maps; one that only the teacher has is pooled by attention.
- any other change of positions: attention pooling, one learned query for each position of the teacher (Lee et al. 2019,
  "Set Transformer", section 3.2, one head): softmax(q kᵀ / √D) v. The queries start near 0, which is plain averaging.

FitNets (Romero et al. 2015) have a convolution without padding that shrinks the grid; RepDistiller strides or transposes.
Pooling and interpolation are used here instead, because they work for every pair of grids, and a 1×1 convolution then has
the same few parameters whatever the grids.

Weights are drawn by torch's default initialisation from the global generator: `term_of` seeds and restores it.
Everything is computed in the dtype of the projector's weights (float32), also inside autocast.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from distillens.errors import InputError

Shape = tuple[int, ...]
KINDS = {1: "vector", 2: "token sequence", 3: "map"}


def projector(student_shape: Shape, teacher_shape: Shape) -> nn.Module:
    """A module (B, *student_shape) → (B, *teacher_shape) that always has weights to learn.

    Shapes are without the batch: (D,), (T, D) or (C, H, W). Raises InputError for other shapes, and for a vector that is to
    become many positions: it does not know where anything is.
    """
    for shape, whose in ((student_shape, "student's"), (teacher_shape, "teacher's")):
        if len(shape) not in KINDS or min(shape) < 1:
            raise InputError(f"A projector needs a layer of shape (D,), (T, D) or (C, H, W); the {whose} has {shape}.")
    if len(student_shape) == 1:
        if math.prod(_positions(teacher_shape)) > 1:
            raise InputError(
                f"A vector {student_shape} has no positions and cannot be compared with the teacher's {KINDS[len(teacher_shape)]} "
                f"{teacher_shape}; tap a map or tokens of the student, or pooled features of the teacher."
            )
        return nn.Sequential(
            AsStored(nn.Linear(student_shape[0], _channels(teacher_shape))), nn.Unflatten(1, teacher_shape)
        )
    grid, goal = grid_of(student_shape), grid_of(teacher_shape)
    c_s, c_t = _channels(student_shape), _channels(teacher_shape)
    if len(teacher_shape) == 1:
        return nn.Sequential(Positions(student_shape), AttentionPool(c_s, c_t, 1), nn.Flatten(1))
    if len(student_shape) == len(teacher_shape) == 2 and student_shape[0] == teacher_shape[0]:
        return AsStored(nn.Linear(c_s, c_t))
    if grid is None or goal is None:
        pooled = AttentionPool(c_s, c_t, math.prod(_positions(teacher_shape)))
        return nn.Sequential(Positions(student_shape), pooled, FromPositions(teacher_shape))
    resized = ResizedConvolution(c_s, c_t, goal)
    if len(teacher_shape) == 3:
        return nn.Sequential(ToGrid(grid), resized) if len(student_shape) == 2 else resized
    return GridToTokens(student_shape, resized, class_token=_has_class_token(teacher_shape))


def grid_of(shape: Shape) -> tuple[int, int] | None:
    """(H, W) of a map; (g, g) of g² tokens or of g² tokens behind a class token; None where positions are no grid."""
    if len(shape) == 3:
        return shape[1], shape[2]
    if len(shape) != 2:
        return None
    side = math.isqrt(shape[0])
    return (side, side) if side * side in (shape[0], shape[0] - 1) else None


def resize(maps: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, C, H, W) → (B, C, *grid): average pooling along an axis that shrinks, bilinear interpolation along one that grows."""
    smaller = (min(maps.shape[2], grid[0]), min(maps.shape[3], grid[1]))
    if tuple(maps.shape[2:]) != smaller:
        maps = functional.adaptive_avg_pool2d(maps, smaller)
    if smaller != tuple(grid):
        maps = functional.interpolate(maps, size=grid, mode="bilinear", align_corners=False)
    return maps


def tokens_to_maps(tokens: Tensor) -> Tensor:
    """(B, T, D) → (B, D, g, g), without the class token where there is one. InputError where tokens are no square grid."""
    grid = grid_of(tuple(tokens.shape[1:]))
    if grid is None:
        raise InputError(
            f"{tokens.shape[1]} tokens are no square grid, with or without a class token; tap a layer of patches or of maps."
        )
    patches = tokens[:, -grid[0] * grid[1] :].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], *grid)


def _channels(shape: Shape) -> int:
    return shape[0] if len(shape) == 3 else shape[-1]


def _positions(shape: Shape) -> Shape:
    return () if len(shape) == 1 else shape[:1] if len(shape) == 2 else shape[1:]


def _has_class_token(shape: Shape) -> bool:
    return math.isqrt(shape[0]) ** 2 != shape[0]


class AsStored(nn.Module):
    """A module run in the dtype of its weights, whatever the autocast dtype around it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            out: Tensor = self.inner(features.to(next(self.inner.parameters()).dtype))
        return out


class ResizedConvolution(nn.Module):
    """A 1×1 convolution on another grid: (B, C, H, W) → (B, C', *grid). Shrinks before it, grows after it: that is cheaper."""

    def __init__(self, channels: int, out: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.convolution = AsStored(nn.Conv2d(channels, out, kernel_size=1))
        self.grid = grid

    def forward(self, maps: Tensor) -> Tensor:
        smaller = (min(maps.shape[2], self.grid[0]), min(maps.shape[3], self.grid[1]))
        return resize(self.convolution(resize(maps, smaller)), self.grid)


class AttentionPool(nn.Module):
    """(B, T, D) → (B, positions, D'): each position of the result asks all tokens with a learned query."""

    def __init__(self, width: int, out: int, positions: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(0.02 * torch.randn(positions, width))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, out)

    def forward(self, tokens: Tensor) -> Tensor:
        with torch.autocast(tokens.device.type, enabled=False):
            tokens = tokens.to(self.queries.dtype)
            scores = self.queries @ self.key(tokens).transpose(1, 2) / math.sqrt(tokens.shape[2])
            mixed: Tensor = scores.softmax(dim=2) @ self.value(tokens)
        return mixed


class Positions(nn.Module):
    """Maps as tokens, row by row: (B, C, H, W) → (B, H·W, C). Tokens stay as they are."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.is_map = len(shape) == 3

    def forward(self, features: Tensor) -> Tensor:
        return features.flatten(2).transpose(1, 2) if self.is_map else features


class FromPositions(nn.Module):
    """Tokens as a map of a known grid: (B, H·W, C) → (B, C, H, W). For a token sequence they stay as they are."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.grid = shape[1:] if len(shape) == 3 else None

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens if self.grid is None else tokens.transpose(1, 2).reshape(len(tokens), -1, *self.grid)


class ToGrid(nn.Module):
    """(B, T, D) → (B, D, g, g), without the class token."""

    def __init__(self, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens_to_maps(tokens)


class GridToTokens(nn.Module):
    """A grid of the student as patch tokens of the teacher: (B, …) → (B, T, D).

    class_token: whether the teacher has one; it is pooled by attention from all the student's positions.
    """

    def __init__(self, shape: Shape, resized: ResizedConvolution, *, class_token: bool) -> None:
        super().__init__()
        self.positions = Positions(shape)
        self.is_map = len(shape) == 3
        self.resized = resized
        convolution = resized.convolution.inner
        assert isinstance(convolution, nn.Conv2d)
        self.pool = AttentionPool(convolution.in_channels, convolution.out_channels, 1) if class_token else None

    def forward(self, features: Tensor) -> Tensor:
        patches = self.resized(features if self.is_map else tokens_to_maps(features)).flatten(2).transpose(1, 2)
        return patches if self.pool is None else torch.cat([self.pool(self.positions(features)), patches], dim=1)
