"""Correlation congruence: the kernel matrix of the rows is the teacher's.

Peng et al. 2019, "Correlation Congruence for Knowledge Distillation". For activations of unit length the Gaussian
kernel exp(−γ ‖a − b‖²) = exp(−2γ) exp(2γ aᵀb) is cut after P terms of its Taylor series,
    K(a, b) = Σ_{p=0}^{P} exp(−2γ) (2γ)^p / p! · (aᵀb)^p,   loss = ‖K_s − K_t‖² / B²,
the squared Frobenius norm; γ = 0.4 and P = 2 as in the paper. RepDistiller's CC is another loss (products of absolute differences
of embedded neighbours in the batch); this is the paper's. Rows of zeros have aᵀb = 0. Added up over pairs of layers. Row weights
are not looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, Taps, check_number
from distillens.transfer.objectives.geometry import flat, same_rows, unit
from distillens.transfer.objectives.precision import full_precision, wide
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps, summed_over_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, View


def cc_loss(student: Tensor, teacher: Tensor, *, gamma: float, order: int) -> Tensor:
    """Scalar ‖K_s − K_t‖² / B² of activations (B, …) of any two shapes; the teacher is detached. order: P ≥ 1 terms after the first.

    Computed in float32, or in float64 when an input is. Raises InputError for γ ≤ 0, P < 1 and different numbers of rows.
    """
    _check(gamma, order)
    same_rows(student, teacher)

    def kernel(rows: Tensor) -> Tensor:
        directions = unit(rows)
        cosines = directions @ directions.T
        factors = [math.exp(-2 * gamma) * (2 * gamma) ** p / math.factorial(p) for p in range(order + 1)]
        value = cosines.new_full(cosines.shape, factors[-1])
        for factor in reversed(factors[:-1]):  # Horner's scheme
            value = value * cosines + factor
        return value

    s, t = (flat(x) for x in wide(student, teacher))
    with full_precision(s):
        return (kernel(s) - kernel(t)).square().mean()


def _check(gamma: float, order: int) -> None:
    check_number(gamma, name="gamma", above=0)
    given: object = order
    if not (isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= 20):
        raise InputError(f"order is a whole number between 1 and 20, got {order!r}.")


@dataclass(frozen=True)
class CC:
    """`{kind: cc, weight: 100, gamma: 0.4, order: 2}`: correlations between rows, by a Gaussian kernel, are the teacher's."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["cc"] = "cc"
    weight: float = 1.0
    warmup: float = 0.0
    gamma: float = 0.4
    order: int = 2
    student_taps: Taps = ("features",)
    teacher_taps: Taps = ("features",)

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)
        _check(self.gamma, self.order)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:  # noqa: ARG002 (relations have no row weights)
        def loss(s: Tensor, t: Tensor) -> Tensor:
            return cc_loss(s, t, gamma=self.gamma, order=self.order)

        return Loss(summed_over_pairs(loss, self, student, teacher))
