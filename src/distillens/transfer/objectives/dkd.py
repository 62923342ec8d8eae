"""Decoupled knowledge distillation: the target class and the others, each with a weight of its own.

Zhao et al. 2022, "Decoupled Knowledge Distillation", section 3. With p = softmax(z / T), label y and p̂ the softmax over
the classes other than y:
    TCKD = KL of (p_t(y), 1 − p_t(y)) from (p_s(y), 1 − p_s(y)),   NCKD = KL(p̂_t ‖ p̂_s),
    loss = T² (α · TCKD + β · NCKD)   per example.
With α = 1 and β = 1 − p_t(y) it is `kd_loss` (their reformulation of it). Published code takes logarithms of softmaxes, which is
infinite or NaN for saturated logits, and hides the target by subtracting 1000; here everything stays in log space and the
target is removed. They use α = 1, β = 8 (less for teachers less sure of themselves), T = 4 and 20 epochs of warm-up.
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


def other_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, C) logits and (B,) class indices → (B, C − 1): the logits of the other classes, in their order."""
    import torch

    others = torch.arange(logits.shape[1] - 1, device=logits.device)[None, :]
    return logits.gather(1, others + (others >= labels[:, None]).long())


def dkd_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, *, alpha: float, beta: float, temperature: float
) -> Tensor:
    """(B,) T² (α · TCKD + β · NCKD) in nats, from (B, C) logits and (B,) class indices; the teacher is detached.

    Computed in float32, or in float64 when an input is. Raises InputError for T ≤ 0 and negative α or β.
    """
    import torch

    check_number(temperature, name="temperature", above=0)
    check_number(alpha, name="alpha", at_least=0)
    check_number(beta, name="beta", at_least=0)

    def parts(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = logits / temperature
        others, everything = other_logits(z, labels), z.logsumexp(dim=1)
        log_target = z.gather(1, labels[:, None])[:, 0] - everything
        return log_target, others.logsumexp(dim=1) - everything, torch.log_softmax(others, dim=1)

    z_s, z_t = wide(student_logits, teacher_logits)
    (target_s, rest_s, others_s), (target_t, rest_t, others_t) = parts(z_s), parts(z_t)
    tckd = target_t.exp() * (target_t - target_s) + rest_t.exp() * (rest_t - rest_s)
    nckd = (others_t.exp() * (others_t - others_s)).sum(dim=1)
    return temperature**2 * (alpha * tckd + beta * nckd)


@dataclass(frozen=True)
class DKD:
    """`{kind: dkd, alpha: 1, beta: 8, temperature: 4, warmup: 20}`: the target class and the other classes are taught apart.

    Only rows whose label is known are taught. For two classes there is one other class, and NCKD is 0.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["dkd"] = "dkd"
    weight: float = 1.0
    warmup: float = 0.0
    alpha: float = 1.0
    beta: float = 8.0
    temperature: float = 4.0
    final_temperature: float | None = None

    def __post_init__(self) -> None:
        check_schedule(self)
        check_number(self.alpha, name="alpha", at_least=0)
        check_number(self.beta, name="beta", at_least=0)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        need_classes(self.kind, student.outputs)
        per_example = dkd_loss(
            student.outputs, teacher.outputs, batch.classes(), alpha=self.alpha, beta=self.beta, temperature=self.temperature
        )  # fmt: skip
        return Loss.labelled(per_example, batch)
