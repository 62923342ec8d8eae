"""Objectives on explanations: identities, units and sizes of inputs, hostile networks, second derivatives, frozen maps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distillens.errors import InputError
from distillens.objectives import (
    AttributionMatching,
    Batch,
    GradCAMMatching,
    GradientMatching,
    JacobianMatching,
    NoiseQueries,
    View,
    attribution_matching_loss,
    gradcam_matching_loss,
    gradient_matching_loss,
    integrated_gradients,
    jacobian_loss,
)

TAPS: dict[str, Any] = {"student_taps": ("a",), "teacher_taps": ("a",)}
ALL: dict[str, Any] = {
    "gradient_matching": GradientMatching(),
    "logits": GradientMatching(scale="logit"),
    "jacobian": JacobianMatching(),
    "whole jacobian": JacobianMatching(outputs="all"),
    "gradcam_matching": GradCAMMatching(**TAPS),
    "signed gradcam": GradCAMMatching(relu=False, **TAPS),
    "attribution_matching": AttributionMatching(steps=3),
    "from the mean": AttributionMatching(steps=3, reference="mean"),
    "noise_queries": NoiseQueries(draws=2),
}


class Net(nn.Module):
    """Convolution (tap a) → activation → convolution → average → linear; smooth unless told otherwise."""

    def __init__(self, seed: int = 0, outputs: int = 3, activation: type[nn.Module] = nn.Softplus, channels: int = 2) -> None:  # fmt: skip
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.activation, self.last = activation(), nn.Linear(5, outputs)
        self.layer: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.layer = self.activation(self.first(x))
        out: Tensor = self.last(self.activation(self.second(self.layer)).mean(dim=(2, 3)))
        return out


def view(net: Any, x: Tensor, *, gradients: bool = True) -> View:
    x = x.clone().requires_grad_(gradients)
    outputs = net(x)
    layers = {} if getattr(net, "layer", None) is None else {"a": net.layer}
    return View(outputs, x, layers, ask=net)


def batch(rows: int) -> Batch:
    return Batch(torch.ones(rows), torch.zeros(rows), draw=torch.Generator().manual_seed(0))


def images(rows: int = 4, channels: int = 2, side: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(rows, channels, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ALL)
def test_the_student_learns_and_the_teacher_does_not(name: str) -> None:
    student, teacher, x = Net(0), Net(6), images()
    state = torch.get_rng_state()
    loss = ALL[name](view(student, x), view(teacher, x), batch(4))
    assert torch.equal(state, torch.get_rng_state())
    assert loss.per_example.shape == (4,)
    assert 0 < loss.value.item() < 5
    loss.value.backward()
    grads = {n: p.grad for n, p in student.named_parameters()}
    assert all(g is None or g.isfinite().all() for g in grads.values())
    assert grads["first.weight"] is not None
    assert grads["first.weight"].any()
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("outputs", [1, 2, 4])
@pytest.mark.parametrize("factor", [1.0, 1e4])
def test_a_student_that_is_its_teacher_scores_0(name: str, outputs: int, factor: float) -> None:
    net, x = Net(0, outputs), images()
    with torch.no_grad():
        net.last.weight *= factor  # saturated: logits far beyond ±60
    loss = ALL[name](view(net, x), view(net, x), batch(4))
    assert loss.value.item() == pytest.approx(0, abs=1e-6)
    loss.value.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("case", ["dead", "dead teacher", "saturated", "same rows", "one row", "one pixel", "relu"])
def test_hostile_networks_give_finite_losses_and_gradients(name: str, case: str) -> None:
    student = Net(0, activation=nn.ReLU if case in ("dead", "relu") else nn.Softplus)
    teacher, x = Net(6, activation=nn.ReLU if case == "dead teacher" else nn.Softplus), images()
    with torch.no_grad():
        for net in (student,) if case == "dead" else (teacher,) if case == "dead teacher" else ():
            net.first.bias.fill_(-1e3)
        if case == "saturated":
            for net, sign in ((student, 1), (teacher, -1)):
                net.last.bias.copy_(torch.tensor([60.0, -60.0, 0.0]) * sign)
                net.last.weight *= 60
    x = x[:1].expand(4, -1, -1, -1) if case == "same rows" else x[:1] if case == "one row" else x
    x = x[:, :, :1, :1] if case == "one pixel" else x
    loss = ALL[name](view(student, x), view(teacher, x), batch(len(x)))
    assert loss.value.isfinite()
    loss.value.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())
    if case == "dead teacher" and name not in ("noise_queries",):
        assert loss.value == 0


@pytest.mark.parametrize("name", ALL)
def test_inside_autocast_the_loss_is_float32(name: str) -> None:
    student, teacher, x = Net(0), Net(6), images()
    plain = ALL[name](view(student, x), view(teacher, x), batch(4)).value
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ALL[name](view(student, x), view(teacher, x), batch(4)).value
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(plain.item(), rel=0.15, abs=0.02)
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


class Recoded(nn.Module):
    """A network behind another preprocessing: it takes a·x + b a channel and answers as the inner one answers x."""

    def __init__(self, net: nn.Module, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.net, self.scale, self.shift = net, scale, shift

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net((x - self.shift) / self.scale)
        return out


@pytest.mark.parametrize("name", ["gradient_matching", "jacobian", "whole jacobian", "from the mean", "noise_queries"])
def test_another_preprocessing_of_the_same_pixels_changes_nothing(name: str) -> None:
    teacher, x = Net(0).double(), images().double()
    scale, shift = torch.tensor([0.2, 5.0]).double()[:, None, None], torch.tensor([3.0, -1.0]).double()[:, None, None]
    student = Recoded(teacher, scale, shift)
    loss = ALL[name](view(student, scale * x + shift), view(teacher, x), batch(4))
    assert loss.value.item() == pytest.approx(0, abs=1e-9)
    other = ALL[name](view(Recoded(Net(3).double(), scale, shift), scale * x + shift), view(teacher, x), batch(4))
    same = ALL[name](view(Net(3).double(), x), view(teacher, x), batch(4))
    assert other.value.item() == pytest.approx(same.value.item(), rel=1e-9)
    if name == "gradient_matching":  # without units in common the same two networks would seem to differ
        raw = [torch.autograd.grad(v.outputs.sum(), v.inputs)[0] for v in (view(student, scale * x + shift), view(teacher, x))]  # fmt: skip
        assert gradient_matching_loss(*raw).mean() > 0.1


@pytest.mark.parametrize("name", ["gradient_matching", "from the mean", "noise_queries"])
def test_other_codings_of_the_features_of_a_table_change_nothing(name: str) -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(5, 8), nn.Softplus(), nn.Linear(8, 3)).double()
    x = torch.randn(7, 5).double()
    scale, shift = torch.tensor([1.0, 1e3, 0.1, 7.0, 2.0]).double(), torch.tensor([0.0, 9.0, -1.0, 0.5, 2.0]).double()
    loss = ALL[name](view(Recoded(teacher, scale, shift), scale * x + shift), view(teacher, x), batch(7))
    assert loss.value.item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["gradient_matching", "attribution_matching", "jacobian", "noise_queries"])
def test_a_student_of_averaged_images_explains_like_a_teacher_that_averages_them(name: str) -> None:
    net, x = Net(0).double(), images(side=8).double()

    def teacher(large: Tensor) -> Tensor:
        out: Tensor = net(nn.functional.avg_pool2d(large, 2))
        return out

    loss = ALL[name](view(net, nn.functional.avg_pool2d(x, 2)), view(teacher, x), batch(4))
    assert loss.value.item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["gradient_matching", "attribution_matching", "noise_queries"])
def test_grey_images_beside_three_normalised_copies(name: str) -> None:
    grey, net = images(channels=1).double(), Net(0, channels=1).double()
    mean, scale = (torch.tensor(v).double()[:, None, None] for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.25]))

    def student(colour: Tensor) -> Tensor:
        out: Tensor = net((colour * scale + mean).mean(dim=1, keepdim=True))
        return out

    objective = replace(ALL[name], reference="mean") if name == "attribution_matching" else ALL[name]
    colour = (grey - mean) / scale
    own, taught = view(student, colour), view(net, grey)
    loss = objective(own, taught, batch(4))
    if name != "noise_queries":
        assert loss.value.item() == pytest.approx(0, abs=1e-9)
        return
    seen: list[Tensor] = []
    objective(replace(own, ask=lambda x: (seen.append(x), student(x))[1]), replace(taught, ask=lambda x: (seen.append(x), net(x))[1]), batch(4))  # fmt: skip
    torch.testing.assert_close((seen[1] * scale + mean).mean(dim=1, keepdim=True), seen[0])
    assert loss.value.item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("loss", [gradient_matching_loss, jacobian_loss, attribution_matching_loss])
def test_the_size_of_a_map_does_not_count(loss: Any) -> None:
    maps, other = torch.randn(3, 2, 4, 4, requires_grad=True), torch.randn(3, 2, 4, 4)
    plain = loss(maps, other)
    for factor in (1e-8, 1e-3, 1e12):
        torch.testing.assert_close(loss(factor * maps, other), plain)
        torch.testing.assert_close(loss(maps, factor * other), plain)
    (grad,) = torch.autograd.grad(plain.sum(), maps)
    torch.testing.assert_close(
        (grad * maps).sum(dim=(1, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0
    )  # nothing along the map
    most = 4 if loss is jacobian_loss else 2
    torch.testing.assert_close(loss(-other, other), torch.full((3,), float(most)))


@pytest.mark.parametrize("loss", [gradient_matching_loss, jacobian_loss, attribution_matching_loss, gradcam_matching_loss])  # fmt: skip
def test_maps_without_direction(loss: Any) -> None:
    nothing = torch.zeros(2, 3, 3, requires_grad=True)
    some = torch.randn(2, 3, 3, requires_grad=True)
    for student, teacher, expected in ((nothing, some, 1.0), (some, nothing, 0.0), (nothing, nothing, 0.0)):
        value = loss(student, teacher)
        torch.testing.assert_close(value, torch.full((2,), expected))
        (grad,) = torch.autograd.grad(value.sum(), student)
        assert not grad.any()
        assert grad.isfinite().all()


@pytest.mark.parametrize("loss", [gradient_matching_loss, jacobian_loss, attribution_matching_loss, gradcam_matching_loss])  # fmt: skip
def test_first_and_second_derivatives_of_the_losses(loss: Any) -> None:
    torch.manual_seed(0)
    student = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), student)
    assert torch.autograd.gradgradcheck(lambda s: loss(s, teacher), student)


@pytest.mark.parametrize("name", ["gradient_matching", "whole jacobian", "signed gradcam", "attribution_matching"])
def test_the_gradient_by_the_weights_is_that_of_finite_differences(name: str) -> None:
    x = images(rows=2, side=3).double()
    student, taught = Net(0).double(), view(Net(6).double(), x)

    def value(weight: Tensor) -> Tensor:
        def run(inputs: Tensor) -> Tensor:
            out: Tensor = torch.func.functional_call(student, {"first.weight": weight}, (inputs,))  # type: ignore[no-untyped-call]
            return out

        inputs = x.clone().requires_grad_()
        outputs = run(inputs)
        assert student.layer is not None
        return ALL[name](View(outputs, inputs, {"a": student.layer}, ask=run), taught, batch(2)).value

    weight = student.first.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(value, weight)


@pytest.mark.parametrize("name", ["gradient_matching", "jacobian", "gradcam_matching", "attribution_matching"])
def test_frozen_maps_of_the_teacher_give_the_same_loss(name: str) -> None:
    student, teacher, x = Net(0), Net(6), images()
    live = view(teacher, x)
    target = live.outputs.argmax(dim=1)
    z = live.outputs
    others = torch.stack([torch.cat([row[:c], row[c + 1 :]]) for row, c in zip(z, target.tolist(), strict=True)])
    odds = z.gather(1, target[:, None])[:, 0] - others.logsumexp(dim=1)
    (by_inputs,) = torch.autograd.grad(odds.sum(), live.inputs, retain_graph=True)
    (by_layer,) = torch.autograd.grad(odds.sum(), live.layers["a"], retain_graph=True)
    cam = (by_layer.mean(dim=(2, 3), keepdim=True) * live.layers["a"]).sum(dim=1, keepdim=True).relu().detach()
    attributions = integrated_gradients(teacher, x, target, reference=x.new_zeros(()), steps=3)
    frozen = {"gradcam_matching": cam, "attribution_matching": attributions}.get(name, by_inputs)
    if name != "jacobian":
        torch.testing.assert_close(ALL[name].teacher_map(live), frozen[:, 0] if name == "gradcam_matching" else frozen)
        assert not ALL[name].teacher_map(live).requires_grad
    cached = View(z.detach(), x, explanations=frozen)  # no graph, no layers, nobody to ask
    expected = ALL[name](view(student, x), live, batch(4)).value
    torch.testing.assert_close(ALL[name](view(student, x), cached, batch(4)).value, expected)


def test_frozen_maps_may_be_summed_over_channels() -> None:
    student, x = Net(0), images()
    summed = torch.randn(4, 6, 6)
    loss = GradientMatching()(view(student, x), View(torch.randn(4, 3), x, explanations=summed), batch(4))
    own = view(student, x)
    assert loss.per_example is not None
    assert own.inputs.shape == (4, 2, 6, 6)
    assert loss.value.isfinite()


def test_matching_gradients_makes_students_explain_like_their_teacher() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(6, 16), nn.Softplus(), nn.Linear(16, 3))
    student = nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 3))
    with torch.no_grad():
        teacher[0].weight *= 3
    x, unseen = torch.randn(64, 6), torch.randn(64, 6)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.02)

    def distance(rows: Tensor) -> Tensor:
        return GradientMatching()(view(student, rows), view(teacher, rows), batch(64)).value

    before = distance(unseen).item()
    for _ in range(80):
        optimizer.zero_grad()
        distance(x).backward()
        optimizer.step()
    assert distance(unseen).item() < 0.5 * before


def test_relu_networks_have_no_second_derivative_by_their_inputs() -> None:
    torch.manual_seed(0)
    for activation, bends in ((nn.ReLU, False), (nn.Softplus, True)):
        net = nn.Sequential(nn.Linear(3, 8), activation(), nn.Linear(8, 1))
        x = torch.randn(5, 3, requires_grad=True)
        (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
        second = torch.autograd.grad(slope.square().sum(), x, allow_unused=True)[0] if slope.requires_grad else None
        assert (second is not None and bool(second.any())) == bends


def ints(x: Tensor) -> View:
    return View(torch.randn(len(x), 3, requires_grad=True), torch.zeros(len(x), 5, dtype=torch.long), ask=Net())


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("gradient_matching", lambda s, t: (view(Net(), images(), gradients=False), t), "require gradients"),
        ("jacobian", lambda s, t: (s, view(Net(), images(), gradients=False)), "teacher's inputs"),
        ("gradient_matching", lambda s, t: (replace(s, outputs=s.outputs.detach()), t), "require gradients"),
        ("gradient_matching", lambda s, t: (replace(s, inputs=s.inputs.detach().requires_grad_()), t), "do not depend"),
        ("gradient_matching", lambda s, t: (ints(s.inputs), t), "whole numbers"),
        ("attribution_matching", lambda s, t: (ints(s.inputs), t), "whole numbers"),
        ("noise_queries", lambda s, t: (ints(s.inputs), t), "whole numbers"),
        ("gradient_matching", lambda s, t: (s, replace(t, explanations=torch.ones(4, 7))), "images"),
        ("attribution_matching", lambda s, t: (replace(s, ask=None), t), "student"),
        ("attribution_matching", lambda s, t: (s, replace(t, ask=None)), "teacher"),
        ("noise_queries", lambda s, t: (s, replace(t, ask=None)), "teacher"),
        ("noise_queries", lambda s, t: (s, replace(t, inputs=torch.ones(4, 9))), "images"),
        ("gradcam_matching", lambda s, t: (replace(s, layers={"a": torch.ones(4, 3)}), t), "vector"),
        ("gradcam_matching", lambda s, t: (replace(s, layers={"b": s.layers["a"]}), t), "'a'"),
        ("gradcam_matching", lambda s, t: (replace(s, layers={"a": torch.ones(4, 3, 7, 7)}), t), "student's layer"),
        ("whole jacobian", lambda s, t: (view(Net(outputs=2), images()), t), "same outputs"),
    ],
)
def test_what_cannot_be_explained_is_said(name: str, change: Any, match: str) -> None:
    student, teacher = change(view(Net(0), images()), view(Net(6), images()))
    with pytest.raises(InputError, match=match):
        ALL[name](student, teacher, batch(4))


def test_noise_without_a_generator_is_said() -> None:
    with pytest.raises(InputError, match=r"Batch\.draw"):
        NoiseQueries()(view(Net(0), images()), view(Net(6), images()), replace(batch(4), draw=None))


def test_cached_maps_are_for_one_layer() -> None:
    objective = GradCAMMatching(student_taps=("a", "a"), teacher_taps=("a", "a"))
    for several in (objective, GradCAMMatching()):
        with pytest.raises(InputError, match="one layer"):
            several.teacher_map(view(Net(1), images()))
    cached = View(torch.randn(4, 3), images(), explanations=torch.rand(4, 6, 6))
    with pytest.raises(InputError, match="one pair"):
        objective(view(Net(0), images()), cached, batch(4))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: GradientMatching(scale="probability"), "log_odds or logit"),  # type: ignore[arg-type]
        (lambda: GradientMatching(weight=-1), "weight"),
        (lambda: JacobianMatching(outputs="best"), "top or all"),  # type: ignore[arg-type]
        (lambda: GradCAMMatching(student_taps=("a",)), "both"),
        (lambda: GradCAMMatching(scale=""), "log_odds or logit"),  # type: ignore[arg-type]
        (lambda: AttributionMatching(steps=0), "steps"),
        (lambda: AttributionMatching(reference="blur"), "zero or mean"),  # type: ignore[arg-type]
        (lambda: NoiseQueries(sigma=0), "sigma"),
        (lambda: NoiseQueries(draws=0), "draws"),
        (lambda: NoiseQueries(temperature=0), "temperature"),
        (lambda: gradient_matching_loss(torch.ones(2, 3), torch.ones(2, 4)), "one shape"),
        (lambda: jacobian_loss(torch.ones(2, 3), torch.ones(2, 4)), "one shape"),
        (lambda: gradcam_matching_loss(torch.ones(2, 3), torch.ones(2, 3)), "Maps"),
        (lambda: attribution_matching_loss(torch.ones(2, 3), torch.ones(2, 4)), "images"),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(make: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make()
