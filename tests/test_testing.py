"""The contract checks fail for things that break the contract, one promise at a time."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from distillens.data.base import Column, Split, Table
from distillens.explainers.intrinsic import Intrinsic
from distillens.metrics.base import METRICS
from distillens.models.callable import CallableModel
from distillens.models.linear import LinearModel
from distillens.students.linear import LinearStudent
from distillens.testing import check_explainer, check_metric, check_model, check_objective, check_student, untouched
from distillens.transfer.objectives.base import Loss
from distillens.transfer.objectives.mse import MSE, mse_loss
from distillens.transfer.targets import Targets

ROWS = Table(np.random.default_rng(0).normal(size=(20, 3)), tuple(Column(f"x{j}") for j in range(3)), np.arange(20))
TARGETS = Targets.from_outputs(Split(ROWS, None), ROWS.values @ [[1.0], [2.0], [0.0]], output="values", classes=())
VALIDATION = Split(ROWS.take(np.arange(10)), None)


def set_filter() -> None:
    warnings.simplefilter("ignore", category=ResourceWarning)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (random.random, "Python's random"),
        (lambda: np.random.rand(), "NumPy's global"),  # noqa: NPY002 (that is the offence)
        (lambda: torch.rand(1), "torch's global"),
        (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "thread count"),
        (lambda: torch.set_grad_enabled(False), "gradient mode"),
        (set_filter, "warning filters"),
    ],
)
def test_global_changes_are_seen(change: Any, what: str) -> None:
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings(), pytest.raises(AssertionError, match=what), untouched():
            change()
    finally:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(True)


@dataclass
class WithModule:
    module: torch.nn.Module


def test_a_model_left_in_another_mode_is_seen() -> None:
    model = WithModule(torch.nn.Sequential(torch.nn.Linear(1, 1)).eval())
    with pytest.raises(AssertionError, match="mode"), untouched(model):
        model.module.train()


def of(function: Any, output: Any = "values", classes: tuple[str, ...] = ()) -> CallableModel:
    return CallableModel(function, classes, output, "model")


def spoil(table: Table) -> Any:
    answers = table.values[:, 0].copy()
    table.values[0, 0] += 1.0
    return answers


def test_models_that_break_a_promise() -> None:
    check_model(of(lambda t: t.values[:, 0]), ROWS)
    draws = np.random.default_rng(0)
    with pytest.raises(AssertionError, match="second time"):
        check_model(of(lambda t: draws.random(len(t))), ROWS)
    with pytest.raises(AssertionError, match="rows beside it"):
        check_model(of(lambda t: t.values[:, 0] - t.values[:, 0].mean()), ROWS)
    with pytest.raises(AssertionError, match="sum to 1"):
        check_model(of(lambda t: np.ones((len(t), 2)), "probabilities", ("a", "b")), ROWS)
    with pytest.raises(AssertionError, match="different"):
        check_model(of(lambda t: np.ones((len(t), 2)), "probabilities", ("a", "a")), ROWS)
    writable = Table(ROWS.values.copy(), ROWS.columns, ROWS.row_ids)
    if writable.values.flags.writeable:
        with pytest.raises(AssertionError, match="changed the rows"):
            check_model(of(spoil), writable)


def test_contributions_that_do_not_add_up() -> None:
    model = LinearStudent().fit(TARGETS, validation=VALIDATION, teacher=None, seed=0)

    class Wrong(LinearModel):
        def contributions(self, inputs: Table) -> Any:
            parts, base = super().contributions(inputs)
            return 1.01 * parts, base

    with pytest.raises(AssertionError, match="add up"):
        check_model(Wrong(**{f.name: getattr(model, f.name) for f in fields(model)}), ROWS)


@dataclass(frozen=True)
class Deaf:
    """A student that does not listen."""

    kind: ClassVar[str] = "deaf"
    readable: ClassVar[bool] = False

    def fit(self, targets: Targets, **rest: Any) -> Any:
        return of(lambda t: t.values[:, 0])


@dataclass(frozen=True)
class Moody(Deaf):
    """A student with a will of its own."""

    moods: Any = field(default_factory=lambda: np.random.default_rng(0), compare=False)

    def fit(self, targets: Targets, **rest: Any) -> Any:
        mood = self.moods.random()
        return of(lambda t: t.values[:, 0] + mood)


@dataclass
class Soft:
    """A student whose settings can be edited."""

    kind: ClassVar[str] = "soft"
    readable: ClassVar[bool] = False

    def fit(self, targets: Targets, **rest: Any) -> Any:
        raise NotImplementedError


def test_students_that_break_a_promise() -> None:
    check_student(LinearStudent(), TARGETS, validation=VALIDATION)
    for student, words in ((Deaf(), "does not listen"), (Moody(), "same model"), (Soft(), "frozen")):
        with pytest.raises(AssertionError, match=words):
            check_student(student, TARGETS, validation=VALIDATION)


def test_explainers_that_break_a_promise() -> None:
    model = LinearStudent().fit(TARGETS, validation=VALIDATION, teacher=None, seed=0)
    target = np.zeros(20, dtype=np.int64)
    check_explainer(Intrinsic(), model, ROWS, target=target)

    @dataclass(frozen=True)
    class Wrong:
        """An explainer with one thing wrong."""

        kind: ClassVar[str] = "wrong"
        differentiable: ClassVar[bool] = False
        needs: ClassVar[frozenset[str]] = frozenset({"call"})
        change: Any = None

        def __call__(self, model: Any, inputs: Table, **rest: Any) -> Any:
            return self.change(Intrinsic()(model, inputs, **rest))

    changes = {
        "residual": lambda e: replace(e, residual=e.residual + 1.0),
        "beside it": lambda e: replace(e, values=e.values - e.values.mean(axis=0), residual=e.residual + e.values.mean(axis=0).sum()),
        "standard error": lambda e: replace(e, exact=False),
        "ids of the rows": lambda e: replace(e, row_ids=e.row_ids + 1),
        "targets that were asked": lambda e: replace(e, target=e.target + 1),
        "finite": lambda e: replace(e, values=e.values * np.nan),
    }  # fmt: skip
    for words, change in changes.items():
        with pytest.raises(AssertionError, match=words):
            check_explainer(Wrong(change), model, ROWS, target=target)


@dataclass(frozen=True)
class Leaky(MSE):
    """An objective that teaches the teacher."""

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Loss:
        return Loss.pointwise((student.outputs.float() - teacher.outputs.float()).square().sum(dim=1), batch)


@dataclass(frozen=True)
class Constant(MSE):
    """An objective that says the same of every student."""

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Loss:
        return Loss.pointwise(0 * mse_loss(student.outputs, teacher.outputs), batch)


@dataclass(frozen=True)
class Unweighted(MSE):
    """An objective that forgets the rows' weights."""

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Loss:
        each = mse_loss(student.outputs, teacher.outputs)
        return Loss(each.mean(), each)


