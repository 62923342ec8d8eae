"""`Transfer`: the loss of a student beside its teacher, for people with a loop of their own, and for ours.

    transfer = Transfer(teacher, student, [KD(weight=0.5)], task_weight=0.5)
    optimizer = torch.optim.AdamW(transfer.trainable_parameters())
    for x, y in batches:
        loss = transfer(x, y)
        optimizer.zero_grad(); loss.backward(); optimizer.step()

    loss = task_weight · task loss + Σ_i weight_i · objective_i

The teacher runs in eval mode and without gradients of its weights, is no part of the module (not in `state_dict`, not wrapped by
DistributedDataParallel) and is afterwards in the mode it was in.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distillens.errors import DataError, InputError, ModelError
from distillens.models.capture import Tapped, paths_of
from distillens.models.torch_module import evaluating
from distillens.transfer.layers.matching import Matching, pair_auto
from distillens.transfer.objectives.base import (
    Batch,
    LearnedObjective,
    Objective,
    Shapes,
    Tap,
    View,
    as_objective,
    term_of,
)
from distillens.transfer.objectives.schedule import Progress, objective_at
from distillens.transfer.training.draws import generators_restored

if TYPE_CHECKING:
    from torch import Generator

TASK = "task"
_UNKNOWN = -100  # cross-entropy gives 0 for it, and no gradient


@dataclass(frozen=True, eq=False)
class Step:
    """loss: scalar, differentiable. terms: what it is made of, unweighted and detached, by name. outputs, teacher_outputs: (B, K)."""

    loss: Tensor
    terms: dict[str, Tensor]
    outputs: Tensor
    teacher_outputs: Tensor | None


class Transfer(nn.Module):
    """The loss of a student beside a frozen teacher; what it learns besides the student are its projectors and memories.

    teacher: a module that takes (B, …) inputs and gives (B, K) logits; None where every call brings the teacher's answers.
    objectives: objects or entries such as `{kind: kd, weight: 0.5}`; those of weight 0 are left out.
    example: a batch of inputs, needed when an objective looks at layers: one dry run finds their shapes. Where taps are "auto", layers
    are paired on it (matching.py; at least 4 rows, better 2,000), and `matching` says how. teacher_example: the same rows as
    the teacher takes them, where that differs. teacher_answers: what the teacher said about them, where there is no teacher, for
    the shapes of stored layers. rows: training rows n, for objectives with a memory. compile: run the student through torch.compile.

    Raises InputError for unknown taps and missing examples, and what the objectives raise.
    """

    def __init__(
        self,
        teacher: nn.Module | None,
        student: nn.Module,
        objectives: Sequence[Objective | Mapping[str, Any]],
        *,
        task_weight: float = 1.0,
        example: Tensor | None = None,
        teacher_example: Tensor | None = None,
        teacher_answers: View | None = None,
        rows: int = 0,
        seed: int = 0,
        compile: bool = False,
    ) -> None:
        super().__init__()
        known = [objective for objective in map(as_objective, objectives) if objective.weight > 0]
        known, self.matching = _paired(known, student, teacher, example, teacher_example)
        self.objectives: dict[str, Objective] = _named(known)
        if not task_weight > 0 and not self.objectives:
            raise InputError("A transfer with task_weight 0 and no objective of positive weight has nothing to teach.")
        self.task_weight = float(task_weight)
        differentiated = [name for name, objective in self.objectives.items() if objective.needs_gradient]
        self.gradients = bool(differentiated)
        if compile and differentiated:
            raise InputError(
                f"The objective {differentiated[0]!r} needs second derivatives, which torch.compile does not have; leave compile out."
            )
        student_taps, teacher_taps = _taps(self.objectives.values())
        if teacher is None and teacher_taps:
            _require_stored(teacher_taps, teacher_answers)
        if (student_taps or teacher_taps) and example is None:
            raise InputError(
                "Objectives that look at layers need `example`, a batch of inputs, to find the layers' shapes."
            )
        self.student = student
        # Held in tuples, which modules do not look into: the teacher is nobody's parameter, and the student is listed once.
        self._student_pass: tuple[Any] = (Tapped(student, student_taps),)
        self._teacher = (teacher,)
        self._teacher_pass = (None if teacher is None else Tapped(teacher, teacher_taps),)
        self._classifiers = (_last_linear(student), None if teacher is None else _last_linear(teacher))
        with generators_restored():  # a network may draw in eval mode, too
            self.shapes = self._dry_run(_few(example), _few(teacher_example), teacher_answers, rows)
        if compile:
            self._student_pass = (torch.compile(self._student_pass[0]),)
        built = {name: term_of(objective, self.shapes, seed=seed) for name, objective in self.objectives.items()}
        self.terms = nn.ModuleDict({name: term for name, term in built.items() if isinstance(term, nn.Module)})
        # Asked once: finding out what an object can do takes longer than a step of a small network.
        self._others = {
            name: term for name, term in built.items() if isinstance(self.objectives[name], LearnedObjective)
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The terms of the loss: "task" where it counts, then every objective."""
        return ((TASK,) if self.task_weight > 0 else ()) + tuple(self.objectives)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What an optimizer is to be given: the student's parameters and those of projectors, never the teacher's."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def forward(
        self,
        inputs: Tensor,
        labels: Tensor | None = None,
        *,
        teacher_inputs: Tensor | None = None,
        teacher: View | None = None,
        weights: Tensor | None = None,
        rows: Tensor | None = None,
        label_scale: float = 1.0,
        draw: Generator | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """The scalar loss of a batch; the arguments are those of `step`."""
        return self.step(
            inputs, labels, teacher_inputs=teacher_inputs, teacher=teacher, weights=weights, rows=rows,
            label_scale=label_scale, draw=draw, progress=progress,
        ).loss  # fmt: skip

    def step(
        self,
        inputs: Tensor,
        labels: Tensor | None = None,
        *,
        teacher_inputs: Tensor | None = None,
        teacher: View | None = None,
        weights: Tensor | None = None,
        rows: Tensor | None = None,
        label_scale: float = 1.0,
        draw: Generator | None = None,
        progress: Progress | None = None,
    ) -> Step:
        """The loss of a batch of B rows and what it is made of.

        inputs: (B, …) what the student takes. labels: (B,) class indices, negative where unknown, or values; NaN where unknown.
        teacher_inputs: what the teacher takes (None: the same). teacher: its answers, where they are known already.
        weights: (B,) row weights of mean 1 over all rows. rows: (B,) positions among the training rows, for memories.
        draw: what objectives draw from. progress: how far training is, for weights and temperatures on a schedule (None: at its end).
        """
        if self.gradients and not inputs.requires_grad:
            inputs = inputs.detach().requires_grad_()
        # The teacher first: what it needed on the way is free again before the student, whose activations stay until the backward
        # pass, takes memory. The other way round a step on a CPU takes up to a tenth longer.
        taught = teacher
        if self.objectives and taught is None:
            taught = self._answers(inputs if teacher_inputs is None else teacher_inputs)
        outputs, layers = self._student_pass[0](inputs)
        known = _labels(labels, outputs)
        batch = Batch(
            outputs.new_ones(len(outputs), dtype=torch.float32) if weights is None else weights,
            known,
            label_scale,
            rows,
            draw,
        )
        terms: dict[str, Tensor] = {}
        parts: list[Tensor] = []
        if self.task_weight > 0:
            terms[TASK] = labelled_task_loss(outputs, batch)
            parts.append(self.task_weight * terms[TASK])
        if taught is None or not self.objectives:
            return Step(parts[0], _detached(terms), outputs.detach(), None)
        seen = View(outputs, inputs, layers, ask=self._ask_student, classifier=_weights(self._classifiers[0], outputs))
        for name, objective in self.objectives.items():
            now = objective_at(objective, progress)
            term: Any = self.terms[name] if name in self.terms else self._others.get(name, now)
            terms[name] = term(seen, taught, batch).value
            parts.append(now.weight * terms[name])
        return Step(functools.reduce(torch.add, parts), _detached(terms), outputs.detach(), taught.outputs.detach())

    def _answers(self, inputs: Tensor) -> View:
        """What the live teacher says; with gradients by its inputs where an objective asks for them."""
        module, run = self._teacher[0], self._teacher_pass[0]
        if module is None or run is None:
            raise DataError("Objectives need a teacher's answers, and these rows have none.")
        _same_device(module, inputs)
        if self.gradients:
            inputs = inputs.detach().requires_grad_()
        with evaluating(module), torch.set_grad_enabled(self.gradients):
            outputs, layers = run(inputs)
        return View(
            outputs, inputs.detach() if not self.gradients else inputs, layers, ask=self._ask,
            classifier=_weights(self._classifiers[1], outputs),
        )  # fmt: skip

    def _ask(self, inputs: Tensor) -> Tensor:
        """The teacher's (B', K) outputs of other inputs; differentiable by them where they ask for it."""
        module = self._teacher[0]
        assert module is not None
        with evaluating(module), torch.set_grad_enabled(inputs.requires_grad):
            answered: Tensor = module(inputs)
        return answered

    def _ask_student(self, inputs: Tensor) -> Tensor:
        """The student's (B', K) outputs of other inputs, in the mode it is in; its running statistics stay those of the rows."""
        with _statistics_kept(self.student):
            answered: Tensor = self.student(inputs)
        return answered

    def _dry_run(
        self, example: Tensor | None, teacher_example: Tensor | None, stored: View | None, rows: int
    ) -> Shapes:
        """One forward pass of each model in eval mode, for the shapes."""
        if example is None:
            return Shapes({}, {}, 0, 0, rows)
        module, run = self._teacher[0], self._teacher_pass[0]
        with torch.no_grad(), evaluating(self.student):
            outputs, layers = self._student_pass[0](example)
        if module is None or run is None:
            known = {} if stored is None else _shapes(stored.layers)
            return Shapes(
                _shapes(layers), known, outputs.shape[1], (outputs if stored is None else stored.outputs).shape[1], rows
            )
        shown = example if teacher_example is None else teacher_example
        _same_device(module, shown)
        with torch.no_grad(), evaluating(module):
            answers, teacher_layers = run(shown)
        return Shapes(_shapes(layers), _shapes(teacher_layers), outputs.shape[1], answers.shape[1], rows)


