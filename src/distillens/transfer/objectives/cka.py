"""Centred kernel alignment: the layer's geometry is the teacher's, up to rotation and scale.

Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited", with linear kernels K = X Xᵀ, L = Y Yᵀ
and the unbiased estimate of HSIC of Song et al. 2012, "Feature Selection via Dependence Maximization" (zero diagonals,
written ~):
    HSIC₁(K, L) = [tr(K~L~) + 1ᵀK~1 · 1ᵀL~1 / ((n−1)(n−2)) − 2/(n−2) · 1ᵀK~L~1] / (n(n−3)),
    CKA = HSIC₁(K, L) / √(HSIC₁(K, K) HSIC₁(L, L)),   loss = 1 − CKA, between 0 and 2.
HSIC₁ is the inner product of U-centred matrices (Székely and Rizzo 2014), so that both roots exist; this is how it is computed.
Debiased because the usual estimate is close to 1 for any two wide layers in a small batch. Needs four rows: batches of fewer score
0. Where the teacher's layer is constant there is nothing to be taught and CKA counts as 1; where only the student's is, as 0.

Added up over pairs of layers. Row weights are not looked at.
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


def cka_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar 1 − debiased linear CKA of activations (B, …) of any two shapes; 0 for B < 4. The teacher is detached.

    Computed in float32, or in float64 when an input is. Raises InputError for different numbers of rows.
    """
    import torch

    same_rows(student, teacher)
    s, t = (flat(x) for x in wide(student, teacher))
    b = len(s)
    if b < 4:
        return 0.0 * s.sum()

    def u_centred(rows: Tensor) -> tuple[Tensor, Tensor]:
        """(1, B²), and (1,) whether it is nothing but rounding errors."""
        centred = rows - rows.mean(dim=0)
        noise = 16 * torch.finfo(rows.dtype).eps * rows.detach().abs().amax()
        constant = centred.detach().abs().amax() <= noise
        scaled = same_scale(centred)
        kernel = (scaled @ scaled.T).masked_fill(torch.eye(b, dtype=torch.bool, device=rows.device), 0.0)
        sums = kernel.sum(dim=1) / (b - 2)
        doubly = kernel - sums[:, None] - sums[None, :] + kernel.sum() / ((b - 1) * (b - 2))
        flattened = doubly.masked_fill(torch.eye(b, dtype=torch.bool, device=rows.device), 0.0).reshape(1, -1)
        noise = 16 * torch.finfo(rows.dtype).eps * kernel.detach().abs().amax()
        return flattened, (constant | (flattened.detach().abs().amax() <= noise)).reshape(1)

    with full_precision(s):
        (k, no_student), (l, no_teacher) = u_centred(s), u_centred(t)  # noqa: E741 (the papers' letter)
        cka = (unit(k, undefined=no_student) * unit(l, undefined=no_teacher)).sum(dim=1)
        return (1 - cka.masked_fill(no_teacher, 1.0)).sum()


@dataclass(frozen=True)
class CKA:
    """`{kind: cka, weight: 1}`: the rows' geometry in a layer is the teacher's, whatever its rotation, scale and width."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["cka"] = "cka"
    weight: float = 1.0
    warmup: float = 0.0
    student_taps: Taps = ("features",)
    teacher_taps: Taps = ("features",)

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:  # noqa: ARG002 (relations have no row weights)
        return Loss(summed_over_pairs(cka_loss, self, student, teacher))
