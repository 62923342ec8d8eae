"""Class attention transfer: where the evidence for each class lies in the last feature map.

Guo et al. 2023, "Class Attention Transfer Based Knowledge Distillation", equations 2 to 4. The class activation map of class k is
CAM_k = Σ_c w_kc F_c, with the last feature maps F (C, H, W) and the weights w of the classifier behind the average pooling
(Zhou et al. 2016). All maps are averaged onto a `grid`×`grid` grid (2×2 in the paper) and made unit length, each class by itself; the
loss is the mean over classes and positions of their squared difference, as in the authors' code. (The paper's formula sums
over positions: with the 2×2 grid, 4 times as much; its weights of 100 to 400 belong to the mean.)

How the classifier's weights are seen: `View.classifier`, (K, C), the weights of the linear layer that gives the outputs; the
student's with gradient, so that its classifier learns too. A tap cannot show them, because they are no activation. The tap is to be the
layer whose output is averaged and goes to the classifier, behind its last activation function; a class activation map is
only defined for such networks, and the number of channels is checked. Where "auto" or a list gives several pairs of layers, the last one is used.
For networks with another head Grad-CAM matching (`gradcam_matching`) is the generalisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, Taps
from distillens.transfer.objectives.maps import as_maps, unit
from distillens.transfer.objectives.precision import full_precision, wide
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps, layer_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, View


def class_activation_maps(features: Tensor, classifier: Tensor) -> Tensor:
    """(B, K, H, W) Σ_c w_kc F_c from features (B, C, H, W) or a grid of tokens (B, T, C) and weights (K, C).

    Raises InputError for vectors, and when the channels differ.
    """
    import torch

    if features.ndim == 2:
        raise InputError("cat_kd needs a layer with positions, (B, C, H, W) or (B, T, D), and got a vector.")
    maps = as_maps(features)
    if classifier.ndim != 2 or classifier.shape[1] != maps.shape[1]:
        raise InputError(
            f"Class activation maps need a classifier that reads the {maps.shape[1]} channels of the layer; its weights have shape "
            f"{tuple(classifier.shape)}. Tap the layer that is averaged and goes to the classifier, or use gradcam_matching."
        )
    dtype = torch.promote_types(torch.promote_types(maps.dtype, classifier.dtype), torch.float32)
    with full_precision(maps):
        return torch.einsum("bchw,kc->bkhw", maps.to(dtype), classifier.to(dtype))


def cat_kd_loss(student_maps: Tensor, teacher_maps: Tensor, *, grid: int = 2) -> Tensor:
    """(B,) from class activation maps (B, K, ·, ·) of the same classes, whose grids may differ; the teacher is detached.

    Maps smaller than `grid` are not enlarged: the smallest of the three counts. Raises InputError for different classes.
    """
    from distillens.transfer.layers.projectors import resize

    if student_maps.ndim != 4 or student_maps.shape[:2] != teacher_maps.shape[:2] or teacher_maps.ndim != 4:
        raise InputError(
            f"Maps (B, K, H, W) of the same rows and classes were expected, got {tuple(student_maps.shape)} and {tuple(teacher_maps.shape)}."
        )
    student, teacher = wide(student_maps, teacher_maps)
    sides = [min(grid, student.shape[axis], teacher.shape[axis]) for axis in (2, 3)]
    u, v = (unit(resize(maps, (sides[0], sides[1])).flatten(0, 1)) for maps in (student, teacher))
    return (u - v).square().mean(dim=1).reshape(student.shape[:2]).mean(dim=1)


@dataclass(frozen=True)
class CATKD:
    """`{kind: cat_kd, weight: 100, student_taps: [layer4:output], teacher_taps: [layer4:output]}`: class activation maps agree.

    grid: side of the square on which maps are compared.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["cat_kd"] = "cat_kd"
    weight: float = 1.0
    warmup: float = 0.0
    student_taps: Taps = "auto"
    teacher_taps: Taps = "auto"
    grid: int = 2

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)
        if type(self.grid) is not int or self.grid < 1:
            raise InputError(f"grid is a whole number of at least 1, got {self.grid!r}.")

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        student_layer, teacher_layer = layer_pairs(self, student, teacher)[-1]
        maps = []
        for view, layer, whose in ((student, student_layer, "student"), (teacher, teacher_layer, "teacher")):
            if view.classifier is None:
                raise InputError(
                    f"cat_kd needs the weights of the {whose}'s classifier (View.classifier), and there are none."
                )
            maps.append(class_activation_maps(layer, view.classifier))
        return Loss.pointwise(cat_kd_loss(maps[0], maps[1], grid=self.grid), batch)
