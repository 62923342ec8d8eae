"""Pairs of layers: CKA against its definition, the best monotone pairing against all of them, and which layers are candidates."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distillens.errors import InputError
from distillens.models.capture import capture
from distillens.models.nets.base import as_image_net, initialised
from distillens.models.nets.mlp import mlp
from distillens.similarity import debiased_cka, hsic_unbiased
from distillens.transfer.layers.inherit import reuse_classifier
from distillens.transfer.layers.matching import (
    Matching,
    candidate_layers,
    found_shapes,
    match_layers,
    monotone_pairs,
    pair_auto,
    shapes_text,
    with_taps,
)
from distillens.transfer.objectives.fitnet import FitNet
from distillens.transfer.objectives.kd import KD
from distillens.transfer.objectives.simkd import SimKD
from distillens.transfer.training.transfer import Transfer


def images(n: int, size: int = 16, seed: int = 0) -> Tensor:
    """Smooth random fields of different brightness: rows that differ as images do, not as white noise."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, 4, 4, generator=rng) + torch.randn(n, 1, 1, 1, generator=rng)
    return nn.functional.interpolate(coarse, (size, size), mode="bilinear")


def net(entry: dict[str, Any], seed: int = 0, size: int = 16) -> nn.Module:
    return initialised(as_image_net(entry), (3, size, size), 5, seed=seed)


def test_unbiased_hsic_is_its_definition_as_a_mean_over_quadruples() -> None:
    """HSIC = E k(x,x') l(x,x') + E k E l − 2 E k(x,x') l(x,x''), over distinct rows: summed out over all quadruples."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(7, 3)), rng.normal(size=(7, 2)) ** 3
    k, l = a @ a.T, b @ b.T  # noqa: E741
    terms = [
        k[i, j] * l[i, j] + k[i, j] * l[q, r] - 2 * k[i, j] * l[i, q]
        for i, j, q, r in itertools.permutations(range(7), 4)
    ]
    assert hsic_unbiased(k, l) == pytest.approx(np.mean(terms), rel=1e-10)
    with pytest.raises(ValueError, match="at least 4"):
        hsic_unbiased(k[:3, :3], l[:3, :3])


def test_cka_is_one_for_the_same_geometry_and_zero_on_average_for_none() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 8)) @ rng.normal(size=(8, 8)) + 100
    rotation = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    assert debiased_cka(a, 3.7 * a @ rotation - 5) == pytest.approx(1)
    assert debiased_cka(a, np.ones((60, 3))) != debiased_cka(a, np.ones((60, 3)))  # NaN
    wide = [debiased_cka(rng.normal(size=(30, 300)), rng.normal(size=(30, 300))) for _ in range(200)]
    spread = np.std(wide) / np.sqrt(200)
    assert abs(np.mean(wide)) < 4 * spread < 0.02  # the biased one is near 0.9 here
    biased = [_biased_cka(rng.normal(size=(30, 300)), rng.normal(size=(30, 300))) for _ in range(3)]
    assert min(biased) > 0.8


def _biased_cka(a: Any, b: Any) -> float:
    a, b = a - a.mean(0), b - b.mean(0)
    return float(np.linalg.norm(a.T @ b) ** 2 / np.linalg.norm(a.T @ a) / np.linalg.norm(b.T @ b))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 3), (3, 5), (4, 6), (5, 3), (4, 2)])
def test_the_pairing_is_the_best_of_all_that_keep_the_order(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(shape[0] * 10 + shape[1])
    for _ in range(20):
        value = rng.uniform(-0.2, 1, shape)
        if shape[0] <= shape[1]:
            allowed = itertools.combinations(range(shape[1]), shape[0])
        else:
            allowed = itertools.combinations_with_replacement(range(shape[1]), shape[0])
        best = max(allowed, key=lambda columns: sum(value[i, j] for i, j in enumerate(columns)))
        assert monotone_pairs(value) == best
    with pytest.raises(InputError, match="shape"):
        monotone_pairs(np.zeros((0, 3)))


def test_a_layer_that_does_not_vary_counts_for_nothing() -> None:
    assert monotone_pairs(np.array([[np.nan, np.nan, 0.4], [np.nan, 0.9, 0.2]])) == (0, 1)


def test_candidates_are_stages_blocks_and_layers_of_plain_stacks() -> None:
    x = images(2)
    resnet, wide = net({"kind": "resnet", "depth": 14}), net({"kind": "wide_resnet", "depth": 16, "width": 1})
    assert candidate_layers(resnet, x) == ("stages.0.1:output", "stages.1.1:output", "stages.2.1:output")
    assert candidate_layers(wide, x) == ("stages.0.1:output", "stages.1.1:output", "stages.2.1:output")
    mobile = net({"kind": "mobilenet_v2", "width": 0.25}, size=32)
    assert candidate_layers(mobile, images(2, 32)) == tuple(f"stages.{i}:output" for i in ("1.1", "2.2", "4.2", "6.0"))
    vit = net({"kind": "vit", "patch": 4, "width": 12, "depth": 3, "heads": 2})
    assert candidate_layers(vit, x) == ("blocks.0:output", "blocks.1:output", "blocks.2:output")
    assert candidate_layers(mlp(4, (8, 8), 3, dropout=0.1), torch.ones(2, 4)) == ("2:output", "5:output")
    vgg = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 6), nn.ReLU(), nn.Linear(6, 3),
    )  # fmt: skip
    assert candidate_layers(vgg, x) == ("1:output", "4:output", "7:output", "9:output")


class Stage(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.b1 = Sum(before, after, stride)
        self.b2 = Sum(after, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b2(self.b1(x))
        return out


class Sum(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(before, after, 1, stride), nn.Conv2d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.one(x) + self.two(x).relu()
        return out


class Recurrent(nn.Module):
    """Stages that stand beside each other under names of their own, and a block that is called three times and returns a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.s1, self.s2 = Stage(3, 4, 1), Stage(4, 6, 2)
        self.shared = nn.ModuleList([nn.LSTM(6, 6, batch_first=True), Wrapped(6)])
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.s2(self.s1(x)).flatten(2).transpose(1, 2)
        for _ in range(3):
            tokens, _ = self.shared[1](tokens)
        out: Tensor = self.head(tokens[:, 0])
        return out


