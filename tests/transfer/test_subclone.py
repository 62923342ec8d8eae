"""Students made of a teacher's most important units, of its classifier, and how far they agree before any training."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distillens.errors import ModelError
from distillens.models.capture import capture
from distillens.models.nets.base import as_image_net, initialised
from distillens.models.nets.mlp import mlp
from distillens.transfer.layers.inherit import copy_layers, fold_classifier, reuse_classifier, with_agreement
from distillens.transfer.layers.subclone import subclone


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def awake(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter and running statistic away from its initial value, so that no mix-up goes unseen."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2, generator=rng)
            elif value.is_floating_point() and value.ndim <= 1:
                value.add_(0.3 * torch.randn(value.shape, generator=rng))
            elif value.is_floating_point() and value.ndim <= 3:
                value.add_(0.15 * torch.randn(value.shape, generator=rng))
            elif value.is_floating_point():
                value.mul_(1.5)
    return module.eval()


def net(entry: dict[str, Any], *, seed: int = 0, classes: int = 4, size: int = 8) -> nn.Module:
    return awake(initialised(as_image_net(entry), (3, size, size), classes, seed=seed), seed)


def perceptron(*widths: int, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return mlp(widths[0], widths[1:-1], widths[-1])


RESNET, WIDE = {"kind": "resnet", "depth": 14, "width": 4}, {"kind": "wide_resnet", "depth": 16, "width": 4}
VIT = {"kind": "vit", "patch": 4, "width": 24, "depth": 4, "heads": 4, "mlp_ratio": 2}


@pytest.mark.parametrize(
    "entry", [RESNET, {"kind": "resnet", "depth": 8}, WIDE, {"kind": "wide_resnet", "depth": 10, "width": 1}, VIT]
)
def test_one_consistent_permutation_leaves_the_function_as_it_is(entry: dict[str, Any]) -> None:
    teacher, student, x = net(entry, seed=1), net(entry, seed=2), rows(20, 3, 8, 8)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    report = subclone(student, teacher, x)
    torch.testing.assert_close(student(x), teacher(x), rtol=1e-4, atol=1e-4)
    assert float((student(x) - student(x)[0]).abs().max().detach()) > 1e-2  # the rows do differ
    moved = [n for n, v in teacher.state_dict().items() if v.ndim and not torch.equal(v, student.state_dict()[n])]
    assert len(moved) > len(before) / 2  # units stand in the order of their importance, not of the teacher
    assert report.fresh == report.unused == ()
    assert not any(taken.part for taken in report.taken)
    assert all(torch.equal(before[n], v) for n, v in teacher.state_dict().items())


def test_a_perceptron_keeps_its_function_when_only_silent_units_are_dropped() -> None:
    teacher, student, x = perceptron(5, 12, 9, 3, seed=1), perceptron(5, 7, 4, 3, seed=2), rows(50, 5)
    silent = {0: [0, 3, 5, 7, 11], 2: [1, 2, 6, 7, 8]}
    with torch.no_grad():
        for layer, units in silent.items():
            teacher[layer].weight[units] = 0
            teacher[layer].bias[units] = -1  # ReLU makes them 0
    report = subclone(student, teacher, x)
    torch.testing.assert_close(student(x), teacher(x), rtol=1e-5, atol=1e-5)
    assert [taken.part for taken in report.taken] == [True, True, True, True, True, False]
    with torch.no_grad():
        expected = torch.relu(teacher[0](x)).abs().mean(dim=0).argsort(descending=True)[:7]
    torch.testing.assert_close(student[0].weight, teacher[0].weight[expected], rtol=0, atol=0)


def silence(teacher: Any, channels: dict[str, list[int]], inner: dict[str, list[int]]) -> None:
    """Switch off channels of a ResNet's streams and inside its blocks: whatever is written there is 0."""
    with torch.no_grad():
        for stage, dead in channels.items():
            for norm in [
                m for n, m in teacher.get_submodule(stage).named_modules() if n.endswith(("norm2", "shortcut.1"))
            ]:
                norm.weight[dead], norm.bias[dead] = 0.0, 0.0
        for block, dead in inner.items():
            teacher.get_submodule(block).norm1.weight[dead] = 0.0
            teacher.get_submodule(block).norm1.bias[dead] = -1.0


def test_a_residual_network_keeps_its_function_when_only_silent_channels_are_dropped() -> None:
    teacher = net({"kind": "resnet", "depth": 8, "width": 4}, seed=1)
    student = net({"kind": "resnet", "depth": 8, "width": 3}, seed=2)
    x = rows(20, 3, 8, 8)
    stages = {
        f"stages.{i}": np.random.default_rng(i).permutation(w * 4)[:w].tolist() for i, w in enumerate((16, 32, 64))
    }
    silence(teacher, stages, {f"{stage}.0": dead[::-1] for stage, dead in stages.items()})
    with torch.no_grad():  # the stem goes from 32 to 24
        teacher.stem[1].weight[:8], teacher.stem[1].bias[:8] = 0.0, -1.0
    subclone(student, teacher, x, recalibrate=False)
    torch.testing.assert_close(student(x), teacher(x), rtol=1e-3, atol=1e-3)


