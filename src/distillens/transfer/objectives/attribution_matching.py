"""Attribution matching: what each input adds to the decision, from a reference point to the row, is the same in both models.

Integrated gradients (Sundararajan et al. 2017, equation 1): for a row x and a reference x',
    IG_i = (x_i − x'_i) · ∫_0^1 ∂s_c/∂x_i (x' + α (x − x')) dα,
the integral as the mean over `steps` midpoints α = (j − ½) / steps. The loss is 1 − cos of both models' attributions for the
teacher's top class (Parchami-Araghi et al. 2024, "Good Teachers Explain", equation 2, with another explanation). Unlike a plain gradient
it does not vanish in saturated regions, and it has no units to be converted: (x − x') ∂/∂x is the same in every affine coding, as long
as both models start from the same reference. reference `zero`: zeros of each model's own inputs, the usual choice, which is the same
point for both only if their preprocessing is the same; `mean`: the mean of the batch, which is the same point for both in any
affine preprocessing, and moves with the batch.

Asks both models (`View.ask`) about `steps` points a row, and differentiates the student's answers twice: about 3·steps passes. The
teacher's attributions may come frozen from `View.explanations`. For students with ReLU see gradient_matching.py. Inputs of other
sizes are averaged onto the smaller grid, channels summed where their numbers differ. A student with batch normalisation in training
mode is asked in that mode: its running statistics then include the points on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, Tap
from distillens.transfer.objectives.input_gradients import (
    Scale,
    check_scale,
    class_scores,
    comparable_maps,
    gradient_by,
    top_class,
)
from distillens.transfer.objectives.maps import cosine_distance
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, View

Reference = Literal["zero", "mean"]


def integrated_gradients(
    ask: Callable[[Tensor], Tensor], inputs: Tensor, target: Tensor, *, reference: Tensor, steps: int,
    scale: Scale = "log_odds", create_graph: bool = False,
) -> Tensor:  # fmt: skip
    """(B, …) attributions of the score of class `target` (B,) to inputs (B, …), from `reference` (that broadcasts to them).

    ask: (B', …) → (B', K) outputs, differentiable by what it is asked. Their sum tends to s_c(x) − s_c(x') as steps grow. Raises
    InputError when the answers are not differentiable.
    """
    import torch

    if not inputs.is_floating_point():
        raise InputError("attribution_matching needs inputs that are numbers, and these are whole numbers (indices).")
    start = reference.detach().expand_as(inputs)
    away = inputs.detach() - start
    shares = (torch.arange(steps, device=inputs.device, dtype=inputs.dtype) + 0.5) / steps
    points = start + shares.reshape(-1, *[1] * inputs.ndim) * away
    with torch.enable_grad():
        flat = points.flatten(0, 1).requires_grad_()
        scores = class_scores(ask(flat), target.repeat(steps), scale=scale)
        slopes = gradient_by(scores, flat, create_graph=create_graph, what="points that were asked")
    return away * slopes.reshape(steps, *inputs.shape).mean(dim=0)


def attribution_matching_loss(student_attributions: Tensor, teacher_attributions: Tensor) -> Tensor:
    """(B,) 1 − cos of two (B, …) attributions, between 0 and 2; the teacher is detached.

    Images of different sizes are brought together; invariant to the scale of either. Raises InputError for other shapes.
    """
    return cosine_distance(*comparable_maps(*wide(student_attributions, teacher_attributions)))


@dataclass(frozen=True)
class AttributionMatching:
    """`{kind: attribution_matching, steps: 8}`: integrated gradients of the teacher's top class point the same way.

    steps: points between the reference and the row. reference: `zero` or `mean`. scale: `log_odds` or `logit`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = False  # by the batch's own inputs; the points it asks about are its own
    zero_when_equal: ClassVar[bool] = True
    asks: ClassVar[bool] = True

    kind: Literal["attribution_matching"] = "attribution_matching"
    weight: float = 1.0
    warmup: float = 0.0
    steps: int = 8
    reference: Reference = "zero"
    scale: Scale = "log_odds"

    def __post_init__(self) -> None:
        check_schedule(self)
        check_scale(self.scale)
        if type(self.steps) is not int or self.steps < 1:
            raise InputError(f"steps is a whole number of at least 1, got {self.steps!r}.")
        if self.reference not in {"zero", "mean"}:
            raise InputError(f"reference is zero or mean, got {self.reference!r}.")

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        target = top_class(teacher.outputs)
        own = self._attributions(student, target, create_graph=True, whose="student")
        given = self.teacher_map(teacher) if teacher.explanations is None else teacher.explanations
        return Loss.pointwise(attribution_matching_loss(own, given), batch)

    def teacher_map(self, teacher: View) -> Tensor:
        """(B, …) the teacher's attributions, a constant: what may be kept for `View.explanations`.

        With reference `mean` it depends on the batch it is made in, and the student's later on another: keep those with `zero`.
        """
        return self._attributions(teacher, top_class(teacher.outputs), create_graph=False, whose="teacher")

    def _attributions(self, view: View, target: Tensor, *, create_graph: bool, whose: str) -> Tensor:
        if view.ask is None:
            raise InputError(
                f"attribution_matching asks the {whose} about points between a reference and the row, and only its stored answers are "
                "at hand; give the model itself, or cached attributions of the teacher."
            )
        x = view.inputs.detach()
        reference = x.mean(dim=0, keepdim=True) if self.reference == "mean" else x.new_zeros(())
        return integrated_gradients(
            view.ask, x, target, reference=reference, steps=self.steps, scale=self.scale, create_graph=create_graph
        )
