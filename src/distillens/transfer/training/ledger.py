"""What a training watches: that every term of the loss is finite, and that every objective teaches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distillens.errors import NonFiniteLossError, TransferError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from distillens.transfer.objectives.base import Objective
    from distillens.transfer.training.checkpoint import Position
    from distillens.transfer.training.transfer import Step

FLUSH = 20  # steps after which terms are looked at on a GPU, where looking stops the queue


class Ledger:
    """The terms of the loss: looked at as soon as that costs nothing, summed over the epoch, never silently infinite."""

    def __init__(self, names: Sequence[str], accelerator: Accelerator) -> None:
        self.names, self.accelerator = tuple(names), accelerator
        self.on_cpu = accelerator.device.type == "cpu"
        self.alone = self.on_cpu and accelerator.num_processes == 1
        self.waiting: dict[int, Tensor] = {}  # by step, so that all processes hold equally many

    def add(self, at: Position, step: Step, *, rows: float) -> None:
        """Terms of a part that has `rows` (a share) of the epoch's rows."""
        if self.alone:
            self._count(
                at,
                at.step,
                [rows * float(term) for term in (step.loss.detach(), *map(step.terms.__getitem__, self.names[1:]))],
            )
            return
        terms = rows * torch.stack([step.loss.detach(), *(step.terms[name].float() for name in self.names[1:])])
        self.waiting[at.step] = self.waiting[at.step] + terms if at.step in self.waiting else terms

    def step_done(self, at: Position) -> None:
        if self.on_cpu or len(self.waiting) >= FLUSH:
            self.flush(at)

    def flush(self, at: Position) -> None:
        """Add what waits to the epoch's sums. NonFiniteLossError names the first step and term that is not finite."""
        if not self.waiting:
            return
        values = torch.stack(list(self.waiting.values()))
        if self.accelerator.num_processes > 1:  # where one process fails, all do
            values = self.accelerator.reduce(values, "sum")
        steps, self.waiting = list(self.waiting), {}
        for step, row in zip(steps, values.tolist(), strict=True):
            self._count(at, step, row)

    def _count(self, at: Position, step: int, row: Sequence[float]) -> None:
        """Add the loss and its terms to the epoch's sums, the terms first: they say where it went wrong."""
        for name, value in (*zip(self.names[1:], row[1:], strict=True), (self.names[0], row[0])):
            if not math.isfinite(value):
                term = {"task": "task loss", "loss": "loss"}.get(name, f"objective {name!r}")
                raise NonFiniteLossError(
                    f"The {term} became {value} at step {step}; lower the learning rate, or look for extreme values in the inputs."
                )
            at.sums[name] = at.sums.get(name, 0.0) + value


class SilentObjectives:
    """Watches the first batches: an objective that is exactly 0 for a student unlike its teacher cannot teach."""

    batches = 5

    def __init__(self, objectives: Mapping[str, Objective]) -> None:
        self.seen: dict[str, list[tuple[float, bool]]] = {name: [] for name in objectives}

    def see(self, step: Step) -> None:
        if step.teacher_outputs is None or all(len(seen) >= self.batches for seen in self.seen.values()):
            return
        ours, theirs = step.outputs, step.teacher_outputs
        differs = ours.shape != theirs.shape or bool((ours - theirs).abs().max() > 1e-6)
        for name, seen in self.seen.items():
            seen.append((float(step.terms[name]), differs))

    def judge(self) -> None:
        for name, seen in self.seen.items():
            if seen and all(value == 0.0 and differs for value, differs in seen):
                raise TransferError(
                    f"The objective {name!r} was exactly 0 on the first {len(seen)} batches although student and teacher "
                    "differ: it teaches nothing here."
                )