@dataclass(frozen=True)
class Narrow(MSE):
    """An objective that computes in the precision that comes."""

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Loss:
        return Loss((student.outputs - teacher.outputs.detach()).square().sum(dim=1).mean())


@dataclass(frozen=True)
class Boastful(MSE):
    """An objective that is not 0 where it says it is."""

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Loss:
        return Loss.pointwise(1 + mse_loss(student.outputs, teacher.outputs), batch)


@dataclass(frozen=True)
class Rough(MSE):
    """An objective that writes into what it is shown."""

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Loss:
        student.outputs.mul_(1.0)
        return Loss.pointwise(mse_loss(student.outputs, teacher.outputs), batch)


@dataclass(frozen=True)
class Fragile(MSE):
    """An objective that needs more than one row."""

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Loss:
        each = mse_loss(student.outputs, teacher.outputs)
        return Loss(each.sum() / (each.numel() - 1))


@dataclass(frozen=True)
class Looking:
    """An objective on a layer that forgets to detach the teacher's."""

    kind: ClassVar[str] = "looking"
    weight: ClassVar[float] = 1.0
    needs_gradient: ClassVar[bool] = False
    student_taps: ClassVar[tuple[str, ...]] = ("features",)
    teacher_taps: ClassVar[tuple[str, ...]] = ("features",)

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Loss:
        return Loss((student.layers["features"].float() - teacher.layers["features"].float()).square().mean())


