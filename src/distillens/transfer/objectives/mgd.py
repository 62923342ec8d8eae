"""Masked generative distillation: a generator must fill in the teacher's features from the student's with parts missing.

Yang et al. 2022, "Masked Generative Distillation", equations 2 to 5:
    L = Σ_c,h,w (T − G(align(S) · M))²,   G = 3×3 convolution, ReLU, 3×3 convolution,
summed over channels and positions, averaged over the batch; align is a 1×1 convolution where shapes differ, else nothing.
The paper masks pixels, M (B, 1, H, W); its code for classification masks whole channels, M (B, C, 1, 1), because the last map
has few pixels. Every entry of M is 0 with probability λ. Defaults are those of that code: channels, λ = 0.15 and α = 7e-5, which is
the weight here: the loss is a sum over a whole feature map, and a weight of 1 would drown everything else.
Where grids differ the student's map is brought onto the teacher's; tokens are used on their grid without the class token; vectors
are maps of one pixel. Several pairs of layers are summed. Masks are drawn from the batch's generator,
or from one kept with the module where the batch has none.
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

    from distillens.transfer.objectives.base import Batch, Shapes

Mask = Literal["channel", "pixel"]


def mgd_loss(generated: Tensor, teacher_features: Tensor) -> Tensor:
    """(B,) sum of squared differences of two (B, …) tensors of one shape; the teacher is detached.

    generated: what the generator made of the student's masked features. Raises InputError for different shapes.
    """
    if generated.shape != teacher_features.shape:
        raise InputError(
            f"Features of one shape were expected, got {tuple(generated.shape)} and {tuple(teacher_features.shape)}."
        )
    student, teacher = wide(generated, teacher_features)
    return (student - teacher).square().flatten(1).sum(dim=1)


@dataclass(frozen=True)
class MGD:
    """`{kind: mgd, student_taps: [layer4:output], teacher_taps: [layer4:output], masked: 0.15}`: features from masked features.

    masked: share of channels or pixels left out, in (0, 1). mask: `channel` or `pixel`.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False

    kind: Literal["mgd"] = "mgd"
    weight: float = 7e-5
    warmup: float = 0.0
    student_taps: Taps = "auto"
    teacher_taps: Taps = "auto"
    masked: float = 0.15
    mask: Mask = "channel"

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)
        if not 0 < check_number(self.masked, name="masked", above=0) < 1:
            raise InputError(f"masked is a share above 0 and below 1, got {self.masked!r}.")
        if self.mask not in {"channel", "pixel"}:
            raise InputError(f"mask is channel or pixel, got {self.mask!r}.")

    def term(self, shapes: Shapes, *, seed: int) -> nn.Module:
        from distillens.transfer.objectives.heads import MaskedGenerator
        from distillens.transfer.objectives.maps import as_maps
        from distillens.transfer.objectives.paired import PairedTerm, shape_pairs

        def loss(head: nn.Module, student: Tensor, teacher: Tensor, batch: Batch) -> Tensor:
            assert isinstance(head, MaskedGenerator)
            aligned = head.align(as_maps(student))
            rows, channels, height, width = aligned.shape
            shape = (rows, channels, 1, 1) if self.mask == "channel" else (rows, 1, height, width)
            keep = head.keep(shape, self.masked, batch.draw).to(aligned)
            return mgd_loss(head(aligned * keep), as_maps(teacher))

        pairs = shape_pairs(self, shapes)
        return PairedTerm(self, [MaskedGenerator(s, t, seed=seed + i) for i, (s, t) in enumerate(pairs)], loss)
