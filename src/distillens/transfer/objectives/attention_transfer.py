"""Attention transfer: the student's feature maps are strong where the teacher's are.

Zagoruyko and Komodakis 2017, "Paying More Attention to Attention", section 3.1. An activation tensor A (C, H, W) becomes the map
Q = Σ_c |A_c|^p (their F_sum^p, p = 2), flattened and divided by its Euclidean length.
- mode "paper" (equation 2): ‖Q_s/‖Q_s‖ − Q_t/‖Q_t‖‖₂, one distance a pair;
- mode "code" (their released code, RepDistiller, mdistiller): the mean over positions of the squared difference, which is
  distance² / (H·W). For an 8×8 map and a distance of 0.4 that is 160 times smaller, and the weight of 1000 in published
  recipes belongs to it.
Where grids differ, activations are averaged onto the smaller one before the power is taken, as in RepDistiller. Published code
takes A^p without the absolute value, which differs for odd p. Several pairs of layers are summed; the paper's factor β/2 is the weight.
Tokens on a grid are treated as maps; a class token is left out. A vector has one position and nothing to attend to: InputError. A pair of
maps whose common grid is one pixel adds 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, Taps, check_number
from distillens.transfer.objectives.maps import as_maps, on_common_grid, unit
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps, layer_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, View

Mode = Literal["code", "paper"]


def attention_transfer_loss(
    student_map: Tensor, teacher_map: Tensor, *, power: float = 2, mode: Mode = "code"
) -> Tensor:
    """(B,) from feature maps (B, C, H, W) or token grids (B, T, D), whose channels and grids may differ; the teacher is detached.

    Invariant to the scale of either model's features. Raises InputError for a power ≤ 0, another mode, and vectors.
    """
    check_number(power, name="power", above=0)
    if mode not in {"code", "paper"}:
        raise InputError(f"mode is code or paper, got {mode!r}.")
    if student_map.ndim < 3 or teacher_map.ndim < 3:
        raise InputError("attention_transfer needs layers with positions, (B, C, H, W) or (B, T, D), and got a vector.")
    student, teacher = on_common_grid(*(as_maps(m) for m in wide(student_map, teacher_map)))
    difference = unit(_attention(student, power)) - unit(_attention(teacher, power))
    square = difference.square().sum(dim=1)
    if mode == "code":
        return square / difference.shape[1]
    # The derivative of a square root is infinite at 0: equal maps get gradient 0, and not NaN.
    apart = square > 0
    return square.where(apart, 1.0).sqrt().where(apart, 0.0)


def _attention(maps: Tensor, power: float) -> Tensor:
    """(B, C, H, W) → (B, H, W), Σ_c |A_c|^p up to a factor an example, which cancels."""
    # Divided by the largest activation, powers neither overflow nor vanish.
    largest = maps.detach().abs().flatten(1).amax(dim=1)[:, None, None, None]
    scaled = (maps / largest.where(largest > 0, 1.0)).abs()
    if power < 1:  # the derivative of |A|^p is infinite at 0
        scaled = scaled.where(scaled > 0, 1.0).pow(power).where(scaled > 0, 0.0)
    else:
        scaled = scaled.pow(power)
    return scaled.mean(dim=1)


@dataclass(frozen=True)
class AttentionTransfer:
    """`{kind: attention_transfer, weight: 1000, student_taps: [layer3:output], teacher_taps: [layer3:output]}`.

    power: of the activations, 2 in the paper. mode: `code` (mean of squares, weights of about 1000) or `paper` (a distance,
    weights of about 1).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["attention_transfer"] = "attention_transfer"
    weight: float = 1.0
    warmup: float = 0.0
    student_taps: Taps = "auto"
    teacher_taps: Taps = "auto"
    power: float = 2.0
    mode: Mode = "code"

    def __post_init__(self) -> None:
        check_schedule(self)
        check_number(self.power, name="power", above=0)
        check_taps(self)
        if self.mode not in {"code", "paper"}:
            raise InputError(f"mode is code or paper, got {self.mode!r}.")

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        import torch

        pairs = layer_pairs(self, student, teacher)
        terms = [attention_transfer_loss(s, t, power=self.power, mode=self.mode) for s, t in pairs]
        return Loss.pointwise(torch.stack(terms).sum(dim=0), batch)