def task_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """(B,) cross-entropy in nats of (B, C) logits, or the squared error of (B, 1) standardised values; float32 or wider."""
    wide = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    if outputs.shape[1] == 1:
        return (wide[:, 0] - labels).square()
    return torch.nn.functional.cross_entropy(wide, labels.long(), reduction="none")


def labelled_task_loss(outputs: Tensor, batch: Batch) -> Tensor:
    """The weighted mean of the task loss over the rows whose label is known, as `Loss.labelled` has it."""
    if outputs.shape[1] > 1:
        wide = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        labels = batch.labels.nan_to_num(_UNKNOWN).long()
        per_row = torch.nn.functional.cross_entropy(wide, labels, reduction="none", ignore_index=_UNKNOWN)
    else:
        known = ~batch.labels.isnan()
        # 0 in place of an unknown label: a weight of 0 would not hide a NaN, since 0 · NaN is NaN.
        per_row = task_loss(outputs, batch.labels.where(known, 0.0)) * known
    weights = batch.weights.to(per_row.dtype)
    return ((weights if batch.label_scale == 1.0 else batch.label_scale * weights) * per_row).mean()


def _labels(labels: Tensor | None, outputs: Tensor) -> Tensor:
    if labels is None:
        return outputs.new_full((len(outputs),), torch.nan, dtype=torch.float32)
    if labels.shape != (len(outputs),):
        raise DataError(
            f"A batch of {len(outputs)} rows needs as many labels, got a tensor of shape {tuple(labels.shape)}."
        )
    values = labels if labels.is_floating_point() else labels.float()
    return values if outputs.shape[1] == 1 else values.where(~(values < 0), torch.nan)


