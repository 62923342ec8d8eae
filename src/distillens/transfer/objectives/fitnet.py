"""Hints: the student's hidden features, after a projector, follow the teacher's.

Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", equation 3: ½ ‖u_h(x) − r(v_g(x))‖² with a regressor r.
Here, per example: the mean over all features and positions of (r(s) − t)², as RepDistiller and mdistiller have it: the mean
instead of half the sum, so that a weight means the same for layers of all sizes. Several pairs of layers are summed.
The paper trains the hint first and the task afterwards; here, as in published code, both are one loss. The paper's regressor
is a convolution without padding; for the one used here see transfer/layers/projectors.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Taps
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.transfer.objectives.base import Shapes


def fitnet_loss(projected: Tensor, teacher_features: Tensor) -> Tensor:
    """(B,) mean squared difference of two (B, …) tensors of one shape; the teacher is detached.

    projected: the student's features after its projector. Raises InputError for different shapes.
    """
    if projected.shape != teacher_features.shape:
        raise InputError(
            f"Features of one shape were expected, got {tuple(projected.shape)} and {tuple(teacher_features.shape)}; "
            "project the student's first."
        )
    student, teacher = wide(projected, teacher_features)
    return (student - teacher).square().flatten(1).mean(dim=1)


@dataclass(frozen=True)
class FitNet:
    """`{kind: fitnet, student_taps: [layer2:output], teacher_taps: [layer3:output]}`: hidden features follow the teacher's.

    projector: `learned` for each pair of layers, or `none` for layers that have one shape and are to become equal.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False

    kind: Literal["fitnet"] = "fitnet"
    weight: float = 1.0
    warmup: float = 0.0
    student_taps: Taps = "auto"
    teacher_taps: Taps = "auto"
    projector: Literal["learned", "none"] = "learned"

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)
        if self.projector not in {"learned", "none"}:
            raise InputError(f"projector is learned or none, got {self.projector!r}.")

    def term(self, shapes: Shapes, *, seed: int) -> nn.Module:  # noqa: ARG002 (weights come from torch's seeded generator)
        from torch import nn

        from distillens.transfer.layers.projectors import projector
        from distillens.transfer.objectives.paired import PairedTerm, shape_pairs

        pairs = shape_pairs(self, shapes)
        if self.projector == "none":
            for s, t in pairs:
                if s != t:
                    raise InputError(
                        f"fitnet without a projector needs layers of one shape, got {s} and {t}; use projector: learned."
                    )
        heads = [projector(s, t) if self.projector == "learned" else nn.Identity() for s, t in pairs]
        return PairedTerm(self, heads, lambda head, s, t, _: fitnet_loss(head(s), t))
