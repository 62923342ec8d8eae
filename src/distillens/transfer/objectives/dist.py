"""DIST: the student's probabilities correlate with the teacher's, within each row and within each class.

Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher". With p = softmax(z / T), (B, C):
    loss = T² [β (1 − mean over rows of ρ(p_s,i·, p_t,i·)) + γ (1 − mean over classes of ρ(p_s,·c, p_t,·c))],
ρ Pearson's correlation. Published code adds a fixed epsilon to the norms, with which a perfect student scores 0.5 on a saturated
class (a column of nearly zeros), and one library has a sign wrong. Here rows and columns are scaled before they are squared;
where the teacher's is constant there is nothing to be taught and the correlation counts as 1, where only the student's is
constant it counts as 0. So a perfect student scores 0. Their code has β = γ = 1 and T = 1 unless told.

For two classes a row's correlation is ±1 and its gradient 0: only the columns teach. Row weights are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.transfer.objectives.base import Loss, check_number, need_classes
from distillens.transfer.objectives.geometry import correlation
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, Tap, View


def dist_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, beta: float, gamma: float, temperature: float
) -> Tensor:
    """Scalar T² [β (1 − mean row correlation) + γ (1 − mean column correlation)] of (B, C) logits; the teacher is detached.

    Computed in float32, or in float64 when an input is. Raises InputError for T ≤ 0 and negative β or γ.
    """
    import torch

    check_number(temperature, name="temperature", above=0)
    check_number(beta, name="beta", at_least=0)
    check_number(gamma, name="gamma", at_least=0)
    z_s, z_t = wide(student_logits, teacher_logits)
    p_s, p_t = torch.softmax(z_s / temperature, dim=1), torch.softmax(z_t / temperature, dim=1)
    rows, columns = 1 - correlation(p_s, p_t).mean(), 1 - correlation(p_s.T, p_t.T).mean()
    return temperature**2 * (beta * rows + gamma * columns)


@dataclass(frozen=True)
class DIST:
    """`{kind: dist, beta: 1, gamma: 1, temperature: 1}`: relations between classes and between rows are kept, not their sizes."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["dist"] = "dist"
    weight: float = 1.0
    warmup: float = 0.0
    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 1.0
    final_temperature: float | None = None

    def __post_init__(self) -> None:
        check_schedule(self)
        check_number(self.beta, name="beta", at_least=0)
        check_number(self.gamma, name="gamma", at_least=0)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:  # noqa: ARG002 (relations have no row weights)
        need_classes(self.kind, student.outputs)
        return Loss(dist_loss(
            student.outputs, teacher.outputs, beta=self.beta, gamma=self.gamma, temperature=self.temperature
        ))  # fmt: skip
