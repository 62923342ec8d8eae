"""Grad-CAM matching: the student looks at the same places as the teacher.

Grad-CAM (Selvaraju et al. 2017, equations 1 and 2): for activations A (C, H, W) and the score y of a class,
    α_c = mean over positions of ∂y/∂A_c,   map = ReLU(Σ_c α_c A_c).
The loss is 1 − cos of both models' maps for the teacher's top class (Parchami-Araghi et al. 2024, "Good Teachers Explain", equation 2, with
Grad-CAM as their explanation of ordinary CNNs), after both were averaged onto the smaller grid. They explain logits in the last layer;
here the default is the log-odds (see input_gradients.py), several pairs of layers are summed, and tokens count as a grid
without their class token. The teacher's map is a constant: computed, or read from `View.explanations`, (B, H, W) for one pair of layers.

In a network that averages its last map and has one linear layer behind it, α depends on the weights alone, and with scale `logit`
ReLU students lose nothing here to second derivatives that are zero. A map that the ReLU leaves empty has no direction: an empty one of the
teacher teaches nothing, an empty one of the student costs 1 and has no gradient; `relu: false` compares signed maps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, Taps
from distillens.transfer.objectives.input_gradients import (
    Scale,
    check_scale,
    class_scores,
    comparable_maps,
    gradient_by,
    top_class,
)
from distillens.transfer.objectives.maps import as_maps, cosine_distance
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps, layer_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, View


def gradcam(activations: Tensor, gradients: Tensor, *, relu: bool = True) -> Tensor:
    """(B, H, W) Grad-CAM in float32 or wider, from a layer (B, C, H, W) or (B, T, D) and the score's gradient by it."""
    import torch

    dtype = torch.promote_types(torch.promote_types(activations.dtype, gradients.dtype), torch.float32)
    maps, slopes = as_maps(activations.to(dtype)), as_maps(gradients.to(dtype))
    summed = (slopes.mean(dim=(2, 3), keepdim=True) * maps).sum(dim=1)
    return summed.relu() if relu else summed


def gradcam_matching_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """(B,) 1 − cos of two maps (B, H, W), both averaged onto the smaller grid; the teacher is detached.

    Between 0 and 1 for maps without negative entries. Invariant to the scale of either map. Raises InputError for other shapes.
    """
    if student_map.ndim != 3 or teacher_map.ndim != 3:
        raise InputError(
            f"Maps (B, H, W) were expected, got {tuple(student_map.shape)} and {tuple(teacher_map.shape)}."
        )
    return cosine_distance(*comparable_maps(*wide(student_map, teacher_map)))


@dataclass(frozen=True)
class GradCAMMatching:
    """`{kind: gradcam_matching, student_taps: [layer4:output], teacher_taps: [layer4:output]}`: Grad-CAM maps point the same way.

    scale: what is differentiated, `log_odds` or `logit`. relu: leave out what speaks against the class.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = True
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["gradcam_matching"] = "gradcam_matching"
    weight: float = 1.0
    warmup: float = 0.0
    student_taps: Taps = "auto"
    teacher_taps: Taps = "auto"
    scale: Scale = "log_odds"
    relu: bool = True

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)
        check_scale(self.scale)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        import torch

        target = top_class(teacher.outputs)
        frozen = teacher.explanations
        if frozen is not None:
            frozen = frozen[:, 0] if frozen.ndim == 4 and frozen.shape[1] == 1 else frozen
            if len(self.student_taps) > 1:
                raise InputError(
                    "gradcam_matching with cached maps takes one pair of layers: a cache holds one map a row."
                )
        terms = []
        for own, other in layer_pairs(self, student, teacher) if frozen is None else self._beside(student, frozen):
            student_map = self._map(student, own, target, create_graph=True, whose="student")
            teacher_map = frozen
            if teacher_map is None:
                teacher_map = self._map(teacher, other, target, create_graph=False, whose="teacher").detach()
            terms.append(gradcam_matching_loss(student_map, teacher_map))
        return Loss.pointwise(torch.stack(terms).sum(dim=0), batch)

    def teacher_map(self, teacher: View) -> Tensor:
        """(B, H, W) the teacher's Grad-CAM of its one layer, a constant: what may be kept for `View.explanations`."""
        if self.teacher_taps == "auto" or len(self.teacher_taps) != 1:
            raise InputError("gradcam_matching keeps the map of one layer; name it in teacher_taps.")
        ((_, layer),) = layer_pairs(replace(self, student_taps=self.teacher_taps), teacher, teacher)
        return self._map(teacher, layer, top_class(teacher.outputs), create_graph=False, whose="teacher").detach()

    def _beside(self, student: View, frozen: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The student's layer beside cached maps; the teacher's layers need not be there."""
        shown = replace(student, layers=dict.fromkeys(self.teacher_taps, frozen))
        return layer_pairs(self, student, shown)

    def _map(self, view: View, layer: Tensor, target: Tensor, *, create_graph: bool, whose: str) -> Tensor:
        if layer.ndim < 3:
            raise InputError(
                f"gradcam_matching needs layers with positions, (B, C, H, W) or (B, T, D); the {whose}'s is a vector."
            )
        scores = class_scores(view.outputs, target, scale=self.scale)
        slopes = gradient_by(scores, layer, create_graph=create_graph, what=f"{whose}'s layer")
        return gradcam(layer, slopes, relu=self.relu)
