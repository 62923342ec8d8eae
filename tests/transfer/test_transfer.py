"""`Transfer`: the loss of a student beside its teacher, in a loop of one's own."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from distillens.errors import DataError, InputError
from distillens.objectives import KD, Batch, Loss, Shapes, View, kd_loss
from distillens.transfer.training.transfer import Transfer


@dataclass(frozen=True)
class Hint:
    """A learned linear map from the student's hidden layer to the teacher's: squared error."""

    student_taps: tuple[str, ...] = ("0:output",)
    teacher_taps: tuple[str, ...] = ("0:output",)
    needs_gradient: ClassVar[bool] = False
    kind: str = "hint"
    weight: float = 1.0

    def term(self, shapes: Shapes, *, seed: int) -> nn.Module:
        return _Hint(self, shapes)


class _Hint(nn.Module):
    def __init__(self, hint: Hint, shapes: Shapes) -> None:
        super().__init__()
        self.ours, self.theirs = hint.student_taps[0], hint.teacher_taps[0]
        self.map = nn.Linear(shapes.student[self.ours][0], shapes.teacher[self.theirs][0])

    def forward(self, student: View, teacher: View, batch: Batch) -> Loss:
        error = self.map(student.layers[self.ours]) - teacher.layers[self.theirs].detach()
        return Loss.pointwise(error.square().mean(dim=1), batch)


@dataclass(frozen=True)
class Slopes:
    """Squared distance of the input gradients of output 0."""

    student_taps: ClassVar[tuple[str, ...]] = ()
    teacher_taps: ClassVar[tuple[str, ...]] = ()
    needs_gradient: ClassVar[bool] = True
    kind: str = "slopes"
    weight: float = 1.0

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        def slope(view: View) -> Tensor:
            return torch.autograd.grad(view.outputs[:, 0].sum(), view.inputs, create_graph=True)[0]

        return Loss.pointwise((slope(student) - slope(teacher).detach()).square().sum(dim=1), batch)


@dataclass(frozen=True)
class Ask:
    """KD on shifted inputs."""

    student_taps: ClassVar[tuple[str, ...]] = ()
    teacher_taps: ClassVar[tuple[str, ...]] = ()
    needs_gradient: ClassVar[bool] = False
    kind: str = "ask"
    weight: float = 1.0

    def __call__(self, student: View, teacher: View, batch: Batch) -> Loss:
        assert student.ask is not None
        assert teacher.ask is not None
        return Loss.pointwise(
            kd_loss(student.ask(student.inputs + 1), teacher.ask(teacher.inputs + 1), temperature=1.0), batch
        )


def net(hidden: int, seed: int) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Dropout(0.5), nn.Linear(hidden, 3))


def batch(n: int = 8) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(n, 4, generator=draw), torch.randint(3, (n,), generator=draw)


def test_the_loss_is_the_sum_written_out() -> None:
    teacher, student, (x, y) = net(6, 0), net(2, 1).eval(), batch()
    transfer = Transfer(teacher, student, [KD(weight=0.7, temperature=2.0)], task_weight=0.3)
    loss = transfer(x, y)
    written = (
        0.3 * nn.functional.cross_entropy(student(x), y)
        + 0.7 * kd_loss(student(x), teacher.eval()(x), temperature=2).mean()
    )
    torch.testing.assert_close(loss, written)


def test_rows_without_a_label_count_for_objectives_alone() -> None:
    teacher, student, (x, y) = net(6, 0), net(2, 1).eval(), batch()
    y[:3] = -1
    transfer = Transfer(teacher, student, [KD(temperature=2.0)], task_weight=1.0)
    task = nn.functional.cross_entropy(student(x[3:]), y[3:], reduction="sum") / 8
    kd = kd_loss(student(x), teacher.eval()(x), temperature=2).mean()
    torch.testing.assert_close(transfer(x, y), task + kd)
    torch.testing.assert_close(transfer(x), kd)
    step = transfer.step(x, y, label_scale=8 / 5)
    torch.testing.assert_close(step.terms["task"], nn.functional.cross_entropy(student(x[3:]), y[3:]).detach())


def test_the_teacher_is_eval_frozen_and_nobodys_parameter() -> None:
    teacher, student, (x, y) = net(6, 0).train(), net(2, 1), batch()
    transfer = Transfer(teacher, student, [KD()], example=x)
    first, second = transfer.step(x, y), transfer.step(x, y)
    assert first.teacher_outputs is not None
    assert second.teacher_outputs is not None
    assert torch.equal(first.teacher_outputs, second.teacher_outputs)  # no dropout in the teacher
    assert not torch.equal(first.outputs, second.outputs)  # but in the student
    first.loss.backward()
    assert teacher.training
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert {name.split(".")[0] for name in transfer.state_dict()} == {"student"}
    assert {id(p) for p in transfer.trainable_parameters()} == {id(p) for p in student.parameters()}


def test_projectors_are_trained_beside_the_student_and_named_twice_they_are_two() -> None:
    teacher, student, (x, y) = net(6, 0), net(2, 1), batch()
    transfer = Transfer(teacher, student, [Hint(), {"kind": "kd"}, Hint(weight=2.0)], example=x)
    assert transfer.names == ("task", "hint", "kd", "hint_2")
    assert len(transfer.trainable_parameters()) == len(list(student.parameters())) + 4
    before = copy.deepcopy(transfer.state_dict())
    optimizer = torch.optim.SGD(transfer.trainable_parameters(), lr=0.1)
    transfer(x, y).backward()
    optimizer.step()
    moved = {name for name, value in transfer.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(before)
    assert "terms.hint.map.weight" in moved
    assert all(not name.startswith("terms") for name in student.state_dict())


def test_gradient_objectives_see_graphs_of_both_models() -> None:
    teacher, student, (x, y) = net(6, 0), net(2, 1), batch()
    transfer = Transfer(teacher, student, [Slopes()], task_weight=0)
    transfer(x, y).backward()
    first = next(student.parameters()).grad
    assert first is not None
    assert bool(first.any())
    assert all(p.grad is None for p in teacher.parameters())
    assert not x.requires_grad
    same = Transfer(teacher, copy.deepcopy(teacher).eval(), [Slopes()], task_weight=0)
    assert float(same(x).detach()) == pytest.approx(0, abs=1e-12)


def test_models_can_be_asked_again_and_answers_can_come_from_elsewhere() -> None:
    teacher, student, (x, _) = net(6, 0), net(2, 1).eval(), batch()
    with torch.no_grad():
        ready = teacher.eval()(x)
        shifted = teacher(x + 1)
    transfer = Transfer(teacher, student, [Ask()], task_weight=0)
    torch.testing.assert_close(transfer(x), kd_loss(student(x + 1), shifted, temperature=1).mean())
    cached = Transfer(None, student, [KD(temperature=1.0)], task_weight=0)
    torch.testing.assert_close(cached(x, teacher=View(ready, x)), kd_loss(student(x), ready, temperature=1).mean())


def test_autocast_losses_are_float32() -> None:
    teacher, student, (x, y) = net(6, 0), net(2, 1), batch()
    transfer = Transfer(teacher, student, [KD(), Hint()], example=x)
    with torch.autocast("cpu", torch.bfloat16):
        step = transfer.step(x, y)
    assert step.outputs.dtype == torch.bfloat16
    assert step.loss.dtype == torch.float32
    assert {value.dtype for value in (step.terms["task"], step.terms["kd"])} == {torch.float32}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Transfer(net(6, 0), net(2, 1), [], task_weight=0), "nothing to teach"),
        (lambda: Transfer(net(6, 0), net(2, 1), [Hint()]), "need `example`"),
        (lambda: Transfer(None, net(2, 1), [Hint()], example=batch()[0]), "the teacher itself"),
        (lambda: Transfer(net(6, 0), net(2, 1), [Hint(student_taps=("9:output",))], example=batch()[0]), "no layer '9'"),
        (lambda: Transfer(net(6, 0), net(2, 1), [{"kind": "kdd"}]), "Did you mean 'kd'"),
        (lambda: Transfer(net(6, 0), net(2, 1), [KD()])(batch()[0], batch()[1][:3]), "as many labels"),
        (lambda: Transfer(None, net(2, 1), [KD()])(*batch()), "these rows have none"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_in_a_sentence(make: Any, words: str) -> None:
    with pytest.raises((InputError, DataError), match=words):
        make()