def _named(objectives: Sequence[Objective]) -> dict[str, Objective]:
    """Objectives by kind; the second of a kind is `kind_2`."""
    named: dict[str, Objective] = {}
    for objective in objectives:
        name, copies = objective.kind, 1
        while name in named or name == TASK:
            copies += 1
            name = f"{objective.kind}_{copies}"
        named[name] = objective
    return named


def _paired(
    objectives: list[Objective], student: nn.Module, teacher: nn.Module | None, example: Tensor | None,
    teacher_example: Tensor | None,
) -> tuple[list[Objective], Matching | None]:  # fmt: skip
    """Objectives with pairs of layers in place of "auto", and how these were found; modes and generators are left as they were."""
    asking = [o for o in objectives if "auto" in (o.student_taps, o.teacher_taps)]
    if not asking:
        return objectives, None
    name = f'The objective {asking[0].kind!r} asks for layers by "auto"'
    if teacher is None:
        raise InputError(
            f"{name}, and layers are paired on the teacher itself, which is not here; name its student_taps and teacher_taps."
        )
    if example is None:
        raise InputError(
            f"{name}, which are paired on `example`, a batch of inputs: give one of up to 2,000 rows, or name its student_taps and teacher_taps."
        )
    shown = example if teacher_example is None else teacher_example
    _same_device(teacher, shown)
    with generators_restored():
        paired, matching = pair_auto(objectives, student, teacher, example, shown)
    return list(paired), matching


