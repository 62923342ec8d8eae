"""Every objective, alone beside a task it cannot see, makes its own loss fall on rows of a real network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from distillens.errors import InputError
from distillens.objectives import nkd_loss
from distillens.transfer.objectives.base import as_objective
from distillens.transfer.objectives.schedule import Progress
from distillens.transfer.training.transfer import Transfer

ROWS = 48
RELATIONS = ("rkd", "sp", "pkt", "cc", "cka", "crd")
LOGITS = ("kd", "mse", "dkd", "nkd", "dist", "mlkd", "jsd", "reverse_kl")


def networks() -> tuple[nn.Module, nn.Module, torch.Tensor, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 4))
        student = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4))
        x = torch.randn(ROWS, 6)
    with torch.no_grad():
        for weights in (teacher[0].weight, teacher[2].weight, teacher[4].weight):
            weights.mul_(2.5)  # answers worth following
        labels = teacher(x).argmax(dim=1)
    return teacher, student, x, labels


@pytest.mark.parametrize("kind", [*LOGITS, *RELATIONS])
def test_the_loss_falls(kind: str) -> None:
    teacher, student, x, labels = networks()
    before = [p.clone() for p in teacher.parameters()]
    transfer = Transfer(teacher, student, [{"kind": kind}], task_weight=0.0, example=x[:2], rows=ROWS)
    optimizer = torch.optim.Adam(transfer.trainable_parameters(), lr=2e-2)
    losses = []
    for _ in range(80):
        loss = transfer(x, labels, rows=torch.arange(ROWS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    lowest = 0.0
    if kind == "nkd":  # a cross-entropy: γ times the teacher's entropy over the other classes is left
        with torch.no_grad():
            both, first = (nkd_loss(teacher(x), teacher(x), labels, gamma=g, temperature=1.0) for g in (1.5, 0.0))
        lowest = float((both - first).mean())
    assert losses[-1] - lowest < 0.7 * (losses[0] - lowest)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    if kind == "crd":
        assert {"terms.crd.memory_student", "terms.crd.embed_teacher.weight"} <= set(transfer.state_dict())


def test_a_schedule_reaches_the_loss() -> None:
    teacher, student, x, labels = networks()
    entries: list[Any] = [{"kind": "kd", "warmup": 4, "temperature": 8, "final_temperature": 2}]
    transfer = Transfer(teacher, student, entries, task_weight=0.0)

    def term(progress: Progress | None) -> tuple[float, float]:
        step = transfer.step(x, labels, progress=progress)
        return float(step.loss.detach()), float(step.terms["kd"])

    def plain(temperature: float) -> float:
        return float(Transfer(teacher, student, [{"kind": "kd", "temperature": temperature}], task_weight=0.0)(x))

    with torch.no_grad():
        assert term(Progress(0, 10)) == pytest.approx((0.0, plain(8)))
        assert term(Progress(2, 10)) == pytest.approx((0.5 * plain(6.8), plain(6.8)))
        assert term(None) == pytest.approx((plain(2), plain(2)))


def test_contrast_needs_to_know_the_rows() -> None:
    teacher, student, x, labels = networks()
    transfer = Transfer(teacher, student, [{"kind": "crd"}], example=x[:2], rows=ROWS)
    with pytest.raises(InputError, match=r"Batch\.rows"):
        transfer(x, labels)
    assert isinstance(as_objective({"kind": "crd"}).student_taps, tuple)