@dataclass(frozen=True)
class Steep:
    """An objective on gradients by the inputs, and on answers to rows nobody has seen."""

    kind: ClassVar[str] = "steep"
    weight: ClassVar[float] = 1.0
    needs_gradient: ClassVar[bool] = True
    zero_when_equal: ClassVar[bool] = True
    student_taps: ClassVar[tuple[str, ...]] = ()
    teacher_taps: ClassVar[tuple[str, ...]] = ()
    detached: bool = True

    def __call__(self, student: Any, teacher: Any, batch: Any) -> Loss:
        def slope(view: Any) -> torch.Tensor:
            (found,) = torch.autograd.grad(view.outputs.float().sum(), view.inputs, create_graph=True)
            return found.flatten(1)

        noise = 0.1 * torch.randn(student.inputs.shape, generator=batch.draw)
        apart = slope(student) - (slope(teacher).detach() if self.detached else slope(teacher))
        asked = student.ask(student.inputs + noise) - teacher.ask(teacher.inputs + noise).detach()
        return Loss.pointwise(apart.square().sum(dim=1) + 0.0 * asked.float().square().sum(dim=1), batch)


class Projected(torch.nn.Module):
    """A projector and a count of steps, which is part of the state or not."""

    def __init__(self, columns: int, *, remembers: bool, spare: bool) -> None:
        super().__init__()
        self.project = torch.nn.Linear(columns, columns)
        if spare:
            self.spare = torch.nn.Linear(2, 2)
        if remembers:
            self.register_buffer("steps", torch.zeros(()))
        else:
            self.steps = torch.zeros(())

    def forward(self, student: Any, teacher: Any, batch: Any) -> Loss:
        self.steps = self.steps + 1
        wanted = teacher.layers["features"].float().detach()
        with torch.autocast("cpu", enabled=False):
            made = self.project(student.layers["features"].float())
        return Loss((made - wanted).square().mean() * self.steps)


@dataclass(frozen=True)
class Learning:
    """An objective with parts that learn."""

    kind: ClassVar[str] = "learning"
    weight: ClassVar[float] = 1.0
    needs_gradient: ClassVar[bool] = False
    student_taps: ClassVar[tuple[str, ...]] = ("features",)
    teacher_taps: ClassVar[tuple[str, ...]] = ("features",)
    remembers: bool = True
    spare: bool = False

    def term(self, shapes: Any, *, seed: int) -> Any:
        return Projected(shapes.student["features"][0], remembers=self.remembers, spare=self.spare)


def test_objectives_that_break_a_promise() -> None:
    check_objective(MSE())
    check_objective(Learning())
    check_objective(Steep(), inputs=(2, 3, 3))
    for objective, words in (
        (Boastful(), "should score 0, not 0.9"),
        (Rough(), "changed what it was shown"),
        (Fragile(), "finite number .one row"),
        (Looking(), "detached"),
        (Steep(detached=False), "detached"),
        (Learning(remembers=False), "restored from its state"),
        (Learning(spare=True), "parameter 'spare.weight'"),
        (Leaky(), "detached"),
        (Constant(), "whatever the student says"),
        (Unweighted(), "weighted mean"),
        (Narrow(), "float32"),
    ):
        with pytest.raises(AssertionError, match=words):
            check_objective(objective)


def test_metrics_that_break_a_promise() -> None:
    metric = METRICS["agreement"]
    check_metric(metric)
    for wrong, words in (
        (replace(metric, name="two words"), "plain word"),
        (replace(metric, text=""), "one sentence"),
        (replace(metric, needs=frozenset({"luck"})), "nothing but"),
        (replace(metric, tasks=frozenset()), "known tasks"),
    ):
        with pytest.raises(AssertionError, match=words):
            check_metric(wrong)