def test_batch_norms_are_estimated_anew_where_units_were_dropped() -> None:
    teacher = net({"kind": "wide_resnet", "depth": 16, "width": 4}, seed=1)
    x = 2 * rows(200, 3, 8, 8) + 1
    students = [net({"kind": "wide_resnet", "depth": 10, "width": 2}, seed=2) for _ in range(2)]
    for student, again in zip(students, (True, False), strict=True):
        report = subclone(student, teacher, x, recalibrate=again)
    assert {taken.teacher.split(".")[2] for taken in report.taken if taken.teacher.startswith("stages.0.")} == {"0"}
    assert [n for n in report.unused if n.startswith("stages.1.1.")]
    for student in students:
        assert not student.training
    with torch.no_grad(), capture(students[0], ["stages.1.0.norm1:input"]) as layers:
        students[0](x)
    norm: Any = students[0].get_submodule("stages.1.0.norm1")
    torch.testing.assert_close(
        norm.running_mean, layers["stages.1.0.norm1:input"].mean(dim=(0, 2, 3)), rtol=0.2, atol=0.1
    )
    assert norm.momentum == 0.1
    stale: Any = students[1].get_submodule("stages.1.0.norm1")
    kept = net({"kind": "wide_resnet", "depth": 16, "width": 4}, seed=1).get_submodule("stages.1.0.norm1").running_mean
    assert set(stale.running_mean.tolist()) <= set(kept.tolist())  # type: ignore[union-attr, operator]


def test_a_smaller_transformer_takes_whole_heads_and_spread_blocks() -> None:
    teacher, x = net(VIT, seed=1), rows(30, 3, 8, 8)
    student = net({**VIT, "width": 12, "depth": 2, "heads": 2}, seed=2)
    with torch.no_grad(), capture(teacher, ["blocks.3.attention.project:input"]) as layers:
        teacher(x)
    magnitude = layers["blocks.3.attention.project:input"].abs().mean(dim=(0, 1))
    heads = magnitude.reshape(4, 6).sum(dim=1).argsort(descending=True)[:2]
    wanted = [int(h) * 6 + int(u) for h in heads for u in magnitude.reshape(4, 6)[h].argsort(descending=True)]
    report = subclone(student, teacher, x)
    assert report.fresh == ()
    assert {taken.teacher.split(".")[1] for taken in report.taken if taken.teacher.startswith("blocks.")} == {"0", "3"}
    own, given = student.state_dict(), teacher.state_dict()
    for part in ("query", "key", "value"):
        bias = f"attention.{part}.bias"
        torch.testing.assert_close(own[f"blocks.1.{bias}"], given[f"blocks.3.{bias}"][wanted], rtol=0, atol=0)
    stream = [int((given["norm.weight"] == value).nonzero()[0]) for value in own["norm.weight"]]
    torch.testing.assert_close(
        own["blocks.1.attention.project.weight"],
        given["blocks.3.attention.project.weight"][stream][:, wanted],
        rtol=0,
        atol=0,
    )
    torch.testing.assert_close(own["position"], given["position"][:, :, stream], rtol=0, atol=0)
    torch.testing.assert_close(own["classifier.weight"], given["classifier.weight"][:, stream], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), "subclone knows perceptrons"),
        ({"kind": "resnet", "depth": 8}, WIDE, "both networks of one kind; got a ResNet for a student and a WideResNet"),
        (RESNET, {**RESNET, "depth": 8}, "'stages.0' has 2 blocks in the student and 1"),
        ({**WIDE, "width": 5}, WIDE, "the student must be the smaller one"),
        ({"kind": "resnet", "depth": 8}, {"kind": "resnet", "depth": 8, "width": 4}, "one has a shortcut that the other lacks"),
        ({**VIT, "heads": 3}, VIT, "3 heads of 8 units cannot be taken from 4 heads of 6"),
        ({**VIT, "patch": 2}, VIT, "'patches.weight' is .* must be the same"),
    ],
)  # fmt: skip
def test_what_cannot_be_subcloned_is_said_and_changes_nothing(student: Any, teacher: Any, message: str) -> None:
    own, given = (m if isinstance(m, nn.Module) else net(m, seed=i) for i, m in enumerate((student, teacher)))
    before = {name: value.clone() for name, value in own.state_dict().items()}
    with pytest.raises(ModelError, match=message):
        subclone(own, given, rows(4, 3, 8, 8))
    assert all(torch.equal(before[name], value) for name, value in own.state_dict().items())


def test_perceptrons_that_do_not_fit_and_no_rows() -> None:
    with pytest.raises(ModelError, match="3 linear layers and the teacher 2"):
        subclone(perceptron(4, 3, 3, 2), perceptron(4, 5, 2), rows(5, 4))
    with pytest.raises(ModelError, match="a layer '1' that is none of theirs"):
        subclone(perceptron(4, 3, 2), nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)), rows(5, 4))
    with pytest.raises(ModelError, match="at least one row"):
        subclone(perceptron(4, 3, 2), perceptron(4, 5, 2), rows(0, 4))


