"""The part of an objective that learns: a module of its own for every pair of layers.

Imports torch, so objectives import it inside `term`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from distillens.errors import InputError, did_you_mean
from distillens.transfer.objectives.base import Batch, Loss, Objective, Shapes, View
from distillens.transfer.objectives.precision import full_precision
from distillens.transfer.objectives.taps import layer_pairs

Shape = tuple[int, ...]
PairLoss = Callable[[nn.Module, Tensor, Tensor, Batch], Tensor]  # (head, student layer, teacher layer, batch) → (B,)


class PairedTerm(nn.Module):
    """The sum over pairs of layers of a pointwise loss. heads: one module a pair; loss: what it does with the pair."""

    def __init__(self, objective: Objective, heads: Iterable[nn.Module], loss: PairLoss) -> None:
        super().__init__()
        self.objective = objective
        self.heads = nn.ModuleList(heads)
        self.loss = loss

    def forward(self, student: View, teacher: View, batch: Batch) -> Loss:
        pairs = layer_pairs(self.objective, student, teacher)
        with full_precision(student.outputs):
            terms = [self.loss(head, s, t, batch) for head, (s, t) in zip(self.heads, pairs, strict=True)]
        return Loss.pointwise(torch.stack(terms).sum(dim=0), batch)


def shape_pairs(objective: Objective, shapes: Shapes) -> list[tuple[Shape, Shape]]:
    """The (student, teacher) shapes of an objective's layers, pair by pair. InputError for a layer the dry run did not see."""
    if objective.student_taps == "auto" or objective.teacher_taps == "auto":
        raise InputError(f'The objective {objective.kind!r} still has taps "auto": layers are paired before training.')
    for tap, found, whose in (
        *((tap, shapes.student, "student") for tap in objective.student_taps),
        *((tap, shapes.teacher, "teacher") for tap in objective.teacher_taps),
    ):
        if tap not in found:
            raise InputError(
                f"The objective {objective.kind!r} looks at the layer {tap!r} of the {whose}, which the dry run did not see."
                f"{did_you_mean(tap, found)}"
            )
    return [
        (shapes.student[s], shapes.teacher[t])
        for s, t in zip(objective.student_taps, objective.teacher_taps, strict=True)
    ]
