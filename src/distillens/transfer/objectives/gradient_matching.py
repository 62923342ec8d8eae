"""Input-gradient matching: the inputs that would change the teacher's decision are those that would change the student's.

Per example 1 − cos(∇_x s_c of the student, ∇_x s_c of the teacher) of the flattened gradients, with c the teacher's top class. This is
explanation-enhanced distillation (Parchami-Araghi et al. 2024, "Good Teachers Explain", equation 2, with the cosine) with the
plain gradient (Simonyan et al. 2014) as explanation; matching gradients goes back to Czarnecki et al. 2017, "Sobolev Training", who match
their size as well. The paper explains logits; here the default is the log-odds (see input_gradients.py, which also says
how inputs of other sizes and units are compared). The teacher's map is a constant: computed, or read from `View.explanations` where
a cache has it (for the same class, and in the teacher's input units).

The student's gradient is differentiated once more. A network of linear layers and ReLU is piecewise linear: its gradient follows
its weights, but its second derivative by the inputs is 0 almost everywhere, so that nothing tells the loss how to move the kinks where
the gradient changes. Softplus or GELU are better students here, and for convolutional networks with ReLU Grad-CAM matching is.
Fused attention kernels have no second derivative: for transformers choose PyTorch's plain one
(`torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`). Costs about as much again as two passes of the student.
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
from distillens.transfer.objectives.maps import cosine_distance
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, View


def gradient_matching_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """(B,) 1 − cos of two (B, …) maps of one shape, between 0 and 2; the teacher is detached.

    Invariant to the scale of either map. A teacher's map of zeros teaches nothing (0); a student's beside another gives 1. Raises
    InputError for different shapes.
    """
    if student_map.shape != teacher_map.shape:
        raise InputError(
            f"Maps of one shape were expected, got {tuple(student_map.shape)} and {tuple(teacher_map.shape)}."
        )
    return cosine_distance(*wide(student_map, teacher_map))


@dataclass(frozen=True)
class GradientMatching:
    """`{kind: gradient_matching, weight: 10}`: input gradients of the teacher's top class point the same way.

    scale: what is differentiated, `log_odds` or `logit`. Both models have to be differentiable by their inputs; for students
    prefer softplus or GELU to ReLU, whose second derivatives are zero.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = True
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["gradient_matching"] = "gradient_matching"
    weight: float = 1.0
    warmup: float = 0.0
    scale: Scale = "log_odds"

    def __post_init__(self) -> None:
        check_schedule(self)
        check_scale(self.scale)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        target = top_class(teacher.outputs)
        own = input_gradient(student, target, scale=self.scale, create_graph=True, whose="student")
        given = self.teacher_map(teacher) if teacher.explanations is None else teacher.explanations
        maps = comparable_gradients(own, student.inputs, given, teacher.inputs)
        return Loss.pointwise(gradient_matching_loss(*maps), batch)

    def teacher_map(self, teacher: View) -> Tensor:
        """(B, …) the teacher's gradient by its inputs, a constant: what may be kept for `View.explanations`."""
        target = top_class(teacher.outputs)
        return input_gradient(teacher, target, scale=self.scale, create_graph=False, whose="teacher")
