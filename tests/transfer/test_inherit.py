"""Parameters taken over: whole layers, by name, and selected elements; and what the report says of them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import torch
from torch import nn

from distillens.errors import ModelError
from distillens.models.nets.mlp import mlp
from distillens.transfer.layers.inherit import copy_by_name, copy_layers, evenly_spaced, select_weights


def net(*widths: int, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return mlp(widths[0], widths[1:-1], widths[-1])


def test_evenly_spaced_layers_are_the_ones_distilbert_takes() -> None:
    assert evenly_spaced(6, 12) == (0, 2, 4, 7, 9, 11)
    assert evenly_spaced(1, 5) == (0,)
    assert evenly_spaced(4, 4) == (0, 1, 2, 3)
    for count in range(1, 30):
        chosen = evenly_spaced(count, 29)
        assert sorted(set(chosen)) == list(chosen)  # never one twice
    with pytest.raises(ModelError, match="smaller"):
        evenly_spaced(6, 5)


def test_a_student_of_the_same_shape_becomes_its_teacher() -> None:
    teacher, student = net(10, 20, 3, seed=1), net(10, 20, 3, seed=2)
    x = torch.randn(50, 10, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(student(x), teacher(x))
    report = copy_layers(student, teacher)
    torch.testing.assert_close(student(x), teacher(x), rtol=0, atol=0)
    assert [t.student for t in report.taken] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert report.fresh == report.unused == ()


def test_it_is_a_copy_and_stays_trainable() -> None:
    teacher, student = net(10, 20, 3, seed=1), net(10, 20, 3, seed=2)
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    before = copy.deepcopy(teacher.state_dict())
    copy_layers(student, teacher)
    assert all(p.requires_grad for p in student.parameters())
    student(torch.ones(4, 10)).sum().backward()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_named_layers_and_layers_from_the_end() -> None:
    teacher, student = net(4, 4, 4, 4, 3, seed=1), net(4, 4, 3, seed=2)
    report = copy_layers(student, teacher, layers=(1, -1))
    assert [(t.student, t.teacher) for t in report.taken[::2]] == [("0.weight", "2.weight"), ("2.weight", "6.weight")]
    torch.testing.assert_close(student[0].weight, teacher[2].weight, rtol=0, atol=0)
    assert set(report.unused) == {"0.weight", "0.bias", "4.weight", "4.bias"}


def test_buffers_are_taken_too() -> None:
    def normed(seed: int) -> nn.Sequential:
        return nn.Sequential(net(3, 3, seed=seed)[0], nn.BatchNorm1d(3))

    teacher, student = normed(1), normed(2)
    teacher(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) + 5)
    copy_layers(student, teacher)
    assert float(student[1].running_mean.abs().sum()) > 0
    torch.testing.assert_close(student[1].running_mean, teacher[1].running_mean, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: copy_layers(net(10, 5, 3), net(10, 20, 3)), "equal shapes"),
        (lambda: copy_layers(net(10, 20, 3), net(10, 20, 3), layers=(0,)), "2 layers and 1"),
        (lambda: copy_layers(net(10, 20, 3), net(10, 20, 3), layers=(0, 2)), "no layer 2"),
        (lambda: copy_layers(net(4, 4, 4, 3), net(4, 4, 3)), "smaller"),
        (lambda: copy_layers(nn.ReLU(), net(4, 3)), "student has no layers"),
        (lambda: copy_layers(nn.Sequential(nn.BatchNorm1d(3)), nn.Sequential(nn.Linear(3, 3))), "different tensors"),
        (lambda: copy_by_name(net(10, 5, 3), net(9, 20, 4)), "select_weights"),
        (lambda: copy_by_name(net(4, 3), net(4, 3), prefixes={"body.": ""}), "begins with 'body.'"),
        (lambda: select_weights(net(10, 20, 3), net(10, 5, 3)), "nowhere smaller"),
        (lambda: select_weights(net(4, 4, 3, 3), net(4, 4, 3)), "no tensor '4.weight'"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        change()


def test_nothing_is_changed_when_one_layer_does_not_fit() -> None:
    teacher, student = net(10, 20, 4, seed=1), net(10, 20, 3, seed=2)
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(ModelError):
        copy_layers(student, teacher)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_by_name_takes_what_fits_and_reports_the_rest() -> None:
    teacher, student = net(10, 20, 4, seed=1), net(10, 20, 3, seed=2)
    fresh = student[2].weight.detach().clone()
    report = copy_by_name(student, teacher)
    assert [t.student for t in report.taken] == ["0.weight", "0.bias"]
    assert report.fresh == report.unused == ("2.weight", "2.bias")
    torch.testing.assert_close(student[0].weight, teacher[0].weight, rtol=0, atol=0)
    torch.testing.assert_close(student[2].weight, fresh, rtol=0, atol=0)
    assert "taken  0.weight ← 0.weight 20×10" in str(report)
    assert "fresh  2.bias" in str(report)
    assert json.loads(json.dumps(report.to_json()))["taken"][0]["shape"] == [20, 10]


def test_by_name_behind_another_prefix() -> None:
    teacher = nn.ModuleDict({"body": net(10, 20, 3, seed=1)})
    student = nn.ModuleDict({"core": net(10, 20, 3, seed=2)})
    report = copy_by_name(student, teacher, prefixes={"core.": "body."})
    assert len(report.taken) == 4
    torch.testing.assert_close(student["core"][2].weight, teacher["body"][2].weight, rtol=0, atol=0)


def test_selected_units_stay_together() -> None:
    """A teacher whose units 0, 10 and 19 are all that matters is reproduced by the student that keeps those three."""
    teacher, student = net(4, 20, 3, seed=1), net(4, 3, 3, seed=2)
    kept = evenly_spaced(3, 20)
    assert kept == (0, 10, 19)
    with torch.no_grad():
        for unit in set(range(20)) - set(kept):
            teacher[2].weight[:, unit] = 0
    report = select_weights(student, teacher)
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(student(x), teacher(x))
    assert [t.part for t in report.taken] == [True, True, True, False]
    assert "(selected)" in str(report)
