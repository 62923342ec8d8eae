"""Generalised Jensen-Shannon divergence between teacher and student.

Agarwal et al. 2024, "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes" (GKD). With
p = softmax(z / T) and the mixture m = β p_t + (1 − β) p_s:
    loss = T² [β KL(p_t ‖ m) + (1 − β) KL(p_s ‖ m)]   per example, 0 < β < 1.
JSD_β / β tends to KL(p_t ‖ p_s) for β → 0, and JSD_β / (1 − β) to KL(p_s ‖ p_t) for β → 1; β = 0 and β = 1 mean these limits, so the
size of the loss jumps there. A well-known library had the two ends swapped for a year; libraries for language models leave T²
out. β = ½ is the symmetric divergence, at most T² log 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, check_number, need_classes
from distillens.transfer.objectives.precision import wide
from distillens.transfer.objectives.schedule import check_schedule

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, Tap, View


def jsd_loss(student_logits: Tensor, teacher_logits: Tensor, *, beta: float, temperature: float) -> Tensor:
    """(B,) T² · JSD_β in nats, from (B, C) logits; β = 0 is KL(p_t ‖ p_s), β = 1 is KL(p_s ‖ p_t). The teacher is detached.

    Computed in float32, or in float64 when an input is. Raises InputError for T ≤ 0 and β outside [0, 1].
    """
    import torch

    check_number(temperature, name="temperature", above=0)
    _check_beta(beta)
    z_s, z_t = wide(student_logits, teacher_logits)
    log_s, log_t = torch.log_softmax(z_s / temperature, dim=1), torch.log_softmax(z_t / temperature, dim=1)
    if beta == 0:
        return temperature**2 * _kl(log_t, log_s)
    if beta == 1:
        return temperature**2 * _kl(log_s, log_t)
    log_m = torch.logaddexp(log_t + math.log(beta), log_s + math.log1p(-beta))
    return temperature**2 * (beta * _kl(log_t, log_m) + (1 - beta) * _kl(log_s, log_m))


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def _check_beta(beta: float) -> None:
    if check_number(beta, name="beta", at_least=0) > 1:
        raise InputError(f"beta is a number between 0 (teacher first) and 1 (student first), got {beta!r}.")


@dataclass(frozen=True)
class JSD:
    """`{kind: jsd, beta: 0.5, temperature: 1}`: teacher and student are drawn towards their mixture; bounded, forgiving of outliers."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["jsd"] = "jsd"
    weight: float = 1.0
    warmup: float = 0.0
    beta: float = 0.5
    temperature: float = 1.0
    final_temperature: float | None = None

    def __post_init__(self) -> None:
        check_schedule(self)
        _check_beta(self.beta)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        need_classes(self.kind, student.outputs)
        return Loss.pointwise(
            jsd_loss(student.outputs, teacher.outputs, beta=self.beta, temperature=self.temperature), batch
        )
