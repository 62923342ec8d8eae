"""Objectives on features and explanations, alone, on a small convolutional student beside another convolutional teacher."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from distillens.errors import InputError
from distillens.objectives import OBJECTIVES
from distillens.transfer.layers.inherit import reuse_classifier
from distillens.transfer.training.transfer import Transfer

MAPS: dict[str, Any] = {"student_taps": ["0:output", "3:output"], "teacher_taps": ["0:output", "4:output"]}
LAST: dict[str, Any] = {"student_taps": ["4:output"], "teacher_taps": ["5:output"]}
POOLED: dict[str, Any] = {"student_taps": [*MAPS["student_taps"], "features"], "teacher_taps": [*MAPS["teacher_taps"], "features"]}  # fmt: skip
ENTRIES: dict[str, dict[str, Any]] = {
    "fitnet": MAPS,
    "attention_transfer": MAPS,
    "review": POOLED,
    "mgd": MAPS | {"weight": 1.0},
    "vid": POOLED | {"variance": 0.3},
    "simkd": {},
    "cat_kd": LAST,
    "gradient_matching": {},
    "jacobian": {"outputs": "all"},
    "gradcam_matching": LAST | {"relu": False},
    "attribution_matching": {"steps": 3},
    "noise_queries": {"draws": 2, "temperature": 1.0},
}


def networks() -> tuple[nn.Sequential, nn.Sequential, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        teacher = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), *pool, nn.Linear(12, 3),
        )  # fmt: skip
        student = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Softplus(),
            nn.Conv2d(4, 6, 3, padding=1), nn.Softplus(), *pool, nn.Linear(6, 3),
        )  # fmt: skip
        x = torch.randn(12, 2, 8, 8)
    with torch.no_grad():
        teacher[-1].weight.mul_(20)  # answers worth following
    return teacher, student, x


@pytest.mark.parametrize("kind", ENTRIES)
def test_the_loss_falls(kind: str) -> None:
    teacher, student, x = networks()
    if kind == "simkd":
        reuse_classifier(student, teacher, x, x)
    before = [p.clone() for p in teacher.parameters()]
    running = teacher[1].running_mean.clone()
    transfer = Transfer(teacher, student, [{"kind": kind} | ENTRIES[kind]], task_weight=0.0, example=x[:2])
    optimizer = torch.optim.Adam(transfer.trainable_parameters(), lr=2e-2)
    first = student[0].weight.detach().clone()
    losses = []
    for _ in range(40):
        step = transfer.step(x, draw=torch.Generator().manual_seed(3))
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        losses.append(step.terms[kind].item())
    assert losses[-1] < 0.75 * losses[0]
    assert not torch.equal(first, student[0].weight)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    assert torch.equal(running, teacher[1].running_mean)
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.requires_grad for p in teacher.parameters())
    assert not any(key.startswith("terms") for key in student.state_dict())


def test_every_one_of_them_is_in_recipes() -> None:
    assert set(ENTRIES) <= set(OBJECTIVES)


def test_all_of_them_together_are_one_loss() -> None:
    teacher, student, x = networks()
    entries: list[Any] = [{"kind": kind} | options for kind, options in ENTRIES.items() if kind != "simkd"]
    transfer = Transfer(teacher, student, entries, example=x[:2])
    step = transfer.step(x, torch.randint(3, (12,)), draw=torch.Generator().manual_seed(0))
    assert step.loss.isfinite()
    step.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in transfer.trainable_parameters())


def test_a_student_that_did_not_reuse_the_classifier_is_told() -> None:
    teacher, student, x = networks()
    with pytest.raises(InputError, match="reuse_classifier"):
        Transfer(teacher, student, [{"kind": "simkd"}], example=x[:2])(x)


def test_a_loop_of_ones_own_is_told_how_to_draw() -> None:
    teacher, student, x = networks()
    with pytest.raises(InputError, match=r"transfer\.step\(x, y, draw=generator\)"):
        Transfer(teacher, student, [{"kind": "noise_queries"}])(x)


def test_second_derivatives_of_compiled_students_are_refused() -> None:
    teacher, student, _ = networks()
    with pytest.raises(InputError, match="'gradient_matching' needs second derivatives"):
        Transfer(teacher, student, [{"kind": "gradient_matching"}], compile=True)
