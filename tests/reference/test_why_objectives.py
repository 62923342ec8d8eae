"""Objectives on explanations against finite differences in float64 NumPy, closed forms, and captum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from distillens.objectives import (
    AttributionMatching,
    Batch,
    GradCAMMatching,
    GradientMatching,
    JacobianMatching,
    NoiseQueries,
    View,
    gradcam,
    gradient_matching_loss,
    integrated_gradients,
    jacobian_loss,
    kd_loss,
)
from distillens.transfer.objectives.input_gradients import class_scores

Array = NDArray[np.float64]
Score = Callable[[Array], Array]  # one row of inputs → (K,) outputs


def mlp(seed: int, features: int, outputs: int) -> tuple[nn.Sequential, Score]:
    """A softplus network, and the same in NumPy."""
    draw = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Linear(features, 7), nn.Softplus(), nn.Linear(7, outputs)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    a, b, c, d = (p.detach().numpy() for p in module.parameters())
    return module, lambda x: c @ np.log1p(np.exp(a @ x + b)) + d


def by_differences(function: Callable[[Array], float], x: Array) -> Array:
    out, step = np.zeros_like(x), 1e-6
    for i in range(len(x)):
        away = np.zeros_like(x)
        away[i] = step
        out[i] = (function(x + away) - function(x - away)) / (2 * step)
    return out


def score(outputs: Array, target: int, scale: str) -> float:
    if len(outputs) == 1:
        return float(outputs[0])
    others = np.delete(outputs, target)
    return float(outputs[target] - (math.log(sum(math.exp(z) for z in others)) if scale == "log_odds" else 0.0))


def view(module: nn.Module, inputs: Tensor, **taps: nn.Module) -> View:
    layers: dict[str, Tensor] = {}
    handles = [m.register_forward_hook(lambda *a, tap=tap: layers.__setitem__(tap, a[2])) for tap, m in taps.items()]
    x = inputs.clone().requires_grad_()
    outputs = module(x)
    for handle in handles:
        handle.remove()
    return View(outputs, x, layers, ask=module)


def batch(rows: int, seed: int = 0) -> Batch:
    weights = torch.rand(rows, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
    return Batch(weights, torch.zeros(rows), draw=torch.Generator().manual_seed(seed))


def one_minus_cos(a: Array, b: Array) -> float:
    return float(1 - (a.ravel() @ b.ravel()) / math.sqrt((a.ravel() @ a.ravel()) * (b.ravel() @ b.ravel())))


@pytest.mark.parametrize("scale", ["log_odds", "logit"])
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_gradient_and_jacobian_matching_by_finite_differences(outputs: int, scale: Any) -> None:
    (student, s), (teacher, t) = mlp(0, 5, outputs), mlp(1, 5, outputs)
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    gradients, tops, wholes = [], [], []
    for row in x.numpy():
        top = int(np.argmax(t(row)))
        pairs = [
            (by_differences(lambda r, f=f, k=k: score(f(r), k, scale), row)) for k in range(outputs) for f in (s, t)
        ]
        own, other = pairs[2 * top], pairs[2 * top + 1]
        gradients.append(one_minus_cos(own, other))
        tops.append(((own / np.sqrt((own**2).sum()) - other / np.sqrt((other**2).sum())) ** 2).sum())
        j_s, j_t = np.stack(pairs[::2]), np.stack(pairs[1::2])
        wholes.append(((j_s / np.sqrt((j_s**2).sum()) - j_t / np.sqrt((j_t**2).sum())) ** 2).sum())
    for objective, expected in (
        (GradientMatching(scale=scale), gradients),
        (JacobianMatching(scale=scale), tops),
        (JacobianMatching(scale=scale, outputs="all"), wholes),
    ):
        about = batch(6)
        loss = objective(view(student, x), view(teacher, x), about)
        assert loss.per_example is not None
        np.testing.assert_allclose(loss.per_example.detach().numpy(), expected, atol=1e-8)
        assert loss.value.item() == pytest.approx((about.weights.numpy() * expected).mean(), abs=1e-8)


def test_the_log_odds_are_those_of_the_softmax() -> None:
    z = torch.randn(8, 5, dtype=torch.float64)
    target = torch.arange(8) % 5
    p = z.softmax(dim=1).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(class_scores(z, target), (p / (1 - p)).log())
    torch.testing.assert_close(
        class_scores(z + torch.randn(8, 1, dtype=torch.float64), target), class_scores(z, target)
    )


@pytest.mark.parametrize("reference", ["zero", "mean"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_attribution_matching_by_finite_differences(outputs: int, reference: Any) -> None:
    (student, s), (teacher, t) = mlp(0, 4, outputs), mlp(1, 4, outputs)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    start = np.zeros(4) if reference == "zero" else x.numpy().mean(axis=0)

    def attributions(f: Score, row: Array, target: int) -> Array:
        points = [start + (j - 0.5) / 6 * (row - start) for j in range(1, 7)]
        slopes = [by_differences(lambda r: score(f(r), target, "log_odds"), point) for point in points]
        return np.asarray((row - start) * np.mean(slopes, axis=0))

    expected = []
    for row in x.numpy():
        top = int(np.argmax(t(row)))
        expected.append(one_minus_cos(attributions(s, row, top), attributions(t, row, top)))
    loss = AttributionMatching(steps=6, reference=reference)(view(student, x), view(teacher, x), batch(5))
    assert loss.per_example is not None
    np.testing.assert_allclose(loss.per_example.detach().numpy(), expected, atol=1e-8)


def test_integrated_gradients_add_up_to_the_change_of_the_score() -> None:
    module, _ = mlp(3, 4, 3)
    x = torch.randn(5, 4, dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 1, 0])
    made = integrated_gradients(module, x, target, reference=torch.zeros(()).double(), steps=400)
    change = class_scores(module(x), target) - class_scores(module(torch.zeros_like(x)), target)
    torch.testing.assert_close(made.sum(dim=1), change.detach(), atol=1e-4, rtol=1e-4)


def cnn(seed: int, channels: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.Softplus(), nn.Conv2d(4, channels, 3, stride=2, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(channels * 16, 5), nn.GELU(), nn.Linear(5, 3),
    ).double()  # fmt: skip


def test_integrated_gradients_are_those_of_captum() -> None:
    from captum.attr import IntegratedGradients

    module, x = cnn(0, 3), torch.randn(4, 2, 8, 8, dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 1])
    theirs = IntegratedGradients(module).attribute(x, target=target, n_steps=5, method="riemann_middle")
    made = integrated_gradients(module, x, target, reference=x.new_zeros(()), steps=5, scale="logit")
    torch.testing.assert_close(made, theirs.to(made.dtype))


@pytest.mark.parametrize("relu", [True, False])
def test_gradcam_is_that_of_captum(relu: bool) -> None:
    from captum.attr import LayerGradCam

    module, x = cnn(0, 3), torch.randn(4, 2, 8, 8, dtype=torch.float64)
    target = torch.tensor([0, 1, 2, 1])
    theirs = LayerGradCam(module, module[2]).attribute(x, target=target, relu_attributions=relu)
    shown = view(module, x, conv=module[2])
    layer = shown.layers["conv"]
    (slopes,) = torch.autograd.grad(class_scores(shown.outputs, target, scale="logit").sum(), layer)
    made = gradcam(layer, slopes, relu=relu)
    torch.testing.assert_close(made, theirs[:, 0].detach(), check_dtype=False)


@pytest.mark.parametrize("relu", [True, False])
def test_gradcam_matching_of_networks_that_average_their_last_map(relu: bool) -> None:
    """α is then the difference of the weights of the class and of the others, by their share among the others, over H·W."""

    def network(seed: int, channels: int, stride: int) -> tuple[nn.Sequential, nn.Module]:
        torch.manual_seed(seed)
        convolution = nn.Conv2d(2, channels, 3, stride=stride, padding=1)
        return nn.Sequential(
            convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3)
        ).double(), convolution

    (student, s_conv), (teacher, t_conv) = network(0, 4, 2), network(1, 5, 1)
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    seen, taught = view(student, x, a=s_conv), view(teacher, x, a=t_conv)

    def closed(shown: View, weight: Array, row: int, target: int) -> Array:
        z = shown.outputs.detach().numpy()[row]
        shares = np.exp(z) * (np.arange(3) != target)
        alpha = weight[target] - (shares / shares.sum()) @ weight
        map_ = np.einsum("c,chw->hw", alpha, shown.layers["a"].detach().numpy()[row])
        return np.maximum(map_, 0) if relu else map_

    expected = []
    for row in range(3):
        top = int(taught.outputs[row].argmax())
        own = closed(seen, student[-1].weight.detach().numpy(), row, top)
        other = closed(taught, teacher[-1].weight.detach().numpy(), row, top).reshape(4, 2, 4, 2).mean(axis=(1, 3))
        expected.append(one_minus_cos(own, other))
    loss = GradCAMMatching(student_taps=("a",), teacher_taps=("a",), relu=relu)(seen, taught, batch(3))
    assert loss.per_example is not None
    np.testing.assert_allclose(loss.per_example.detach().numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("outputs", [1, 3])
def test_noise_queries_by_asking_one_after_the_other(outputs: int) -> None:
    (student, s), (teacher, t) = mlp(0, 4, outputs), mlp(1, 4, outputs)
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    loss = NoiseQueries(sigma=0.5, draws=3, temperature=2.0)(view(student, x), view(teacher, x), batch(5, seed=8))
    draw = torch.Generator().manual_seed(8)
    noise = [torch.randn(5, 4, generator=draw).double().numpy() for _ in range(3)]
    expected = []
    for row in range(5):
        terms = []
        for eps in noise:
            at = x.numpy()[row] + 0.5 * eps[row]
            if outputs == 1:
                terms.append((s(at)[0] - t(at)[0]) ** 2)
                continue
            p, q = (np.exp(z / 2) / np.exp(z / 2).sum() for z in (t(at), s(at)))
            terms.append(4 * sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)))
        expected.append(np.mean(terms))
    assert loss.per_example is not None
    np.testing.assert_allclose(loss.per_example.detach().numpy(), expected, rtol=1e-6)


def test_little_noise_is_jacobian_matching() -> None:
    """Srinivas and Fleuret, proposition 1: the expected squared error at x + σε is that at x plus σ² of the Jacobians' distance."""
    (student, s), (teacher, t) = mlp(0, 3, 1), mlp(1, 3, 1)
    x = torch.randn(1, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    shown = view(student, x.expand(20_000, 3)), view(teacher, x.expand(20_000, 3))
    value = NoiseQueries(sigma=0.05, draws=4)(*shown, replace(batch(20_000), weights=torch.ones(20_000))).value.item()
    row = x.numpy()[0]
    at = (s(row)[0] - t(row)[0]) ** 2
    apart = by_differences(lambda r: s(r)[0], row) - by_differences(lambda r: t(r)[0], row)
    curved = 0.05**2 * (s(row)[0] - t(row)[0]) * sum(_second(lambda r: s(r)[0] - t(r)[0], row, i) for i in range(3))
    assert value - at == pytest.approx(0.05**2 * (apart @ apart) + curved, rel=0.1)


def _second(function: Callable[[Array], float], x: Array, i: int) -> float:
    away = np.zeros_like(x)
    away[i] = 1e-4
    return (function(x + away) - 2 * function(x) + function(x - away)) / 1e-8


def test_maps_that_are_handed_over_are_compared_as_they_are() -> None:
    a, b = torch.randn(4, 3, 5, 5, dtype=torch.float64), torch.randn(4, 3, 5, 5, dtype=torch.float64)
    expected = [one_minus_cos(x, y) for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    np.testing.assert_allclose(gradient_matching_loss(a, b).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(jacobian_loss(a, b).numpy(), 2 * np.array(expected), rtol=1e-12)
    assert kd_loss(a[:, 0, 0], a[:, 0, 0], temperature=1.0).abs().max() < 1e-12
