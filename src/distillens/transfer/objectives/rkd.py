"""Relational knowledge distillation: distances between rows, and angles of triples of rows.

Park et al. 2019, "Relational Knowledge Distillation", section 3. x (B, D), e_ij = (x_i − x_j) / ‖x_i − x_j‖:
    distance: mean over (i, j) of h(d_ij of the student − d_ij of the teacher), d_ij = ‖x_i − x_j‖ / mean of the positive distances,
    angle:    mean over (i, j, k) of h(⟨e_ij, e_kj⟩ of the student − that of the teacher),
h Huber's loss with δ = 1. The paper sums over tuples of different rows; the means are over all B² and B³, as in RepDistiller. The
activations are not normalised. Duplicate rows: published code takes square roots of differences of squares and divides by
norms of 1e-12, with gradients of 1e10; here the distance of equal rows is exactly 0, its gradient 0, and pairs closer than
rounding errors have no direction. The paper's ratio of distance to angle is 1 : 2 (RepDistiller's 25 and 50).

Several pairs of layers are added up. Memory: B² D + B³ numbers. Row weights are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, Taps, check_number
from distillens.transfer.objectives.geometry import flat, same_rows, same_scale
from distillens.transfer.objectives.precision import full_precision, wide
from distillens.transfer.objectives.schedule import check_schedule
from distillens.transfer.objectives.taps import check_taps, summed_over_pairs

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, View


def rkd_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar mean Huber loss of relative distances between rows; student (B, …), teacher (B, …), detached, flattened.

    Computed in float32, or in float64 when an input is. Raises InputError for different numbers of rows.
    """
    import torch

    def relative(rows: Tensor) -> Tensor:
        # Not by matrix products: they lose all digits of small distances.
        d = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
        apart = (d > 0).sum()
        return d / (d.sum() / apart) if apart > 0 else d

    same_rows(student, teacher)
    s, t = (same_scale(flat(x)) for x in wide(student, teacher))
    with full_precision(s):
        return torch.nn.functional.smooth_l1_loss(relative(s), relative(t))


def rkd_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Scalar mean Huber loss of the cosines at every row between every two others; student (B, …), teacher (B, …), detached.

    Computed in float32, or in float64 when an input is. Raises InputError for different numbers of rows.
    """
    import torch

    def cosines(rows: Tensor) -> Tensor:
        apart = rows[None, :, :] - rows[:, None, :]
        square = apart.square().sum(dim=2)
        noise = 16 * torch.finfo(rows.dtype).eps * rows.detach().norm(dim=1).max()
        same = square.detach() <= noise**2
        inverse = square.masked_fill(same, 1.0).rsqrt().masked_fill(same, 0.0)
        return (apart @ apart.transpose(1, 2)) * inverse[:, :, None] * inverse[:, None, :]

    same_rows(student, teacher)
    s, t = (same_scale(flat(x)) for x in wide(student, teacher))
    with full_precision(s):
        return torch.nn.functional.smooth_l1_loss(cosines(s), cosines(t))


@dataclass(frozen=True)
class RKD:
    """`{kind: rkd, weight: 25, distance: 1, angle: 2}`: rows lie to one another as they do for the teacher, by distance and angle."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    needs_gradient: ClassVar[bool] = False
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["rkd"] = "rkd"
    weight: float = 1.0
    warmup: float = 0.0
    distance: float = 1.0
    angle: float = 2.0
    student_taps: Taps = ("features",)
    teacher_taps: Taps = ("features",)

    def __post_init__(self) -> None:
        check_schedule(self)
        check_taps(self)
        both = check_number(self.distance, name="distance", at_least=0) + check_number(self.angle, name="angle", at_least=0)  # fmt: skip
        if both == 0:
            raise InputError("Of distance and angle at least one is above 0.")

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:  # noqa: ARG002 (relations have no row weights)
        def loss(s: Tensor, t: Tensor) -> Tensor:
            if self.angle == 0:
                return self.distance * rkd_distance_loss(s, t)
            angles = self.angle * rkd_angle_loss(s, t)
            return angles if self.distance == 0 else angles + self.distance * rkd_distance_loss(s, t)

        return Loss(summed_over_pairs(loss, self, student, teacher))