class Wrapped(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(x).relu(), x


def test_candidates_beside_each_other_and_called_several_times() -> None:
    assert candidate_layers(Recurrent(), images(2, 8)) == (
        "s1:output", "s2:output", "shared.1:output[0]#1", "shared.1:output[0]#2", "shared.1:output[0]#3",
    )  # fmt: skip


def test_a_network_is_matched_with_itself_layer_by_layer() -> None:
    model, x = net({"kind": "resnet", "depth": 14}), images(200)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    matching = match_layers(model, model, x, x)
    assert matching.pairs == (0, 1, 2)
    np.testing.assert_allclose(np.diag(matching.cka), 1, rtol=1e-9)
    np.testing.assert_allclose(matching.cka, matching.cka.T, rtol=1e-9)
    assert matching.cka[0, 2] < 0.999
    assert matching.rows == 200
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_one_batch_is_debiased_cka_and_several_are_averages_of_hsic() -> None:
    a, b = net({"kind": "resnet", "depth": 8}, seed=1), net({"kind": "wide_resnet", "depth": 10, "width": 1}, seed=2)
    x, y = images(96), images(96, seed=0)
    with torch.no_grad(), capture(a, ["stages.1:output"]) as left, capture(b, ["stages.2:output", "features"]) as right:
        a(x), b(y)
    features = [
        v.flatten(1).double().numpy() for v in (left["stages.1:output"], right["stages.2:output"], right["features"])
    ]
    taps: dict[str, Any] = {"student_taps": ["stages.1:output"], "teacher_taps": ["stages.2:output", "features"]}
    whole = match_layers(a, b, x, y, batch=96, **taps).cka[0]
    np.testing.assert_allclose(whole, [debiased_cka(features[0], f) for f in features[1:]], rtol=1e-6)
    halves = match_layers(a, b, x, y, batch=48, **taps).cka[0]
    parts = []
    for half in (slice(0, 48), slice(48, 96)):
        centred = [f[half] - f[half].mean(0) for f in features]
        grams = [f @ f.T / (f**2).mean() for f in centred]
        parts.append([[hsic_unbiased(grams[i], grams[j]) for i, j in ((0, k), (0, 0), (k, k))] for k in (1, 2)])
    sums = np.sum(parts, axis=0)
    np.testing.assert_allclose(halves, sums[:, 0] / np.sqrt(sums[:, 1] * sums[:, 2]), rtol=1e-6)
    assert abs(halves - whole).max() < 0.1


def test_a_small_student_follows_a_deep_teacher_in_order() -> None:
    x = images(300)
    student, teacher = (
        net({"kind": "resnet", "depth": 8}, seed=3),
        net({"kind": "vit", "width": 24, "depth": 5, "heads": 3}, seed=4),
    )
    matching = match_layers(student, teacher, x, x)
    assert matching.cka.shape == (3, 5)
    assert list(matching.pairs) == sorted(set(matching.pairs))
    reversed_roles = match_layers(teacher, student, x, x)
    assert len(reversed_roles.pairs) == 5
    assert list(reversed_roles.pairs) == sorted(reversed_roles.pairs)


def test_the_record_is_readable_and_goes_to_json_and_back() -> None:
    cka = np.array([[0.8, 0.1, np.nan], [0.2, 0.5, 0.9]])
    matching = Matching(
        ("a:output", "b:output"),
        ("x:output", "y:output", "z:output"),
        ((4, 8, 8), (8,)),
        ((2,), (3,), (4,)),
        cka,
        (0, 2),
        512,
        128,
    )
    text = str(matching)
    assert text.splitlines()[2].split() == ["a:output", "(4×8×8)", "[0.80]", "0.10", "–"]
    assert text.splitlines()[3].split() == ["b:output", "(8)", "0.20", "0.50", "[0.90]"]
    assert "t3 = z:output (4)" in text
    again = Matching.from_json(json.loads(json.dumps(matching.to_json(), allow_nan=False)))
    np.testing.assert_array_equal(again.cka, cka)
    assert (again.student, again.teacher, again.pairs, again.rows, again.batch) == (
        matching.student, matching.teacher, matching.pairs, 512, 128,
    )  # fmt: skip
    assert again.teacher_taps == ("x:output", "z:output")
    assert str(again) == text


@dataclass(frozen=True)
class Hint:
    student_taps: Any = "auto"
    teacher_taps: Any = "auto"
    kind: ClassVar[str] = "hint"


def test_auto_taps_become_the_pairs() -> None:
    a, b = net({"kind": "resnet", "depth": 8}), net({"kind": "resnet", "depth": 14, "width": 2})
    x = images(64)
    matching = match_layers(a, b, x, x)
    hint = with_taps(Hint(), matching)
    assert hint == Hint(matching.student_taps, matching.teacher_taps)
    assert len(hint.teacher_taps) == 3
    named = Hint(("features",), ("features",))
    assert with_taps(named, matching) is named
    kd = KD()
    assert with_taps(kd, matching) is kd
    with pytest.raises(InputError, match='"auto" for both'):
        with_taps(Hint(("features",)), matching)
    shapes = found_shapes([hint, named, kd], a, b, x, x, rows=64)
    assert shapes.student["features"] == (64,)
    assert shapes.teacher[hint.teacher_taps[-1]] == (128, 4, 4)
    assert (shapes.student_outputs, shapes.teacher_outputs, shapes.rows) == (5, 5, 64)
    assert shapes_text([hint, named, kd], shapes).splitlines()[-1] == "hint  features (64) ← features (128)"
    with pytest.raises(InputError, match="pair layers first"):
        found_shapes([Hint()], a, b, x, x, rows=64)


def trained(transfer: Transfer, x: Tensor, steps: int = 8) -> list[float]:
    optimizer = torch.optim.AdamW(transfer.trainable_parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        loss = transfer(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_paired_layers_train_a_student_and_its_projectors() -> None:
    x = images(32)
    student, teacher = (
        net({"kind": "resnet", "depth": 8}),
        net({"kind": "wide_resnet", "depth": 10, "width": 2}, seed=1),
    )
    student.train()
    (hint, kd), matching = pair_auto([FitNet(), KD()], student, teacher, x, x)
    assert matching is not None
    assert (hint.student_taps, hint.teacher_taps) == (matching.student_taps, matching.teacher_taps)
    assert pair_auto([kd], student, teacher, x, x) == ((kd,), None)
    transfer = Transfer(teacher, student, [hint], task_weight=0, example=x)
    before = {name: value.clone() for name, value in transfer.named_parameters()}
    losses = trained(transfer, x)
    assert losses[-1] < 0.8 * losses[0]
    moved = {name for name, value in transfer.named_parameters() if not torch.equal(before[name], value)}
    assert {name for name in before if name.startswith("terms.")} <= moved  # the projectors
    assert "student.stages.2.0.conv2.weight" in moved
    assert not {name for name in before if "classifier" in name} & moved  # nothing was said about the outputs


def test_a_student_learns_the_features_that_its_teachers_classifier_reads() -> None:
    x = images(32)
    student, teacher = (
        net({"kind": "resnet", "depth": 8}),
        net({"kind": "wide_resnet", "depth": 10, "width": 2}, seed=1),
    )
    reuse_classifier(student, teacher, x, x)
    student.train()
    head = {name: value.clone() for name, value in student.state_dict().items() if "reused" in name}
    losses = trained(Transfer(teacher, student, [SimKD()], task_weight=0, example=x), x, steps=15)
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(head[name], student.state_dict()[name]) for name in head)


def test_what_cannot_be_matched_is_said() -> None:
    model, x = net({"kind": "resnet", "depth": 8}), images(10)
    with pytest.raises(InputError, match="given 10 and the teacher 9"):
        match_layers(model, model, x, x[:9])
    with pytest.raises(InputError, match="at least 4 rows"):
        match_layers(model, model, x[:3], x[:3])
    with pytest.raises(InputError, match="has no layer 'stage.0'"):
        match_layers(model, model, x, x, student_taps=["stage.0:output"])
    with pytest.raises(InputError, match="student has no layers to pair"):
        match_layers(nn.Sequential(nn.Flatten(), nn.Linear(768, 2))[1:], model, x.flatten(1), x)
