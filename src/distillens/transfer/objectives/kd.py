"""Knowledge distillation with softened probabilities.

Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", section 2:
    p = softmax(z / T),  loss = T² · Σ_c p_t,c (log p_t,c − log p_s,c)   per example.
The factor T² keeps the gradient's size when T changes; for large T and centred logits the gradient tends to
(z_s − z_t) / C (their equation 4). Published code departs by dividing by C, dropping T², or squaring differences of
softmaxes; here the sum over classes is never divided by C. Σ p_t log p_t is kept, so that a perfect student scores 0.

Logit standardisation: Sun et al. 2024, "Logit Standardization in Knowledge Distillation", algorithm 1, with their code's
constants: the unbiased standard deviation (the paper's formula has the population one, 1 % apart for 100 classes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, check_number, need_classes
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, Tap, View


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """(B,) T² · KL(p_t ‖ p_s) in nats, from (B, C) logits; the teacher is detached.

    Computed in float32, or in float64 when an input is, whatever the autocast dtype. Raises InputError for T ≤ 0.
    """
    import torch

    check_number(temperature, name="temperature", above=0)
    z_s, z_t = wide(student_logits, teacher_logits)
    log_student, log_teacher = torch.log_softmax(z_s / temperature, dim=1), torch.log_softmax(z_t / temperature, dim=1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).sum(dim=1)


def standardize_logits(logits: Tensor) -> Tensor:
    """(B, C) → (B, C): (z − mean) / (1e-7 + unbiased standard deviation), per row."""
    import torch

    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # The derivative of a square root is infinite at 0; clamped, a row of equal logits has gradient 0 and not NaN.
    deviation = z.var(dim=1, keepdim=True).clamp(min=1e-30).sqrt()
    return (z - z.mean(dim=1, keepdim=True)) / (1e-7 + deviation)


@dataclass(frozen=True)
class KD:
    """`{kind: kd, weight: 1, temperature: 4}`: the student's softened probabilities follow the teacher's.

    standardize: standardise both models' logits per row first; then only the ranking and the relative gaps are taught. Not
    for two classes, whose standardised logits are ±0.71 whatever the models think: InputError.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["kd"] = "kd"
    weight: float = 1.0
    warmup: float = 0.0
    temperature: float = 4.0
    final_temperature: float | None = None
    standardize: bool = False

    def __post_init__(self) -> None:
        check_schedule(self)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        z_s, z_t = student.outputs, teacher.outputs
        need_classes(self.kind, z_s)
        if self.standardize:
            if z_s.shape[1] == 2:
                raise InputError("kd with standardize: true needs at least three classes; leave it out for two.")
            z_s, z_t = standardize_logits(z_s), standardize_logits(z_t)
        return Loss.pointwise(kd_loss(z_s, z_t, temperature=self.temperature), batch)
