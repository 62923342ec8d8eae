"""Layers that objectives look at: the options that name them, and the pairs of activations found in two views."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from distillens.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from distillens.transfer.objectives.base import Objective, View


def check_taps(objective: Objective) -> None:
    """Options student_taps and teacher_taps: "auto", or as many names of one as of the other, at least one.

    Lists become tuples. Raises InputError.
    """
    for name in ("student_taps", "teacher_taps"):
        taps: Any = getattr(objective, name)
        if isinstance(taps, list):
            taps = tuple(taps)
            object.__setattr__(objective, name, taps)
        if taps != "auto" and not (isinstance(taps, tuple) and taps and all(isinstance(t, str) for t in taps)):
            raise InputError(f'{name} is "auto" or a list of layers such as ["features"], got {taps!r}.')
    student, teacher = objective.student_taps, objective.teacher_taps
    if (student == "auto") != (teacher == "auto"):
        raise InputError('student_taps and teacher_taps are both "auto", or both lists of layers.')
    if len(student) != len(teacher):
        raise InputError(
            f"student_taps and teacher_taps pair layers one by one: {len(student)} and {len(teacher)} were given."
        )


def layer_pairs(objective: Objective, student: View, teacher: View) -> list[tuple[Tensor, Tensor]]:
    """The (student, teacher) activations of an objective, pair by pair. InputError for a layer that is not there."""
    if objective.student_taps == "auto" or objective.teacher_taps == "auto":
        raise InputError(f'The objective {objective.kind!r} still has taps "auto": layers are paired before training.')
    return [
        (_layer(objective, student.layers, s, "student"), _layer(objective, teacher.layers, t, "teacher"))
        for s, t in zip(objective.student_taps, objective.teacher_taps, strict=True)
    ]


def summed_over_pairs(
    loss: Callable[[Tensor, Tensor], Tensor], objective: Objective, student: View, teacher: View
) -> Tensor:
    """The scalar losses of all pairs of layers, added up."""
    first, *rest = [loss(s, t) for s, t in layer_pairs(objective, student, teacher)]
    for value in rest:
        first = first + value
    return first


def _layer(objective: Objective, layers: Mapping[str, Tensor], tap: str, whose: str) -> Tensor:
    if tap not in layers:
        raise InputError(
            f"The objective {objective.kind!r} looks at the layer {tap!r} of the {whose}, which was not captured."
            f"{did_you_mean(tap, layers)}"
        )
    return layers[tap]
