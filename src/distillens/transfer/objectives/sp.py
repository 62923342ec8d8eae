"""Similarity-preserving distillation: which rows activate alike.

Tung and Mori 2019, "Similarity-Preserving Knowledge Distillation". A (B, D) activations, flattened:
    G = A Aᵀ with every row divided by its Euclidean norm,   loss = ‖G_t − G_s‖² / B²,
the squared Frobenius norm, added up over the pairs of layers. A row whose similarities are all 0 stays 0. Scaling all of A
changes nothing, so A is scaled before it is squared. The paper's weight is 3000. Row weights are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.transfer.objectives.base import Loss, Taps
from distillens.transfer.objectives.geometry import flat, same_rows, same_scale, unit
from distillens.transfer.objectives.precision import full_precision, wide
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps, summed_over_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, View


def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar ‖G_t − G_s‖² / B² of activations (B, …) of any two shapes; the teacher is detached.

    Computed in float32, or in float64 when an input is. Raises InputError for different numbers of rows.
    """
    same_rows(student, teacher)
    s, t = (same_scale(flat(x)) for x in wide(student, teacher))
    with full_precision(s):
        return (unit(t @ t.T) - unit(s @ s.T)).square().mean()


@dataclass(frozen=True)
class SP:
    """`{kind: sp, weight: 3000}`: pairs of rows that are alike to the teacher are alike to the student."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["sp"] = "sp"
    weight: float = 1.0
    warmup: float = 0.0
    student_taps: Taps = ("features",)
    teacher_taps: Taps = ("features",)

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:  # noqa: ARG002 (relations have no row weights)
        return Loss(summed_over_pairs(sp_loss, self, student, teacher))
