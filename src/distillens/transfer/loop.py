"""The training loop: mini-batches, AdamW, early stop and choice of the epoch on validation rows.

    loss = task_weight · task loss + Σ_i weight_i · objective_i

Nothing global is changed: shuffles come from a generator of their own, dropout from a forked one, and torch's thread
count is as before afterwards. On a CPU the same seed gives the same weights.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from distillens.errors import DataError, NonFiniteLossError, TransferError
from distillens.models.threads import one_thread
from distillens.progress import task
from distillens.transfer.objectives.base import Batch, Shapes, View, term_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from distillens.transfer.objectives.base import Objective

Epoch = dict[str, float]  # {epoch, train, validation}


@dataclass(frozen=True, eq=False)
class Rows:
    """Encoded training rows.

    inputs: (n, D) float32. teacher: (n, K) logits or standardised values; None without a teacher. labels: (n,) class
    indices or standardised values as floats, NaN where unknown. weights: (n,) ≥ 0, not all 0.
    """

    inputs: Tensor
    teacher: Tensor | None
    labels: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. patience: epochs without a better validation loss before stopping; batch_size: rows a step."""

    epochs: int
    learning_rate: float
    decay: Literal["cosine", "constant"]
    batch_size: int
    weight_decay: float
    patience: int


def fit(
    module: nn.Module, rows: Rows, *, task_weight: float, objectives: Sequence[Objective], schedule: Schedule,
    validate: Callable[[nn.Module], float], seed: int, label: str = "network",
) -> tuple[Epoch, ...]:  # fmt: skip
    """Train `module` in place; it ends in eval mode with the weights of its best epoch. Returns the history.

    validate: the validation loss of the module in eval mode, called after every epoch without gradients.
    Raises NonFiniteLossError with the step and the term; TransferError when an objective cannot teach; DataError when
    a term has no rows.
    """
    import torch

    n = len(rows.inputs)
    weights = _mean_one(rows.weights, "weight")
    known = ~torch.isnan(rows.labels)
    label_weights = _mean_one(torch.where(known, rows.weights, 0.0), "label") if task_weight > 0 else torch.zeros(n)
    labels = torch.where(known, rows.labels, 0.0)  # a weight of 0 would not hide a NaN: 0 · NaN is NaN

    active = [objective for objective in objectives if objective.weight > 0]
    answers = 0 if rows.teacher is None else rows.teacher.shape[1]
    terms = [term_of(o, Shapes({}, {}, answers, answers, n), seed=seed) for o in active]
    if active and rows.teacher is None:
        raise DataError("Objectives need a teacher's answers, and these rows have none.")
    watch = _SilentObjectives(active)
    optimizer = _optimizer(module, schedule)
    shuffle = torch.Generator().manual_seed(seed)
    best, best_loss, waited = _weights_of(module), math.inf, 0
    history: list[Epoch] = []

    with one_thread(), _dropout_from(seed), task(f"training {label}", total=schedule.epochs, unit="epochs") as advance:
        step = 0
        for epoch in range(schedule.epochs):
            _set_rate(optimizer, schedule, epoch)
            module.train()
            train_loss = 0.0
            for batch in torch.split(torch.randperm(n, generator=shuffle), schedule.batch_size):
                outputs = module(rows.inputs[batch])
                loss = outputs.new_zeros(())
                if task_weight > 0:
                    per_row = task_loss(outputs, labels[batch])
                    task_term = (label_weights[batch] * per_row).mean()
                    _check_finite(task_term, "task loss", step)
                    loss = loss + task_weight * task_term
                if rows.teacher is not None and active:
                    student_view = View(outputs, rows.inputs[batch])
                    teacher_view = View(rows.teacher[batch], rows.inputs[batch])
                    about = Batch(weights[batch], rows.labels[batch])
                    for objective, ask in zip(active, terms, strict=True):
                        term = ask(student_view, teacher_view, about).value
                        _check_finite(term, f"objective {objective.kind!r}", step)
                        watch.see(objective, term, student_view, teacher_view)
                        loss = loss + objective.weight * term
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                train_loss += float(loss.detach()) * len(batch) / n
                step += 1
            watch.judge()

            module.eval()
            with torch.inference_mode():
                validation_loss = validate(module)
            if not math.isfinite(validation_loss):
                raise NonFiniteLossError(
                    f"The validation loss became {validation_loss} after epoch {epoch + 1}; lower the learning rate."
                )
            history.append({"epoch": epoch + 1, "train": train_loss, "validation": validation_loss})
            advance(1)
            if validation_loss < best_loss:
                best, best_loss, waited = _weights_of(module), validation_loss, 0
            else:
                waited += 1
                if waited >= schedule.patience:
                    break
    module.load_state_dict(best)
    module.eval()
    return tuple(history)


def task_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """(B,) cross-entropy in nats of (B, C) logits, or the squared error of (B, 1) standardised values; float32 or wider."""
    import torch

    wide = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    if outputs.shape[1] == 1:
        return (wide[:, 0] - labels).square()
    return torch.nn.functional.cross_entropy(wide, labels.long(), reduction="none")


def _mean_one(weights: Tensor, what: str) -> Tensor:
    """Weights scaled to mean 1 over all rows, so that a batch mean estimates the weighted mean over the rows that have one."""
    mean = float(weights.double().mean())
    if not mean > 0:
        raise DataError(
            f"No training row has a {what}: the loss would be empty. With task_weight: 0 no labels are needed."
        )
    return (weights / mean).float()


def _optimizer(module: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    import torch

    # Biases are not decayed: shrinking them towards 0 would prefer one class over another, not a smoother function.
    matrices = [p for p in module.parameters() if p.ndim > 1]
    biases = [p for p in module.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": schedule.weight_decay}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, fused=True)


def _set_rate(optimizer: torch.optim.Optimizer, schedule: Schedule, epoch: int) -> None:
    """Constant, or half a cosine from the learning rate down to (nearly) 0 over all epochs."""
    share = 0.5 * (1 + math.cos(math.pi * epoch / schedule.epochs)) if schedule.decay == "cosine" else 1.0
    for group in optimizer.param_groups:
        group["lr"] = schedule.learning_rate * share


def _weights_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def _check_finite(term: Tensor, name: str, step: int) -> None:
    value = float(term.detach())
    if not math.isfinite(value):
        raise NonFiniteLossError(
            f"The {name} became {value} at step {step}; lower the learning rate, or look for extreme values in the inputs."
        )


@contextlib.contextmanager
def _dropout_from(seed: int) -> Iterator[None]:
    """The global CPU generator, from which dropout draws, seeded inside the block and as it was afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


class _SilentObjectives:
    """Watches the first batches: an objective that is exactly 0 for a student unlike its teacher cannot teach."""

    batches = 5

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self.seen: dict[int, list[tuple[float, bool]]] = {id(o): [] for o in objectives}
        self.kinds = {id(o): o.kind for o in objectives}

    def see(self, objective: Objective, term: Tensor, student: View, teacher: View) -> None:
        seen = self.seen[id(objective)]
        if len(seen) < self.batches:
            differs = bool((student.outputs.detach() - teacher.outputs).abs().max() > 1e-6)
            seen.append((float(term.detach()), differs))

    def judge(self) -> None:
        for key, seen in self.seen.items():
            if seen and all(value == 0.0 and differs for value, differs in seen):
                raise TransferError(
                    f"The objective {self.kinds[key]!r} was exactly 0 on the first {len(seen)} batches although student and teacher "
                    "differ: it teaches nothing here."
                )
