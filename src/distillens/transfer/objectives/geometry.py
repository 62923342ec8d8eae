"""Rows as vectors: flattened, of unit length, correlated; always finite, with gradient 0 where a direction is undefined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillens.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-30  # below this the inverse and the square leave what float32 can hold


def flat(activations: Tensor) -> Tensor:
    """(B, …) → (B, D)."""
    return activations.flatten(1) if activations.ndim > 1 else activations[:, None]


def same_rows(student: Tensor, teacher: Tensor) -> None:
    """InputError unless both have the same number of rows B."""
    if len(student) != len(teacher):
        raise InputError(
            f"Relations between rows need the same rows of both models, got {len(student)} and {len(teacher)}."
        )


def unit(rows: Tensor, *, undefined: Tensor | None = None) -> Tensor:
    """(B, D) → (B, D): each row divided by its Euclidean norm; rows of zeros, and `undefined` ones (B,), become 0.

    The rows are first divided by their largest entry, so that no square over- or underflows.
    """
    size = rows.detach().abs().amax(dim=1, keepdim=True)
    zero = size <= SMALLEST
    if undefined is not None:
        zero = zero | undefined[:, None]
    # A length does not depend on the scale, so the largest entry may be taken for a constant. Masks come before the
    # square root: its derivative at 0 is infinite, and 0 · ∞ would be NaN.
    scaled = (rows / size.masked_fill(zero, 1.0)).masked_fill(zero, 0.0)
    norm = scaled.square().sum(dim=1, keepdim=True).masked_fill(zero, 1.0).sqrt()
    return scaled / norm


def same_scale(rows: Tensor) -> Tensor:
    """All rows divided by the largest entry of all, for what does not depend on one scale common to all of them."""
    size = rows.detach().abs().amax() if rows.numel() else rows.new_zeros(())
    return rows / size.clamp(min=SMALLEST)


def correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """(B,) Pearson correlation of the rows of two (B, D).

    1 where the teacher's row is constant, as there is nothing to be taught, and otherwise 0 where the student's is. Constant:
    no further from its mean than rounding errors are.
    """
    import torch

    def centred(rows: Tensor) -> tuple[Tensor, Tensor]:
        away = rows - rows.mean(dim=1, keepdim=True)
        noise = 4 * torch.finfo(rows.dtype).eps * rows.detach().abs().amax(dim=1)
        return away, away.detach().abs().amax(dim=1) <= noise.clamp(min=SMALLEST)

    (s, constant_s), (t, constant_t) = centred(student), centred(teacher)
    return (unit(s, undefined=constant_s) * unit(t, undefined=constant_t)).sum(dim=1).masked_fill(constant_t, 1.0)