def test_a_reused_classifier_reads_projected_features() -> None:
    teacher, student, x = net(WIDE, seed=1), net({"kind": "resnet", "depth": 8}, seed=2), rows(10, 3, 8, 8)
    generator = torch.get_rng_state()
    report = reuse_classifier(student, teacher, x, x)
    assert torch.equal(generator, torch.get_rng_state())
    assert [(t.student, t.teacher) for t in report.taken] == [
        ("classifier.reused.weight", "classifier.weight"), ("classifier.reused.bias", "classifier.bias"),
    ]  # fmt: skip
    assert all(
        name.startswith(("stem", "stages", "classifier.project")) for name in report.fresh if "num_batches" not in name
    )
    with capture(student, ["features", "pool:output"]) as layers:
        outputs = student(x)
    features = layers["features"]
    assert features.shape == (10, 256)  # the teacher's
    final: Any = teacher.get_submodule("classifier")
    torch.testing.assert_close(outputs, features @ final.weight.T + final.bias)
    outputs.sum().backward()
    trained = {name for name, p in student.named_parameters() if p.requires_grad and p.grad is not None}
    assert any(name.startswith("classifier.project") for name in trained)
    assert not any(name.startswith("classifier.reused") for name in trained)
    with pytest.raises(ModelError, match="has reused one already"):
        reuse_classifier(student, teacher, x, x)
    fold_classifier(student)
    assert isinstance(student.get_submodule("classifier"), nn.Linear)
    assert student.state_dict().keys() == net({"kind": "resnet", "depth": 8}).state_dict().keys()
    assert all(p.requires_grad for p in student.get_submodule("classifier").parameters())
    torch.testing.assert_close(student(x), outputs, rtol=1e-4, atol=1e-4)
    assert torch.equal(generator, torch.get_rng_state())
    with pytest.raises(ModelError, match="no reused classifier"):
        fold_classifier(student)


def test_features_that_are_no_vectors_cannot_be_reused() -> None:
    tokens = nn.Sequential(nn.Unflatten(1, (4, 3)), nn.Linear(3, 2), nn.Flatten())
    with pytest.raises(ModelError, match=r"the student's are \(4, 3\)"):
        reuse_classifier(tokens, perceptron(12, 4, 2), rows(3, 12), rows(3, 12))
    with pytest.raises(ModelError, match="nothing but its classifier"):
        reuse_classifier(nn.Linear(3, 2), perceptron(3, 4, 2), rows(3, 3), rows(3, 3))


def test_agreement_is_counted_before_training() -> None:
    teacher, student, x = perceptron(6, 8, 3, seed=1), perceptron(6, 8, 3, seed=2), rows(300, 6)
    report = copy_layers(student, teacher)
    whole = with_agreement(report, student, teacher, x, x).agreement
    assert whole is not None
    assert (whole.rows, whole.same_class) == (300, 1.0)
    assert whole.correlation == pytest.approx(1)
    other = perceptron(6, 8, 3, seed=3)
    part = with_agreement(report, other, teacher, x, x)
    with torch.no_grad():
        a, b = other(x).double().numpy(), teacher(x).double().numpy()
    assert part.agreement is not None
    assert part.agreement.same_class == pytest.approx(np.mean(a.argmax(1) == b.argmax(1)))
    centred = [v - v.mean(1, keepdims=True) for v in (a, b)]
    centred = [(v - v.mean(0)).ravel() for v in centred]
    assert part.agreement.correlation == pytest.approx(np.corrcoef(*centred)[0, 1])
    assert f"same class {part.agreement.same_class:.3f}" in str(part)
    assert json.loads(json.dumps(part.to_json()))["agreement"]["rows"] == 300
    one = with_agreement(report, perceptron(6, 1), perceptron(6, 4, 1), x, x).agreement
    assert one is not None
    assert one.same_class is None
    constant = nn.Sequential(nn.Linear(6, 3))
    nn.init.zeros_(constant[0].weight)
    still = with_agreement(report, constant, teacher, x, x)
    assert "not defined" in str(still)
    with pytest.raises(ModelError, match="1 outputs and the teacher 3"):
        with_agreement(report, perceptron(6, 1), teacher, x, x)
    with pytest.raises(ModelError, match="same rows"):
        with_agreement(report, student, teacher, x, x[:-1])


def test_important_units_agree_more_than_random_ones() -> None:
    """A teacher with a few strong units: the subclone finds them, and starts closer to the teacher than a fresh student."""
    teacher, x = perceptron(6, 40, 3, seed=1), rows(400, 6)
    with torch.no_grad():
        teacher[0].weight[5::8] *= 6
    started = perceptron(6, 5, 3, seed=2)
    fresh = with_agreement(
        subclone(perceptron(6, 5, 3, seed=2), teacher, x), perceptron(6, 5, 3, seed=2), teacher, x, x
    )
    found = with_agreement(subclone(started, teacher, x), started, teacher, x, x)
    assert found.agreement is not None
    assert fresh.agreement is not None
    assert (found.agreement.same_class or 0) > (fresh.agreement.same_class or 0) + 0.3
