"""SimKD: the student takes over the teacher's classifier and learns to make the features that it reads.

Chen et al. 2022, "Knowledge Distillation with the Reused Teacher Classifier", equation 3: ‖f_t − P(f_s)‖², with a projector P
that becomes part of the student, because the teacher's classifier behind it stays as it is. Here, as in the authors' code, the
mean over features and positions of the squared difference, per example; with several pairs of layers their sum.

The projector is the student's own: it goes into the export. So it is built with the student, by
`distillens.transfer.layers.inherit.reuse_classifier`, and this objective compares the features that enter both classifiers (the tap
"features"). The authors compare maps before the average pooling: tap those of the projector and of the teacher for that. There
is no task loss in the paper (task_weight: 0). For a student that keeps its own classifier the method is `fitnet`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, Taps
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps, layer_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, View


def simkd_loss(projected: Tensor, teacher_features: Tensor) -> Tensor:
    """(B,) mean squared difference of two (B, …) tensors of one shape; the teacher is detached.

    projected: the features that the student gives to the teacher's classifier. Raises InputError for different shapes.
    """
    if projected.shape != teacher_features.shape:
        raise InputError(
            f"simkd compares features of one shape, got {tuple(projected.shape[1:])} and {tuple(teacher_features.shape[1:])}: build the "
            "student with distillens.transfer.layers.inherit.reuse_classifier, or use fitnet, whose projector is left behind."
        )
    student, teacher = wide(projected, teacher_features)
    return (student - teacher).square().flatten(1).mean(dim=1)


@dataclass(frozen=True)
class SimKD:
    """`{kind: simkd}`: the student's features follow the teacher's, for a student that reuses the teacher's classifier."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["simkd"] = "simkd"
    weight: float = 1.0
    warmup: float = 0.0
    student_taps: Taps = ("features",)
    teacher_taps: Taps = ("features",)

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        import torch

        terms = [simkd_loss(s, t) for s, t in layer_pairs(self, student, teacher)]
        return Loss.pointwise(torch.stack(terms).sum(dim=0), batch)
