"""Variational information distillation: a lower bound on the information that the student's layer has about the teacher's.

Ahn et al. 2019, "Variational Information Distillation for Knowledge Transfer", equations 4 and 5. With a Gaussian
q(t | s) whose mean is a network of the student's layer and whose variance is learned for each channel and the same everywhere,
    −log q(t | s) = Σ_c,h,w log σ_c + (t_c,h,w − μ_c,h,w(s))² / (2 σ_c²) + constant,   σ_c² = log(1 + exp(α_c)) + ε.
Here, as in the authors' code and RepDistiller: the mean over channels and positions of ½ ((t − μ)² / σ² + log σ²), without
the constant, so that the loss can be negative; μ is three 1×1 convolutions with ReLU between them, the variance begins at 5, and layers
of different grids are both averaged onto the smaller one. Several pairs of layers are summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Taps, check_number
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.transfer.objectives.base import Shapes


def vid_loss(mean: Tensor, teacher_features: Tensor, variance: Tensor) -> Tensor:
    """(B,) mean over channels and positions of ½ ((t − μ)² / σ² + log σ²); the teacher is detached.

    mean, teacher_features: (B, C, …), channels second. variance: (C,) above 0. Raises InputError for shapes that do not fit.
    """
    if mean.shape != teacher_features.shape or variance.shape != mean.shape[1:2]:
        raise InputError(
            f"Mean and features of one shape (B, C, …) and a variance (C,) were expected, got {tuple(mean.shape)}, "
            f"{tuple(teacher_features.shape)} and {tuple(variance.shape)}."
        )
    mu, target = wide(mean, teacher_features)
    spread = variance.to(mu.dtype).reshape(-1, *[1] * (mu.ndim - 2))
    return ((target - mu).square() / spread + spread.log()).flatten(1).mean(dim=1) / 2


@dataclass(frozen=True)
class VID:
    """`{kind: vid, student_taps: [layer3:output], teacher_taps: [layer3:output]}`: the teacher's layer is predicted from the student's.

    variance: of every channel in the beginning. epsilon: what it cannot fall below.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False

    kind: Literal["vid"] = "vid"
    weight: float = 1.0
    warmup: float = 0.0
    student_taps: Taps = "auto"
    teacher_taps: Taps = "auto"
    variance: float = 5.0
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)
        check_number(self.epsilon, name="epsilon", above=0)
        check_number(self.variance, name="variance", above=self.epsilon)

    def term(self, shapes: Shapes, *, seed: int) -> nn.Module:  # noqa: ARG002 (weights come from torch's seeded generator)
        from distillens.transfer.objectives.heads import GaussianHead
        from distillens.transfer.objectives.paired import PairedTerm, shape_pairs

        heads = [GaussianHead(s, t, variance=self.variance, epsilon=self.epsilon) for s, t in shape_pairs(self, shapes)]
        return PairedTerm(self, heads, lambda head, s, t, _: vid_loss(*head(s, t)))
