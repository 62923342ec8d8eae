"""Knowledge review: every stage of the teacher is learned from the student's stages of the same depth and all deeper ones.

Chen et al. 2021, "Distilling Knowledge via Knowledge Review", section 3.3 and figure 3. From the deepest student layer to the
shallowest, attention based fusion (ABF) mixes a layer with what came out of the deeper ones: both in `middle` channels and on
the layer's grid, two maps of weights in (0, 1) from a 1×1 convolution and a sigmoid, their weighted sum; a 3×3 convolution then
makes the teacher's channels of it. Each result is compared with its teacher layer by the hierarchical context loss (HCL):
    Σ_l w_l · mean (pool_l(s) − pool_l(t))² / Σ_l w_l,   l: the full grid, 4×4, 2×2, 1×1 (those smaller than the grid),   w = 1, ½, ¼, ⅛,
and the results are summed over layers. The levels and weights are those of the authors' code; the paper says only that there
are levels. The fused map goes to the shallower layer before the 3×3 convolution, as in that code; figure 3 draws it after.
ABF resizes by nearest neighbour and normalises with batch statistics; a batch with one value a channel (one row, one pixel) has
none, and then the running ones are used. The authors warm the weight up over 20 epochs and add the pooled features as a last
stage: name the tap "features" for that. Taps go from shallow to deep; tokens are used on their grid without the class token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Taps
from distillens.transfer.objectives.maps import as_maps
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distillens.transfer.objectives.base import Shapes

LEVELS = (4, 2, 1)


def review_loss(fused: Sequence[Tensor], teacher_features: Sequence[Tensor]) -> Tensor:
    """(B,) sum over layers of the hierarchical context loss; teachers are detached.

    fused, teacher_features: as many (B, C, H, W) tensors of one as of the other, of equal shapes pair by pair (tokens and
    vectors of a teacher are brought into that form). Raises InputError for shapes that differ.
    """
    import torch

    if len(fused) != len(teacher_features) or not fused:
        raise InputError(f"review_loss pairs layers one by one, got {len(fused)} and {len(teacher_features)}.")
    return torch.stack([_context(f, t) for f, t in zip(fused, teacher_features, strict=True)]).sum(dim=0)


def _context(fused: Tensor, teacher_features: Tensor) -> Tensor:
    from torch.nn.functional import adaptive_avg_pool2d

    student, teacher = wide(fused, as_maps(teacher_features))
    if student.shape != teacher.shape:
        raise InputError(f"Maps of one shape were expected, got {tuple(student.shape)} and {tuple(teacher.shape)}.")
    difference = student - teacher  # pooling is linear: the difference of pooled maps is the pooled difference
    loss, weight, total = difference.square().flatten(1).mean(dim=1), 1.0, 1.0
    for level in LEVELS:
        if level >= min(difference.shape[2:]):
            continue
        weight /= 2
        total += weight
        loss = loss + weight * adaptive_avg_pool2d(difference, level).square().flatten(1).mean(dim=1)
    return loss / total


@dataclass(frozen=True)
class ReviewKD:
    """`{kind: review, student_taps: [layer1:output, …, features], teacher_taps: [layer1:output, …, features]}`, shallow to deep.

    middle: channels in which layers are fused; "auto": those of the deepest student layer, at most 512.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False

    kind: Literal["review"] = "review"
    weight: float = 1.0
    warmup: float = 0.0
    student_taps: Taps = "auto"
    teacher_taps: Taps = "auto"
    middle: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)
        if self.middle != "auto" and not (type(self.middle) is int and self.middle >= 1):
            raise InputError(f'middle is "auto" or a whole number of at least 1, got {self.middle!r}.')

    def term(self, shapes: Shapes, *, seed: int) -> nn.Module:  # noqa: ARG002 (weights come from torch's seeded generator)
        from distillens.transfer.objectives.paired import shape_pairs
        from distillens.transfer.objectives.reviewing import ReviewTerm

        return ReviewTerm(self, shape_pairs(self, shapes), middle=None if self.middle == "auto" else self.middle)
