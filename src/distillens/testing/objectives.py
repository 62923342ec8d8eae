"""The contract check of objectives: a small smooth network stands behind the views of the student and of the teacher."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from distillens.testing.base import check_entry, require, untouched

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from distillens.transfer.objectives.base import Batch, Loss, Objective, Shapes, Term, View

Shape = tuple[int, ...]
HOSTILE = (
    "saturated", "opposed", "identical rows", "duplicate rows", "one row", "constant features", "features of zeros",
    "no labels", "half precision",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Network:
    """inputs (B, …) → hidden → one activation a tap → (B, K) outputs; smooth, and all its weights require gradients."""

    weights: Mapping[str, Tensor]
    layers: Mapping[str, Shape]

    @classmethod
    def drawn(cls, inputs: Shape, layers: Mapping[str, Shape], outputs: int, draw: Generator) -> Network:
        import torch

        def matrix(rows: int, columns: int) -> Tensor:
            weights: Tensor = torch.randn(rows, columns, generator=draw) / rows**0.5
            return weights.requires_grad_()

        parts = {tap: matrix(8, prod(shape)) for tap, shape in layers.items()}
        head = matrix(sum(shape[0] for shape in layers.values()) or 8, outputs)  # on the means of maps, as in CNNs
        return cls({"first": matrix(prod(inputs), 8), **parts, "head": head}, dict(layers))

    def view(self, inputs: Tensor, case: str = "", sign: float = 1.0) -> View:
        """What this network says about rows, in a hostile case or in none."""
        from distillens.transfer.objectives.base import View

        outputs, layers = self.run(inputs, case, sign)
        classifier = self.weights["head"].T
        return View(outputs, inputs, layers, ask=lambda other: self.run(other, case, sign)[0], classifier=classifier)

    def renamed(self, names: Mapping[str, str]) -> Network:
        """The same network with other names for its layers."""
        weights = {names.get(name, name): weight for name, weight in self.weights.items()}
        return Network(weights, {names[tap]: shape for tap, shape in self.layers.items()})

    def run(self, inputs: Tensor, case: str, sign: float) -> tuple[Tensor, dict[str, Tensor]]:
        import torch

        hidden = torch.nn.functional.softplus(inputs.flatten(1) @ self.weights["first"])
        layers = {}
        for tap, shape in self.layers.items():
            layer = (hidden @ self.weights[tap]).reshape(len(inputs), *shape)
            if case in ("constant features", "features of zeros"):
                layer = 0 * layer + (case == "constant features")
            layers[tap] = layer
        pooled = [layer.flatten(2).mean(dim=2) if layer.ndim > 2 else layer for layer in layers.values()]
        seen = torch.cat(pooled, dim=1) if pooled else hidden
        outputs = seen @ self.weights["head"]
        if case in ("saturated", "opposed"):
            outputs = sign * outputs * (60 / outputs.detach().abs().clamp(min=1e-6))
        return outputs, layers


def check_objective(
    objective: Objective, *, outputs: int = 3, rows: int = 16, layer: Shape = (6,), teacher_layer: Shape | None = None,
    inputs: Shape = (10,), seed: int = 0,
) -> None:  # fmt: skip
    """An objective beside random networks of K = `outputs`: a finite loss that teaches the student and not the teacher.

    layer, teacher_layer: shape of every tapped activation without the batch, as (6,) or (5, 4, 4) for maps; the teacher's is
    the student's unless told. inputs: shape of a row. Also with logits of ±60, identical and duplicate rows, one row, constant
    features, unknown labels and bfloat16 autocast; a student equal to its teacher where `zero_when_equal`; parameters
    and state of a learned objective. Raises AssertionError, and what the objective raises, InputError for a shape or task
    it is not for.
    """
    import torch

    from distillens.transfer.objectives.base import Batch, LearnedObjective, PureObjective, Shapes, term_of

    _check_class(objective, (PureObjective, LearnedObjective))
    if objective.student_taps == "auto":
        objective = replace(objective, student_taps=("layer",), teacher_taps=("layer",))  # type: ignore[type-var]
    draw = torch.Generator().manual_seed(seed)
    student_layers = dict.fromkeys(objective.student_taps, layer)
    teacher_layers = dict.fromkeys(objective.teacher_taps, teacher_layer or layer)
    student, other = (Network.drawn(inputs, student_layers, outputs, draw) for _ in range(2))
    teacher = Network.drawn(inputs, teacher_layers, outputs, draw)
    x = torch.randn(rows, *inputs, generator=draw)
    labels = torch.randint(max(outputs, 2), (rows,), generator=draw).float()
    labels[0] = float("nan")  # a query row
    batch = Batch(torch.rand(rows, generator=draw) + 0.5, labels, rows=torch.arange(rows))
    shapes = Shapes(student_layers, teacher_layers, outputs, outputs, 2 * rows)
    trial = Trial(objective, shapes, x, batch, seed)

    with untouched():
        loss = trial.loss(student, teacher)
        _require_scalar(loss)
        values = [
            float(each.value.detach()) for each in (loss, trial.loss(other, teacher), trial.loss(student, teacher))
        ]
        require(values[0] != values[1], "The loss is the same whatever the student says.")
        require(values[0] == values[2], "The same rows, weights and seed should give the same loss.")
        _check_gradients(trial, student, teacher)
        _check_rows(loss, batch)
        for case in HOSTILE:
            _check_hostile(trial, student, teacher, case)
        names = dict(zip(objective.student_taps, objective.teacher_taps, strict=True))
        if getattr(objective, "zero_when_equal", False) and len(set(names.values())) == len(objective.teacher_taps):
            twin = student.renamed(names)
            for case in ("", "saturated", "constant features", "duplicate rows", "one row"):
                value = float(trial.loss(student, twin, case, opposed=False).value.detach())
                require(abs(value) <= 1e-3, f"A student equal to its teacher should score 0, not {value:g} ({case or 'random rows'}).")  # fmt: skip
        if isinstance(objective, LearnedObjective):
            _check_learned(trial, student, teacher, term_of(objective, shapes, seed=seed))


def _check_class(objective: Any, kinds: tuple[type, ...]) -> None:
    require(isinstance(objective, kinds), f"{type(objective).__name__} lacks something that every Objective has.")
    check_entry(objective)
    require(0 <= objective.weight < float("inf"), "weight should be a finite number of at least 0.")
    auto = [taps == "auto" for taps in (objective.student_taps, objective.teacher_taps)]
    same = len(objective.student_taps) == len(objective.teacher_taps)
    require(auto[0] == auto[1] and same, "An objective should name as many layers of the student as of the teacher.")


@dataclass(frozen=True, eq=False)
class Trial:
    """One objective on one batch of rows; every call builds its term afresh and draws the same numbers."""

    objective: Objective
    shapes: Shapes
    inputs: Tensor
    batch: Batch
    seed: int

    def term(self) -> Term:
        from distillens.transfer.objectives.base import term_of

        return term_of(self.objective, self.shapes, seed=self.seed)

    def loss(
        self, student: Network, teacher: Network, case: str = "", *, opposed: bool = True, term: Term | None = None,
        drawn: bool = True,
    ) -> Loss:  # fmt: skip
        """The loss in a case; whatever the objective does to what it is shown is an AssertionError."""
        import torch

        x, batch = self.inputs, self.batch
        if drawn:
            batch = replace(batch, draw=torch.Generator().manual_seed(self.seed))
        if case == "identical rows":
            x = x[:1].expand(len(x), *x.shape[1:])
        elif case == "duplicate rows":
            x = torch.cat([x[:1], x[:1], x[2:]])
        elif case == "no labels":
            batch = replace(batch, labels=torch.full_like(batch.labels, float("nan")))
        elif case == "one row":
            x = x[1:2]
            batch = replace(batch, weights=batch.weights[1:2], labels=batch.labels[1:2], rows=torch.arange(1, 2))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=case == "half precision"):
            own = [x.clone().requires_grad_(self.objective.needs_gradient) for _ in range(2)]
            views = [
                student.view(own[0], case),
                teacher.view(own[1], case, -1.0 if case == "opposed" and opposed else 1.0),
            ]
            shown = [t for v in views for t in (v.outputs, v.inputs, *v.layers.values())] + [
                batch.weights,
                batch.labels,
            ]
            before = [(t._version, t.requires_grad, bool(t._backward_hooks)) for t in shown]
            loss = (term or self.term())(views[0], views[1], batch)
            after = [(t._version, t.requires_grad, bool(t._backward_hooks)) for t in shown]
            require(before == after, "The objective changed what it was shown, or left a hook on it.")
        return loss


def _require_scalar(loss: Loss, case: str = "random rows") -> None:
    import torch

    require(
        loss.value.ndim == 0 and bool(torch.isfinite(loss.value)), f"The loss should be one finite number ({case})."
    )
    require(loss.value.dtype == torch.float32, f"The loss should be computed in float32 ({case}), not {loss.value.dtype}.")  # fmt: skip


def _gradients(loss: Loss, tensors: list[Tensor]) -> list[Tensor | None]:
    import torch

    if not loss.value.requires_grad:
        return [None] * len(tensors)
    return list(torch.autograd.grad(loss.value, tensors, allow_unused=True))


def _check_gradients(trial: Trial, student: Network, teacher: Network) -> None:
    import torch

    weights = list(student.weights.values())
    found = _gradients(trial.loss(student, teacher), [*weights, *teacher.weights.values()])
    own = [g for g in found[: len(weights)] if g is not None]
    finite = bool(own) and all(bool(torch.isfinite(g).all()) for g in own)
    require(finite and any(bool(g.any()) for g in own), "The loss should have a finite gradient that is not 0.")
    leaked = [g for g in found[len(weights) :] if g is not None and bool(g.any())]
    require(not leaked, "The teacher should be detached: a gradient flowed into its answers or layers.")


def _check_rows(loss: Loss, batch: Batch) -> None:
    from distillens.transfer.objectives.base import Loss

    if loss.per_example is None:
        return
    require(tuple(loss.per_example.shape) == (len(batch.weights),), "per_example should have one number a row.")
    value, each = float(loss.value.detach()), loss.per_example.detach()
    means = [float(make(each, batch).value) for make in (Loss.pointwise, Loss.labelled)]
    same = any(abs(mean - value) <= 1e-5 * max(1.0, abs(mean)) for mean in means)
    require(same, "A pointwise loss should be the weighted mean of its rows.")


def _check_hostile(trial: Trial, student: Network, teacher: Network, case: str) -> None:
    import torch

    loss = trial.loss(student, teacher, case)
    _require_scalar(loss, case)
    for gradient in _gradients(loss, list(student.weights.values())):
        finite = gradient is None or bool(torch.isfinite(gradient).all())
        require(finite, f"The gradient should be finite ({case}).")


def _check_learned(trial: Trial, student: Network, teacher: Network, term: Any) -> None:
    """What a learned objective builds is a module that learns, and whose state is all there is to remember."""
    import torch

    from distillens.transfer.objectives.base import term_of

    require(isinstance(term, torch.nn.Module), "term should build a torch module.")
    names, parameters = zip(*term.named_parameters(), strict=True) if any(True for _ in term.parameters()) else ((), ())
    loss = trial.loss(student, teacher, term=term, drawn=False)
    found = _gradients(loss, list(parameters))
    for name, gradient in zip(names, found, strict=True):
        finite = gradient is not None and bool(torch.isfinite(gradient).all())
        require(finite, f"The parameter {name!r} of the objective should get a finite gradient.")
    moved = not parameters or any(g is not None and bool(g.any()) for g in found)
    require(moved, "The parameters of the objective should get a gradient that is not 0.")
    owned = {id(w) for w in itertools.chain(student.weights.values(), teacher.weights.values())}
    require(not owned & {id(p) for p in parameters}, "The objective's parameters should be its own.")

    twin: Any = term_of(trial.objective, trial.shapes, seed=trial.seed + 1)
    twin.load_state_dict(copy.deepcopy(term.state_dict()))
    values = [float(trial.loss(student, teacher, term=t, drawn=False).value.detach()) for t in (term, twin)]
    require(values[0] == values[1], "An objective restored from its state should go on exactly as the first.")
