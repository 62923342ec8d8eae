"""Normalised knowledge distillation: the target weighted by the teacher, the other classes renormalised.

Yang et al. 2023, "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss and
Customized Soft Labels". With p = softmax(z) at T = 1 and p̂ the softmax of z / T over the classes other than y:
    loss = −p_t(y) log p_s(y) − γ T² Σ_{c ≠ y} p̂_t(c) log p̂_s(c)   per example.
Their code, and this, removes the target from the softmax instead of hiding it behind a large negative number, and multiplies the
second term by T²; γ = 1.5 and T = 1 are its defaults. The cross-entropy on labels is not part of it: that is
the task loss. It is a cross-entropy, so a student equal to its teacher does not score 0: over the other classes it scores γ T²
times the teacher's entropy there, the smallest value; the first term falls until p_s(y) = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.transfer.objectives.base import Loss, check_number, need_classes
from distillens.transfer.objectives.dkd import other_logits
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, Tap, View


def nkd_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, gamma: float, temperature: float
) -> Tensor:
    """(B,) −p_t(y) log p_s(y) + γ T² CE(p̂_t, p̂_s) in nats, from (B, C) logits and (B,) class indices; the teacher is detached.

    Computed in float32, or in float64 when an input is. Raises InputError for T ≤ 0 and negative γ.
    """
    import torch

    check_number(temperature, name="temperature", above=0)
    check_number(gamma, name="gamma", at_least=0)
    z_s, z_t = wide(student_logits, teacher_logits)
    log_s, log_t = (torch.log_softmax(z, dim=1).gather(1, labels[:, None])[:, 0] for z in (z_s, z_t))
    others_s, others_t = (torch.log_softmax(other_logits(z, labels) / temperature, dim=1) for z in (z_s, z_t))
    return -log_t.exp() * log_s - gamma * temperature**2 * (others_t.exp() * others_s).sum(dim=1)


@dataclass(frozen=True)
class NKD:
    """`{kind: nkd, gamma: 1.5, temperature: 1}`: the label weighted by the teacher's belief in it, and the other classes renormalised.

    Only rows whose label is known are taught. For two classes the second term is 0.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    zero_when_equal: ClassVar[bool] = False

    kind: Literal["nkd"] = "nkd"
    weight: float = 1.0
    warmup: float = 0.0
    gamma: float = 1.5
    temperature: float = 1.0
    final_temperature: float | None = None

    def __post_init__(self) -> None:
        check_schedule(self)
        check_number(self.gamma, name="gamma", at_least=0)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        need_classes(self.kind, student.outputs)
        per_example = nkd_loss(
            student.outputs, teacher.outputs, batch.classes(), gamma=self.gamma, temperature=self.temperature
        )
        return Loss.labelled(per_example, batch)
