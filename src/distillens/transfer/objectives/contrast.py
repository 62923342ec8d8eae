"""The learned part of CRD: two linear embeddings, and a memory of one embedding of each model for every training row.

Imports torch, so objectives import it inside `term`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from distillens.errors import InputError
from distillens.transfer.objectives.base import Batch, Loss, View, need_classes
from distillens.transfer.objectives.geometry import flat, unit
from distillens.transfer.objectives.precision import full_precision, wide
from distillens.transfer.objectives.taps import layer_pairs

if TYPE_CHECKING:
    from distillens.transfer.objectives.crd import CRD

UNKNOWN = -1
# Up to this many rows for each negative, products with all memories cost less than copies of the memories of every pair.
ALL_PRODUCTS = 32


class Contrast(nn.Module):
    """Called as (student, teacher, batch) → Loss. All of its state is in its buffers, the generator's included."""

    memory_student: Tensor  # (n, dim), rows of length 1
    memory_teacher: Tensor
    classes: Tensor  # (n,) of the rows met so far
    log_z: Tensor  # (2,) of the student's and of the teacher's anchors; NaN until the first batch
    draws: Tensor  # the state of the generator of negatives

    def __init__(self, objective: CRD, student: int, teacher: int, rows: int, *, seed: int) -> None:
        super().__init__()
        self.objective = objective
        self.embed_student = nn.Linear(student, objective.dim)
        self.embed_teacher = nn.Linear(teacher, objective.dim)
        for name in ("memory_student", "memory_teacher"):
            self.register_buffer(name, unit(torch.randn(rows, objective.dim)))
        self.register_buffer("classes", torch.full((rows,), UNKNOWN))
        self.register_buffer("log_z", torch.full((2,), math.nan))
        self.register_buffer("draws", Generator().manual_seed(seed).get_state())

    def forward(self, student: View, teacher: View, batch: Batch) -> Loss:
        by_class = self.objective.negatives_from == "classes"
        if by_class:
            need_classes(self.objective.kind, student.outputs)
        parallel = torch.distributed
        if parallel.is_available() and parallel.is_initialized() and parallel.get_world_size() > 1:
            raise InputError("crd keeps its memories in one process; train in one, or leave crd out.")
        if batch.rows is None:
            raise InputError(
                "crd has a memory for every training row and must be told which rows these are: Batch.rows."
            )
        rows = batch.rows
        ((s, t),) = layer_pairs(self.objective, student, teacher)
        with full_precision(s):
            s, t = (flat(x).to(self.embed_student.weight.dtype) for x in wide(s, t))
            v_s, v_t = unit(self.embed_student(s)), unit(self.embed_teacher(t))
            if by_class:
                known = ~batch.labels.isnan()
                self.classes[rows[known]] = batch.labels[known].long()
            negatives = self.negatives(rows, batch.draw)
            per_example = torch.zeros_like(v_s[:, 0])
            for side, (anchor, memory) in enumerate(((v_s, self.memory_teacher), (v_t, self.memory_student))):
                per_example = per_example + self._one_side(anchor, memory, rows, negatives, side)
            if self.training:
                self._remember(self.memory_student, rows, v_s)
                self._remember(self.memory_teacher, rows, v_t)
        return Loss.labelled(per_example, batch) if by_class else Loss.pointwise(per_example, batch)

    def _one_side(self, anchor: Tensor, memory: Tensor, rows: Tensor, negatives: Tensor, side: int) -> Tensor:
        from distillens.transfer.objectives.crd import crd_loss

        n, index = len(memory), torch.cat([rows[:, None], negatives], dim=1)
        if n <= ALL_PRODUCTS * index.shape[1]:
            # A copy: what is remembered after this step must not change what is differentiated now.
            scores = (anchor @ memory.clone().T).gather(1, index)
        else:
            scores = (memory[index] @ anchor[:, :, None])[:, :, 0]
        scores = scores / self.objective.temperature
        if self.log_z[side].isnan():
            mean = scores.detach().flatten().logsumexp(dim=0) - math.log(scores.numel())
            self.log_z[side] = mean + math.log(n)
        log_h = scores - self.log_z[side]
        return crd_loss(log_h[:, 0], log_h[:, 1:], rows=n)

    def _remember(self, memory: Tensor, rows: Tensor, embedded: Tensor) -> None:
        keep = self.objective.momentum
        with torch.no_grad():
            memory[rows] = unit(keep * memory[rows] + (1 - keep) * embedded)

    def negatives(self, rows: Tensor, draw: Generator | None = None) -> Tensor:
        """(B, K) rows, uniformly and with replacement from those of other classes, or from all but the row itself.

        draw: where the numbers come from; None: the generator kept in the state. Raises InputError when there are no others.
        """
        n = len(self.classes)
        k = min(self.objective.negatives, n - 1)
        own = None
        if draw is None:
            draw = own = Generator()
            own.set_state(self.draws.cpu())
        share = torch.rand(len(rows), k, generator=draw, dtype=torch.float64, device=draw.device).to(rows.device)
        if own is not None:
            self.draws.copy_(own.get_state())
        if self.objective.negatives_from == "rows":
            order, start, size = torch.arange(n, device=rows.device), rows, torch.ones_like(rows)
        else:
            order = self.classes.argsort(stable=True)
            ordered, classes = self.classes[order], self.classes[rows]
            start = torch.searchsorted(ordered, classes)
            size = torch.searchsorted(ordered, classes, right=True) - start
            size = size.where(classes != UNKNOWN, 0)  # a row of no known class is not taught
        others = n - size[:, None]
        if not bool((others > 0).all()):
            raise InputError(
                "crd draws negatives from other classes and all training rows have one; use negatives_from: rows."
            )
        # Positions in the order of classes, with the row's own class cut out.
        position = (share * others).long().clamp(max=n - 1)
        return order[position + size[:, None] * (position >= start[:, None]).long()]
