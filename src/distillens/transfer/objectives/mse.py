"""Matching the teacher's outputs by squared error.

For regression: (v_s − v_t)² of values standardised by the training targets. For classes: Σ_c (z_s,c − z_t,c)² of the centred
logits (Ba and Caruana 2014, "Do Deep Nets Really Need to be Deep?", equation 1, without their factor ½; centring, because
adding a constant to all logits changes no probability). The sum over classes is not divided by C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.transfer.objectives.base import Loss
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, Tap, View


def mse_loss(student_outputs: Tensor, teacher_outputs: Tensor) -> Tensor:
    """(B,) Σ_c (s_c − t_c)² of (B, K) outputs, in float32 or wider; the teacher is detached."""
    s, t = wide(student_outputs, teacher_outputs)
    return (s - t).square().sum(dim=1)


@dataclass(frozen=True)
class MSE:
    """`{kind: mse, weight: 1}`: the student's values (regression) or centred logits (classes) follow the teacher's."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = False
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["mse"] = "mse"
    weight: float = 1.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        check_schedule(self)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        s, t = student.outputs, teacher.outputs
        if s.shape[1] > 1:
            s, t = s - s.mean(dim=1, keepdim=True), t - t.mean(dim=1, keepdim=True)
        return Loss.pointwise(mse_loss(s, t), batch)
