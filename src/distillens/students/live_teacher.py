"""Which objectives need more of a teacher than its answers, and which teachers can give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distillens.errors import InputError, ModelError
from distillens.models.base import TorchModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distillens.models.base import Model
    from distillens.transfer.objectives.base import Objective
    from distillens.transfer.targets import Targets


def looking_inside(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Those of positive weight that look at layers or input gradients, or ask about other inputs than the training rows."""
    return tuple(
        o
        for o in objectives
        if o.weight > 0 and (o.student_taps or o.teacher_taps or o.needs_gradient or getattr(o, "asks", False))
    )


def compares_inputs(objectives: Sequence[Objective]) -> bool:
    """Whether one of them speaks of inputs, as gradients by them do: both models must then take the same ones."""
    return any(o.needs_gradient or getattr(o, "asks", False) for o in looking_inside(objectives))


def live_teacher(objectives: Sequence[Objective], targets: Targets, teacher: Model | None) -> Any:
    """The teacher as a network that is asked in every step; None where the targets say all that the objectives need.

    Raises InputError for a teacher that is no network, and for answers made out of fold: the layers would be of a teacher that has seen
    the rows, and the answers of others that have not. ModelError when its classes are not those of the targets.
    """
    inside = looking_inside(objectives)
    if not inside:
        return None
    kind = inside[0].kind
    if teacher is None or not isinstance(teacher, TorchModel):
        raise InputError(
            f"The objective {kind!r} looks inside its teacher, which has to be a network of ours; "
            f"{'no teacher' if teacher is None else repr(teacher.label)} can only be asked: use kd or mse with query rows."
        )
    if targets.origin == "out_of_fold":
        raise InputError(
            f"The objective {kind!r} looks inside its teacher, and out-of-fold answers come from other models than it; "
            "write targets: {origin: in_sample}, or teach with kd or mse alone."
        )
    if tuple(teacher.classes) != targets.classes:
        raise ModelError(
            f"The teacher's classes {list(teacher.classes)} are not the student's {list(targets.classes)}."
        )
    return teacher