def _require_stored(taps: tuple[Tap, ...], stored: View | None) -> None:
    if stored is None:
        raise InputError(
            "Objectives on the teacher's layers need the teacher itself, and only its answers were given; stored layers "
            "are found by `teacher_answers`, its answers about the example."
        )
    for tap in taps:
        if tap not in stored.layers:
            held = ", ".join(repr(name) for name in stored.layers) or "no layers"
            raise InputError(
                f"The stored answers hold {held}, and an objective looks at {tap!r} of the teacher; store it too, or give the teacher itself."
            )


def _few(inputs: Tensor | None) -> Tensor | None:
    """Two rows: as many as it takes to see a shape."""
    return None if inputs is None else inputs[:2]


@contextlib.contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch normalisation inside the block goes on in its mode, but its running statistics do not move: they are of the rows alone."""
    counting = [
        part
        for part in module.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.training and part.track_running_stats
    ]
    for part in counting:
        part.track_running_stats = False
    try:
        yield
    finally:
        for part in counting:
            part.track_running_stats = True


def _taps(objectives: Any) -> tuple[tuple[Tap, ...], tuple[Tap, ...]]:
    """Every tap of student and teacher once, in the order in which they are first named."""
    student: dict[Tap, None] = {}
    teacher: dict[Tap, None] = {}
    for objective in objectives:
        for taps, seen in ((objective.student_taps, student), (objective.teacher_taps, teacher)):
            seen |= dict.fromkeys(taps)
    return tuple(student), tuple(teacher)


def _shapes(layers: Mapping[Tap, Tensor]) -> dict[Tap, tuple[int, ...]]:
    return {tap: tuple(tensor.shape[1:]) for tap, tensor in layers.items()}


def _detached(terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in terms.items()}


def _last_linear(module: nn.Module) -> nn.Linear | None:
    """The last linear layer in module order, as the tap "features" has it; None without one."""
    linear = [part for part in paths_of(module).values() if isinstance(part, nn.Linear)]
    return linear[-1] if linear else None


def _weights(classifier: nn.Linear | None, outputs: Tensor) -> Tensor | None:
    """(K, C) weights of the layer that gives (B, K) outputs; None where the last linear layer gives something else."""
    return None if classifier is None or classifier.out_features != outputs.shape[1] else classifier.weight


def _same_device(module: nn.Module, inputs: Tensor) -> None:
    """The teacher follows the inputs to their device: it is no part of the module that loops move."""
    first = next(module.parameters(), None)
    if first is not None and first.device != inputs.device:
        try:
            module.to(inputs.device)
        except (RuntimeError, NotImplementedError) as error:
            raise ModelError(f"The teacher cannot be moved to {inputs.device}: {error}") from error
