"""Objectives on feature maps: identities, invariances, hostile activations, and what is learned beside the student."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distillens.errors import InputError
from distillens.objectives import (
    CATKD,
    MGD,
    VID,
    AttentionTransfer,
    Batch,
    FitNet,
    ReviewKD,
    Shapes,
    SimKD,
    View,
    attention_transfer_loss,
    cat_kd_loss,
    class_activation_maps,
    fitnet_loss,
    mgd_loss,
    review_loss,
    simkd_loss,
    vid_loss,
)
from distillens.transfer.objectives.base import as_objective, term_of

KINDS: dict[str, Any] = {
    "fitnet": FitNet,
    "attention_transfer": AttentionTransfer,
    "vid": VID,
    "mgd": MGD,
    "review": ReviewKD,
    "simkd": SimKD,
    "cat_kd": CATKD,
}
LEARNED = ("fitnet", "vid", "mgd", "review")
STUDENT, TEACHER = [(3, 6, 6), (5, 3, 3)], [(4, 6, 6), (6, 2, 2)]


def entry(kind: str, **options: Any) -> Any:
    """The objective on two pairs of layers, a and b."""
    return KINDS[kind](**({"student_taps": ("a", "b"), "teacher_taps": ("a", "b")} | options))


def shapes_for(kind: str) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    return (TEACHER, TEACHER) if kind == "simkd" else (STUDENT, TEACHER)


def prepared(kind: str, *, rows: int = 4, scale: float = 1.0, seed: int = 0, **options: Any) -> tuple[Any, View, View, Batch]:  # fmt: skip
    objective = entry(kind, **options)
    draw = torch.Generator().manual_seed(seed)
    s_shapes, t_shapes = shapes_for(kind)
    s = {n: (scale * torch.randn(rows, *shape, generator=draw)).requires_grad_() for n, shape in zip("ab", s_shapes, strict=True)}  # fmt: skip
    t = {n: (scale * torch.randn(rows, *shape, generator=draw)).requires_grad_() for n, shape in zip("ab", t_shapes, strict=True)}  # fmt: skip
    w_s, w_t = torch.randn(3, s_shapes[-1][0], generator=draw), torch.randn(3, t_shapes[-1][0], generator=draw)
    z = torch.randn(rows, 3, generator=draw)
    term = term_of(objective, Shapes(dict(zip("ab", s_shapes, strict=True)), dict(zip("ab", t_shapes, strict=True)), 3, 3, 50))  # fmt: skip
    batch = Batch(torch.ones(rows), torch.zeros(rows), draw=torch.Generator().manual_seed(1))
    return term, View(z, z, s, classifier=w_s.requires_grad_()), View(z, z, t, classifier=w_t.requires_grad_()), batch


@pytest.mark.parametrize("kind", KINDS)
def test_the_student_learns_and_the_teacher_does_not(kind: str) -> None:
    term, student, teacher, batch = prepared(kind)
    loss = term(student, teacher, batch)
    assert loss.value.shape == ()
    assert loss.per_example.shape == (4,)
    assert loss.value.item() == pytest.approx(loss.per_example.mean().item())
    loss.value.backward()
    taught = [student.layers["b"]] if kind == "cat_kd" else list(student.layers.values())
    assert all(layer.grad is not None and layer.grad.isfinite().all() and layer.grad.any() for layer in taught)
    assert all(layer.grad is None for layer in teacher.layers.values())
    assert teacher.classifier is not None
    assert teacher.classifier.grad is None
    if kind == "cat_kd":
        assert student.classifier is not None
        assert student.classifier.grad is not None
        assert student.classifier.grad.any()


@pytest.mark.parametrize("kind", LEARNED)
def test_what_is_learned_moves_and_is_the_same_for_the_same_seed(kind: str) -> None:
    term, student, teacher, batch = prepared(kind)
    twin = prepared(kind)[0]
    assert all(torch.equal(a, b) for a, b in zip(term.state_dict().values(), twin.state_dict().values(), strict=True))
    before = {name: p.detach().clone() for name, p in term.named_parameters()}
    optimizer = torch.optim.SGD(term.parameters(), lr=0.1)
    term(student, teacher, batch).value.backward()
    optimizer.step()
    still = [name for name, p in term.named_parameters() if torch.equal(p, before[name])]
    assert still == []
    assert not any("student" in name or "teacher" in name for name in before)


@pytest.mark.parametrize("kind", LEARNED)
def test_training_the_projectors_alone_lowers_the_loss(kind: str) -> None:
    term, student, teacher, batch = prepared(kind)
    optimizer = torch.optim.Adam(term.parameters(), lr=0.05)
    history = []
    for _ in range(30):
        value = term(student, teacher, replace(batch, draw=torch.Generator().manual_seed(1))).value
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        history.append(value.item())
    assert history[-1] < 0.9 * history[0]


@pytest.mark.parametrize("power", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("mode", ["code", "paper"])
def test_attention_transfer_of_equal_maps_is_0_whatever_their_scale(mode: Any, power: float) -> None:
    maps = torch.randn(3, 4, 5, 5, requires_grad=True)
    for teacher in (maps, 7.3 * maps, 1e-8 * maps, 1e12 * maps):
        loss = attention_transfer_loss(maps, teacher, mode=mode, power=power)
        assert (loss < 1e-6).all()
        (grad,) = torch.autograd.grad(loss.sum(), maps)
        assert grad.isfinite().all()
    assert (attention_transfer_loss(maps, maps, mode=mode, power=power) == 0).all()


def test_the_two_modes_differ_by_the_number_of_positions() -> None:
    s, t = torch.rand(3, 4, 8, 8), torch.rand(3, 2, 8, 8)
    code, paper = attention_transfer_loss(s, t), attention_transfer_loss(s, t, mode="paper")
    torch.testing.assert_close(code * 64, paper.square())


def test_equal_features_score_0() -> None:
    maps = torch.randn(3, 4, 5, 5)
    for loss in (fitnet_loss, simkd_loss, mgd_loss):
        assert (loss(maps, maps) == 0).all()
    assert (review_loss([maps], [maps]) == 0).all()
    cams = class_activation_maps(maps, torch.randn(6, 4))
    assert (cat_kd_loss(cams, cams) == 0).all()
    torch.testing.assert_close(cat_kd_loss(100 * cams, cams), torch.zeros(3))
    assert (
        vid_loss(maps, maps, torch.ones(4)) == 0
    ).all()  # with σ² = 1; the smaller the variance, the smaller the loss
    none = FitNet(student_taps=("a",), teacher_taps=("a",), projector="none")
    term = term_of(none, Shapes({"a": (4, 5, 5)}, {"a": (4, 5, 5)}, 3, 3, 9))
    view = View(torch.zeros(3, 3), torch.zeros(3, 3), {"a": maps})
    assert term(view, view, Batch(torch.ones(3), torch.zeros(3))).value == 0
    assert list(term.parameters()) == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 60.0, 1e6])
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_activations_give_finite_losses_and_gradients(kind: str, scale: float, rows: int) -> None:
    term, student, teacher, batch = prepared(kind, rows=rows, scale=scale)
    loss = term(student, teacher, batch)
    assert loss.value.isfinite()
    loss.value.backward()
    assert all(layer.grad is None or layer.grad.isfinite().all() for layer in student.layers.values())


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("mode", ["code", "paper"])
def test_dead_units_identical_rows_and_single_pixels(mode: Any, power: float) -> None:
    dead = torch.zeros(2, 3, 4, 4, requires_grad=True)
    alive, row = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(1, 3, 4, 4)
    for s, t in ((dead, alive), (alive, dead), (dead, dead), (alive, row.expand(2, -1, -1, -1)), (alive[:, :, :1, :1], alive)):  # fmt: skip
        loss = attention_transfer_loss(s, t, mode=mode, power=power)
        assert loss.isfinite().all()
        if s.requires_grad:
            assert torch.autograd.grad(loss.sum(), alive if s is not dead else dead)[0].isfinite().all()
    cams = class_activation_maps(dead, torch.zeros(2, 3))
    loss = cat_kd_loss(cams, class_activation_maps(alive, torch.randn(2, 3)))
    assert torch.autograd.grad(loss.sum(), dead)[0].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_and_half_precision_layers_are_computed_in_float32(kind: str) -> None:
    term, student, teacher, batch = prepared(kind)
    plain = term(student, teacher, batch).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = term(student, teacher, replace(batch, draw=torch.Generator().manual_seed(1)))
    assert inside.value.dtype == torch.float32
    torch.testing.assert_close(inside.value, plain, rtol=1e-5, atol=1e-6)

    def halved(view: View) -> View:
        assert view.classifier is not None
        layers = {tap: layer.bfloat16() for tap, layer in view.layers.items()}
        return replace(view, layers=layers, outputs=view.outputs.bfloat16(), classifier=view.classifier.bfloat16())

    half = term(halved(student), halved(teacher), replace(batch, draw=torch.Generator().manual_seed(1))).value
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, plain, rtol=0.1, atol=1e-2)


def test_one_row_of_one_pixel_passes_the_review() -> None:
    objective = ReviewKD(student_taps=("a", "b"), teacher_taps=("a", "b"))
    term = term_of(objective, Shapes({"a": (3, 1, 1), "b": (4,)}, {"a": (2, 1, 1), "b": (5,)}, 3, 3, 9))
    student = View(torch.zeros(1, 3), torch.zeros(1, 3), {"a": torch.randn(1, 3, 1, 1), "b": torch.randn(1, 4)})
    teacher = View(torch.zeros(1, 3), torch.zeros(1, 3), {"a": torch.randn(1, 2, 1, 1), "b": torch.randn(1, 5)})
    assert term(student, teacher, Batch(torch.ones(1), torch.zeros(1))).value.isfinite()


def test_convolutions_and_transformers_teach_each_other() -> None:
    s_shapes, t_shapes = {"a": (4, 6, 6), "b": (10, 8)}, {"a": (17, 6), "b": (5, 3, 3)}
    student = View(torch.zeros(2, 3), torch.zeros(2, 3), {n: torch.randn(2, *s) for n, s in s_shapes.items()})
    teacher = View(torch.zeros(2, 3), torch.zeros(2, 3), {n: torch.randn(2, *t) for n, t in t_shapes.items()})
    for kind in ("fitnet", "attention_transfer", "vid", "mgd", "review"):
        term = term_of(entry(kind), Shapes(s_shapes, t_shapes, 3, 3, 9))
        batch = Batch(torch.ones(2), torch.zeros(2), draw=torch.Generator().manual_seed(0))
        assert term(student, teacher, batch).value.isfinite(), kind


def test_masks_come_from_the_batch_and_from_nowhere_else() -> None:
    term, student, teacher, batch = prepared("mgd", masked=0.5)
    state = torch.get_rng_state()
    values = [term(student, teacher, replace(batch, draw=torch.Generator().manual_seed(s))).value.item() for s in (1, 1, 2)]  # fmt: skip
    assert values[0] == values[1] != values[2]
    assert torch.equal(state, torch.get_rng_state())
    twin = prepared("mgd", masked=0.5)[0]
    own = [t(student, teacher, replace(batch, draw=None)).value.item() for t in (term, term, twin, twin)]
    assert own[0] == own[2] != own[1] == own[3]  # without one they come from a state that is kept with the weights


@pytest.mark.parametrize(
    ("loss", "shapes"),
    [
        (fitnet_loss, [(2, 3), (2, 3)]),
        (attention_transfer_loss, [(2, 2, 3, 3), (2, 3, 2, 2)]),
        (lambda s, t: attention_transfer_loss(s, t, mode="paper", power=3), [(2, 2, 2, 2), (2, 3, 2, 2)]),
        (lambda s, t: review_loss([s], [t]), [(2, 1, 5, 5), (2, 1, 5, 5)]),
        (lambda s, t: vid_loss(s, t, torch.tensor([0.3, 2.0], dtype=torch.float64)), [(2, 2, 3), (2, 2, 3)]),
        (cat_kd_loss, [(2, 2, 3, 3), (2, 2, 4, 4)]),
    ],
)
def test_gradients_are_those_of_finite_differences(loss: Any, shapes: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    student = torch.randn(*shapes[0], dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(*shapes[1], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)


def test_gradients_of_the_learned_parts_are_those_of_finite_differences() -> None:
    for kind in LEARNED:
        objective = entry(kind, student_taps=("a",), teacher_taps=("a",))
        term = term_of(objective, Shapes({"a": (2, 3, 3)}, {"a": (2, 2, 2)}, 3, 3, 9))
        assert isinstance(term, nn.Module)
        term.double()
        teacher = View(torch.zeros(2, 3), torch.zeros(2, 3), {"a": torch.randn(2, 2, 2, 2, dtype=torch.float64)})

        def value(layer: Tensor, term: Any = term, teacher: View = teacher) -> Tensor:
            batch = Batch(torch.ones(2), torch.zeros(2), draw=torch.Generator().manual_seed(0))
            return term(View(teacher.outputs, teacher.inputs, {"a": layer}), teacher, batch).value

        assert torch.autograd.gradcheck(value, torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)), kind


@pytest.mark.parametrize("kind", KINDS)
def test_options_that_make_no_sense_are_one_sentence(kind: str) -> None:
    for wrong in (
        {"weight": -1},
        {"warmup": -1.0},
        {"student_taps": ("a",)},
        {"student_taps": "auto"},
        {"student_taps": (), "teacher_taps": ()},
        {"student_taps": "layer4"},
    ):
        with pytest.raises(InputError):
            entry(kind, **wrong)
    made: Any = as_objective({"kind": kind, "student_taps": ["a"], "teacher_taps": ["b"]})
    assert made.student_taps == ("a",)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: entry("fitnet", projector="linear"), "learned or none"),
        (lambda: entry("attention_transfer", power=0), "power"),
        (lambda: entry("attention_transfer", mode="cod"), "code or paper"),
        (lambda: entry("vid", variance=0.0), "variance"),
        (lambda: entry("vid", epsilon=0.0), "epsilon"),
        (lambda: entry("mgd", masked=1.0), "share"),
        (lambda: entry("mgd", mask="row"), "channel or pixel"),
        (lambda: entry("review", middle=0), "middle"),
        (lambda: entry("cat_kd", grid=0), "grid"),
        (lambda: attention_transfer_loss(torch.ones(2, 3), torch.ones(2, 3)), "vector"),
        (lambda: fitnet_loss(torch.ones(2, 3), torch.ones(2, 4)), "project"),
        (lambda: simkd_loss(torch.ones(2, 3), torch.ones(2, 4)), "reuse_classifier"),
        (lambda: mgd_loss(torch.ones(2, 3), torch.ones(2, 4)), "one shape"),
        (lambda: review_loss([torch.ones(2, 3, 2, 2)], []), "one by one"),
        (lambda: vid_loss(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2)), "variance"),
        (lambda: class_activation_maps(torch.ones(2, 3, 4, 4), torch.ones(5, 4)), "3 channels"),
        (lambda: class_activation_maps(torch.ones(2, 3), torch.ones(5, 3)), "vector"),
        (lambda: cat_kd_loss(torch.ones(2, 3, 4, 4), torch.ones(2, 4, 4, 4)), "same rows and classes"),
        (lambda: term_of(FitNet(), Shapes({}, {}, 3, 3, 9)), "paired before training"),
        (lambda: term_of(entry("fitnet"), Shapes({"a": (3,), "bb": (3,)}, {"a": (3,), "b": (3,)}, 3, 3, 9)), "'bb'"),
        (
            lambda: term_of(
                entry("fitnet", projector="none"), Shapes(dict.fromkeys("ab", (3,)), dict.fromkeys("ab", (4,)), 3, 3, 9)
            ),
            "one shape",
        ),
        (
            lambda: term_of(entry("review"), Shapes(dict.fromkeys("ab", (7, 3)), dict.fromkeys("ab", (4,)), 3, 3, 9)),
            "grid",
        ),
    ],
)
def test_what_cannot_be_done_is_said(make: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make()


def test_a_classifier_that_is_not_there_is_said() -> None:
    term, student, teacher, batch = prepared("cat_kd")
    with pytest.raises(InputError, match="teacher's classifier"):
        term(student, replace(teacher, classifier=None), batch)
