"""Multi-level logit distillation: predictions, relations between rows, relations between classes, at several temperatures.

Jin et al. 2023, "Multi-level Logit Distillation". With p = softmax(z / T), (B, C), and T over a set:
    loss = Σ_T [mean over rows of T² KL(p_t ‖ p_s) + ‖p_t p_tᵀ − p_s p_sᵀ‖² / B + ‖p_tᵀ p_t − p_sᵀ p_s‖² / C],
squared Frobenius norms. B and C divide as in the paper; the class level therefore grows with the batch. The reference code
multiplies these already reduced numbers by masks of the rows and classes the teacher is unsure of, and so only scales them by
the masks' means: no masks here. It also has a second, strongly augmented view of every row: that is a matter of the data.

Row weights count in the predictions only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from distillens.errors import InputError
from distillens.transfer.objectives.base import Loss, check_number, need_classes
from distillens.transfer.objectives.kd import kd_loss
from distillens.transfer.objectives.precision import full_precision, wide
from distillens.transfer.objectives.schedule import check_schedule

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Batch, Tap, View


def mlkd_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, temperatures: tuple[float, ...], weights: Tensor | None = None,
    batch_level: float = 1.0, class_level: float = 1.0,
) -> Tensor:  # fmt: skip
    """Scalar sum over temperatures of the prediction, batch and class levels of (B, C) logits; the teacher is detached.

    weights: (B,) of the rows, for the predictions. batch_level, class_level: factors of the other two. Computed in float32, or
    in float64 when an input is. Raises InputError for T ≤ 0, and without temperatures.
    """
    import torch

    _check_temperatures(temperatures)
    z_s, z_t = wide(student_logits, teacher_logits)
    b, c = z_s.shape
    loss = z_s.new_zeros(())
    with full_precision(z_s):
        for temperature in temperatures:
            p_s, p_t = torch.softmax(z_s / temperature, dim=1), torch.softmax(z_t / temperature, dim=1)
            each = kd_loss(z_s, z_t, temperature=temperature)
            predictions = (each if weights is None else weights.to(each.dtype) * each).mean()
            between_rows = (p_t @ p_t.T - p_s @ p_s.T).square().sum() / b
            between_classes = (p_t.T @ p_t - p_s.T @ p_s).square().sum() / c
            loss = loss + predictions + batch_level * between_rows + class_level * between_classes
    return loss


def _check_temperatures(temperatures: tuple[float, ...]) -> None:
    given: object = temperatures
    if not (isinstance(given, (tuple, list)) and given):
        raise InputError(f"temperatures is a list of numbers above 0 such as [2, 3, 4], got {temperatures!r}.")
    for temperature in temperatures:
        check_number(temperature, name="every one of temperatures", above=0)


@dataclass(frozen=True)
class MLKD:
    """`{kind: mlkd, temperatures: [2, 3, 4, 5, 6], batch_level: 1, class_level: 1}`: kd at several temperatures, with relations of rows and classes."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
    student_taps: ClassVar[tuple[Tap, ...]] = ()
    teacher_taps: ClassVar[tuple[Tap, ...]] = ()
    needs_gradient: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("binary", "multiclass")
    zero_when_equal: ClassVar[bool] = True

    kind: Literal["mlkd"] = "mlkd"
    weight: float = 1.0
    warmup: float = 0.0
    temperatures: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0)
    batch_level: float = 1.0
    class_level: float = 1.0

    def __post_init__(self) -> None:
        check_schedule(self)
        _check_temperatures(self.temperatures)
        object.__setattr__(self, "temperatures", tuple(self.temperatures))
        check_number(self.batch_level, name="batch_level", at_least=0)
        check_number(self.class_level, name="class_level", at_least=0)

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        need_classes(self.kind, student.outputs)
        return Loss(mlkd_loss(
            student.outputs, teacher.outputs, temperatures=self.temperatures, weights=batch.weights,
            batch_level=self.batch_level, class_level=self.class_level,
        ))  # fmt: skip
