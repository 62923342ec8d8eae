"""Reverse Kullback-Leibler divergence: the student's mass goes where the teacher has some.

Gu et al. 2024, "MiniLLM: Knowledge Distillation of Large Language Models", for one answer instead of a sequence, and with
the softened probabilities and the factor T² of Hinton et al. 2015, p = softmax(z / T):
    loss = T² Σ_c p_s,c (log p_s,c − log p_t,c)   per example.
It seeks modes: a student too small for all of the teacher's answer keeps the likeliest part. Over classes the sum is exact,
where MiniLLM samples and needs a policy gradient. The teacher's probabilities stay in log space, so that a class it rules out costs
the gap of the logits, not an infinity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.transfer.objectives.base import Loss, check_number, need_classes
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, Tap, View


def reverse_kl_loss(student_logits: Tensor, teacher_logits: Tensor, *, temperature: float) -> Tensor:
    """(B,) T² · KL(p_s ‖ p_t) in nats, from (B, C) logits; the teacher is detached.

    Computed in float32, or in float64 when an input is. Raises InputError for T ≤ 0.
    """
    import torch

    check_number(temperature, name="temperature", above=0)
    z_s, z_t = wide(student_logits, teacher_logits)
    log_s, log_t = torch.log_softmax(z_s / temperature, dim=1), torch.log_softmax(z_t / temperature, dim=1)
    return temperature**2 * (log_s.exp() * (log_s - log_t)).sum(dim=1)


@dataclass(frozen=True)
class ReverseKL:
    """`{kind: reverse_kl, temperature: 1}`: the student keeps to the teacher's likeliest classes instead of covering all."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["reverse_kl"] = "reverse_kl"
    weight: float = 1.0
    warmup: float = 0.0
    temperature: float = 1.0
    final_temperature: float | None = None

    def __post_init__(self) -> None:
        check_schedule(self)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        need_classes(self.kind, student.outputs)
        return Loss.pointwise(reverse_kl_loss(student.outputs, teacher.outputs, temperature=self.temperature), batch)
