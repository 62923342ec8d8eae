"""Jacobian matching: the student reacts to small changes of the input in the same proportions as the teacher.

Srinivas and Fleuret 2018, "Knowledge Transfer with Jacobian Matching". Adding noise to the inputs while outputs are matched by squared
error is, to second order, matching outputs and Jacobians (their proposition 1). They match gradients of unit length,
‖∇s/‖∇s‖ − ∇t/‖∇t‖‖², because sizes of gradients are hard to match, and, because whole Jacobians are expensive, only those of the output in
which the teacher is largest: outputs `top`, the default here, which is twice the loss of `gradient_matching` wherever both gradients exist.
outputs `all`: the whole (K, inputs) Jacobian as one vector of unit length, so that outputs keep their proportions; K backward passes.
Here the log-odds are differentiated by default, the paper's outputs with scale `logit`. The paper also matches Jacobians of attention maps between
layers; for layers see `attention_transfer` and `gradcam_matching`. The black-box twin, which asks instead of differentiating, is `noise_queries`.
Students with ReLU have no second derivative by their inputs: see gradient_matching.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, Tap
from distillens.transfer.objectives.input_gradients import (
    Scale,
    check_scale,
    comparable_gradients,
    input_gradient,
    top_class,
)
from distillens.transfer.objectives.maps import unit
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, View

Outputs = Literal["top", "all"]


def jacobian_loss(student_jacobian: Tensor, teacher_jacobian: Tensor) -> Tensor:
    """(B,) ‖J_s/‖J_s‖ − J_t/‖J_t‖‖² of two (B, …) tensors of one shape, between 0 and 4; the teacher is detached.

    Invariant to the scale of either. A teacher's Jacobian of zeros teaches nothing (0); a student's beside another gives 1.
    Raises InputError for different shapes.
    """
    import torch

    if student_jacobian.shape != teacher_jacobian.shape:
        raise InputError(
            f"Jacobians of one shape were expected, got {tuple(student_jacobian.shape)} and {tuple(teacher_jacobian.shape)}."
        )
    u, v = (unit(jacobian) for jacobian in wide(student_jacobian, teacher_jacobian))
    return torch.where(v.any(dim=1), (u - v).square().sum(dim=1), 0.0)


@dataclass(frozen=True)
class JacobianMatching:
    """`{kind: jacobian, outputs: top}`: gradients of unit length of the teacher's top output, or of all outputs, agree.

    scale: what is differentiated, `log_odds` or `logit`. Prefer students with softplus or GELU.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = True
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["jacobian"] = "jacobian"
    weight: float = 1.0
    warmup: float = 0.0
    outputs: Outputs = "top"
    scale: Scale = "log_odds"

    def __post_init__(self) -> None:
        check_schedule(self)
        check_scale(self.scale)
        if self.outputs not in {"top", "all"}:
            raise InputError(f"outputs is top or all, got {self.outputs!r}.")

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        import torch

        top = top_class(teacher.outputs)
        targets = [top] if self.outputs == "top" else [torch.full_like(top, k) for k in range(teacher.outputs.shape[1])]
        if teacher.outputs.shape[1] != student.outputs.shape[1]:
            raise InputError(
                f"Models with the same outputs were expected, got {student.outputs.shape[1]} and {teacher.outputs.shape[1]}."
            )
        pairs = []
        for target in targets:
            own = input_gradient(student, target, scale=self.scale, create_graph=True, whose="student")
            if teacher.explanations is not None and self.outputs == "top":
                given = teacher.explanations
            else:
                given = input_gradient(teacher, target, scale=self.scale, create_graph=False, whose="teacher")
            pairs.append(comparable_gradients(own, student.inputs, given, teacher.inputs))
        jacobians = (torch.stack([pair[i] for pair in pairs], dim=1) for i in (0, 1))
        return Loss.pointwise(jacobian_loss(*jacobians), batch)
