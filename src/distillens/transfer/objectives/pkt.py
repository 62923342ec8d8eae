"""Probabilistic knowledge transfer: whom a row would pick as its neighbour.

Passalis and Tefas 2018, "Learning Deep Representations with Probabilistic Knowledge Transfer", with the kernel
K(a, b) = (1 + cos(a, b)) / 2 on activations (B, D) and p_ij = K(x_i, x_j) / Σ_k K(x_i, x_k):
    loss = mean over all (i, j) of p_t,ij log((p_t,ij + ε) / (p_s,ij + ε)).
The paper leaves j = i out and adds up; the mean over all B² with the diagonal is the authors' code and RepDistiller's, where the
weight is 30000 for that reason, and so it is here. ε = 1e-7 is theirs. Rows of zeros have cosine 0 with all: their code repairs
NaN in place, here none arises. Added up over pairs of layers. Row weights are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.transfer.objectives.base import Loss, Taps
from distillens.transfer.objectives.geometry import flat, same_rows, unit
from distillens.transfer.objectives.precision import full_precision, wide
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps, summed_over_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, View

EPSILON = 1e-7


def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar mean over B² of p_t log((p_t + ε) / (p_s + ε)) of activations (B, …) of any two shapes; the teacher is detached.

    Computed in float32, or in float64 when an input is. Raises InputError for different numbers of rows.
    """

    def neighbours(rows: Tensor) -> Tensor:
        directions = unit(rows)
        kernel = (1 + directions @ directions.T) / 2
        # The diagonal is 1 but for rows of zeros (½), so that the sum cannot vanish.
        return kernel / kernel.sum(dim=1, keepdim=True)

    same_rows(student, teacher)
    s, t = (flat(x) for x in wide(student, teacher))
    with full_precision(s):
        p_s, p_t = neighbours(s), neighbours(t)
        # Rounding may leave a cosine a little below −1.
        return (p_t * ((p_t.clamp(min=0) + EPSILON).log() - (p_s.clamp(min=0) + EPSILON).log())).mean()


@dataclass(frozen=True)
class PKT:
    """`{kind: pkt, weight: 30000}`: a row's likely neighbours are the teacher's."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["pkt"] = "pkt"
    weight: float = 1.0
    warmup: float = 0.0
    student_taps: Taps = ("features",)
    teacher_taps: Taps = ("features",)

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:  # noqa: ARG002 (relations have no row weights)
        return Loss(summed_over_pairs(pkt_loss, self, student, teacher))
