"""Objectives on feature maps against the papers' formulas in float64 NumPy and plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

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
from distillens.transfer.objectives.base import term_of

Array = NDArray[np.float64]


def maps(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pooled(map_: Array, h: int, w: int) -> Array:
    """Average pooling of (H, W) onto (h, w): bin i covers floor(i·H/h) … ceil((i+1)·H/h)."""
    out = np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            rows = slice(math.floor(i * map_.shape[0] / h), math.ceil((i + 1) * map_.shape[0] / h))
            columns = slice(math.floor(j * map_.shape[1] / w), math.ceil((j + 1) * map_.shape[1] / w))
            out[i, j] = map_[rows, columns].mean()
    return out


def convolved(x: Array, weight: Array, bias: Array | None = None) -> Array:
    """(C, H, W) with (O, C, k, k), zero padding k // 2."""
    out_channels, _, k, _ = weight.shape
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    out = np.zeros((out_channels, *x.shape[1:]))
    for o in range(out_channels):
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                out[o, i, j] = (padded[:, i : i + k, j : j + k] * weight[o]).sum() + (0 if bias is None else bias[o])
    return out


def weights_of(module: torch.nn.Module) -> dict[str, Array]:
    return {name: value.detach().double().numpy() for name, value in module.named_parameters()}


def views(
    student: list[torch.Tensor], teacher: list[torch.Tensor], **classifiers: torch.Tensor
) -> tuple[View, View, Batch]:
    rows = len(student[0])
    weights = torch.rand(rows, generator=torch.Generator().manual_seed(9), dtype=torch.float64) + 0.5
    outputs = torch.zeros(rows, 3, dtype=torch.float64)
    return (
        View(outputs, outputs, {f"s{i}": m for i, m in enumerate(student)}, classifier=classifiers.get("s")),
        View(outputs, outputs, {f"t{i}": m for i, m in enumerate(teacher)}, classifier=classifiers.get("t")),
        Batch(weights, torch.zeros(rows), draw=torch.Generator().manual_seed(5)),
    )


def taps(pairs: int) -> dict[str, Any]:
    return {
        "student_taps": tuple(f"s{i}" for i in range(pairs)),
        "teacher_taps": tuple(f"t{i}" for i in range(pairs)),
    }


def shapes(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> Shapes:
    return Shapes(
        {f"s{i}": tuple(m.shape[1:]) for i, m in enumerate(student)},
        {f"t{i}": tuple(m.shape[1:]) for i, m in enumerate(teacher)},
        3, 3, 100,
    )  # fmt: skip


def mean_over_rows(per_example: list[float], batch: Batch) -> float:
    return float(np.mean(batch.weights.numpy() * np.array(per_example)))


@pytest.mark.parametrize("loss", [fitnet_loss, simkd_loss])
def test_fitnet_and_simkd_are_the_mean_squared_difference(loss: Any) -> None:
    s, t = maps(0, 3, 2, 4, 5), maps(1, 3, 2, 4, 5)
    expected = [
        sum((a - b) ** 2 for a, b in zip(x.flatten().tolist(), y.flatten().tolist(), strict=True)) / 40
        for x, y in zip(s, t, strict=True)
    ]
    np.testing.assert_allclose(loss(s, t).numpy(), expected, rtol=1e-12)


def test_fitnet_with_its_projector() -> None:
    s, t = [maps(0, 3, 2, 4, 4), maps(1, 3, 5)], [maps(2, 3, 3, 4, 4), maps(3, 3, 2)]
    objective = FitNet(**taps(2))
    term = term_of(objective, shapes(s, t), seed=1).double()  # type: ignore[attr-defined]
    w = weights_of(term)
    conv, conv_b, lin, lin_b = w.values()
    per_row = []
    for row in range(3):
        first = convolved(s[0][row].numpy(), conv, conv_b) - t[0][row].numpy()
        second = lin @ s[1][row].numpy() + lin_b - t[1][row].numpy()
        per_row.append((first**2).mean() + (second**2).mean())
    student, teacher, batch = views(s, t)
    loss = term(student, teacher, batch)
    np.testing.assert_allclose(loss.per_example.detach().numpy(), per_row, rtol=1e-10)
    assert loss.value.item() == pytest.approx(mean_over_rows(per_row, batch), rel=1e-10)


def attention(features: Array, grid: tuple[int, int], power: float) -> Array:
    resized = np.stack([pooled(channel, *grid) for channel in features])
    q = np.array([(abs(resized[:, i, j]) ** power).sum() for i in range(grid[0]) for j in range(grid[1])])
    return np.asarray(q / np.sqrt((q**2).sum()))


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0, 0.5])
@pytest.mark.parametrize("sizes", [((2, 6, 6), (5, 4, 4)), ((2, 3, 7), (3, 5, 4)), ((4, 1, 1), (2, 2, 2))], ids=str)
def test_attention_transfer_in_both_modes(sizes: tuple[tuple[int, ...], tuple[int, ...]], power: float) -> None:
    s, t = maps(0, 3, *sizes[0]), maps(1, 3, *sizes[1])
    grid = (min(sizes[0][1], sizes[1][1]), min(sizes[0][2], sizes[1][2]))
    squares = [((attention(a, grid, power) - attention(b, grid, power)) ** 2).sum() for a, b in zip(s.numpy(), t.numpy(), strict=True)]  # fmt: skip
    code = attention_transfer_loss(s, t, power=power, mode="code").numpy()
    paper = attention_transfer_loss(s, t, power=power, mode="paper").numpy()
    np.testing.assert_allclose(code, np.array(squares) / (grid[0] * grid[1]), rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(paper, np.sqrt(squares), rtol=1e-10, atol=1e-15)


def test_attention_transfer_sums_its_pairs_and_takes_tokens() -> None:
    s, t = [maps(0, 2, 3, 4, 4), maps(1, 2, 10, 6)], [maps(2, 2, 5, 4, 4), maps(3, 2, 9, 4)]
    student, teacher, batch = views(s, t)
    loss = AttentionTransfer(mode="paper", **taps(2))(student, teacher, batch)
    second = attention_transfer_loss(
        s[1][:, 1:].transpose(1, 2).reshape(2, 6, 3, 3), t[1].transpose(1, 2).reshape(2, 4, 3, 3), mode="paper"
    )
    expected = attention_transfer_loss(s[0], t[0], mode="paper") + second
    torch.testing.assert_close(loss.per_example, expected)


def hierarchical(s: Array, t: Array) -> float:
    total, weights = ((s - t) ** 2).mean(), 1.0
    for level, weight in zip((4, 2, 1), (0.5, 0.25, 0.125), strict=False):
        used = [k for k in (4, 2, 1) if k < min(s.shape[1:])]
        if level not in used:
            continue
        weight = 0.5 ** (used.index(level) + 1)
        a = np.stack([pooled(c, level, level) for c in s])
        b = np.stack([pooled(c, level, level) for c in t])
        total, weights = total + weight * ((a - b) ** 2).mean(), weights + weight
    return float(total / weights)


@pytest.mark.parametrize("grid", [(8, 8), (4, 4), (5, 7), (2, 2), (1, 1), (3, 1)], ids=str)
def test_the_hierarchical_context_loss(grid: tuple[int, int]) -> None:
    s, t = maps(0, 3, 2, *grid), maps(1, 3, 2, *grid)
    expected = [hierarchical(a, b) for a, b in zip(s.numpy(), t.numpy(), strict=True)]
    np.testing.assert_allclose(review_loss([s], [t]).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(review_loss([s, s], [t, t]).numpy(), 2 * np.array(expected), rtol=1e-12)


def normalised(batch: list[Array], w: dict[str, Array], name: str) -> list[Array]:
    """Convolution and batch normalisation in training mode, over all rows of the batch."""
    out = np.stack([convolved(x, w[f"{name}.convolution.weight"]) for x in batch])
    mean, var = out.mean(axis=(0, 2, 3), keepdims=True), out.var(axis=(0, 2, 3), keepdims=True)
    gamma, beta = w[f"{name}.norm.weight"][None, :, None, None], w[f"{name}.norm.bias"][None, :, None, None]
    return list((out - mean) / np.sqrt(var + 1e-5) * gamma + beta)


def nearest(x: Array, h: int, w: int) -> Array:
    rows = [i * x.shape[1] // h for i in range(h)]
    columns = [j * x.shape[2] // w for j in range(w)]
    return x[:, rows][:, :, columns]


def test_knowledge_review_from_deep_to_shallow() -> None:
    s = [maps(0, 3, 2, 6, 6), maps(1, 3, 4, 3, 3), maps(2, 3, 5)]
    t = [maps(3, 3, 3, 5, 5), maps(4, 3, 2, 3, 3), maps(5, 3, 6)]
    objective = ReviewKD(middle=4, **taps(3))
    term = term_of(objective, shapes(s, t), seed=2).double()  # type: ignore[attr-defined]
    w = weights_of(term)
    student_layers = [[row.numpy() if row.ndim == 3 else row.numpy()[:, None, None] for row in layer] for layer in s]
    teacher_layers = [[row.numpy() if row.ndim == 3 else row.numpy()[:, None, None] for row in layer] for layer in t]
    deeper: list[Array] = []
    per_row = np.zeros(3)
    for position in (2, 1, 0):
        name = f"fusions.{position}"
        mixed = normalised(student_layers[position], w, f"{name}.narrow")
        if position < 2:
            for row in range(3):
                up = nearest(deeper[row], *mixed[row].shape[1:])
                logits = convolved(np.concatenate([mixed[row], up]), w[f"{name}.attention.weight"], w[f"{name}.attention.bias"])  # fmt: skip
                share = 1 / (1 + np.exp(-logits))
                mixed[row] = mixed[row] * share[0] + up * share[1]
        deeper = [nearest(m, *teacher_layers[position][0].shape[1:]) for m in mixed]
        results = normalised(deeper, w, f"{name}.widen")
        per_row += [hierarchical(results[row], teacher_layers[position][row]) for row in range(3)]
    student, teacher, batch = views(s, t)
    loss = term(student, teacher, batch)
    np.testing.assert_allclose(loss.per_example.detach().numpy(), per_row, rtol=1e-9)


def test_variational_information_with_its_networks() -> None:
    s, t = [maps(0, 3, 2, 4, 4), maps(1, 3, 5)], [maps(2, 3, 3, 2, 2), maps(3, 3, 2, 2, 2)]
    objective = VID(variance=2.0, epsilon=1e-3, **taps(2))
    term = term_of(objective, shapes(s, t), seed=3).double()  # type: ignore[attr-defined]
    with torch.no_grad():
        for head in term.heads:  # type: ignore[attr-defined]
            assert head.variance().tolist() == pytest.approx([2.0] * len(head.alpha), rel=1e-6)
            head.alpha += torch.randn(len(head.alpha))
    w = weights_of(term)
    per_row = []
    for row in range(3):
        total = 0.0
        for pair in range(2):
            if pair == 0:
                x = np.stack([pooled(c, 2, 2).ravel() for c in s[0][row].numpy()])
                y = t[0][row].numpy().reshape(3, 4)
            else:  # a vector is compared with the average of a map
                x, y = s[1][row].numpy()[:, None], t[1][row].numpy().reshape(2, 4).mean(axis=1, keepdims=True)
            a, b, c = (w[f"heads.{pair}.mean.{i}.weight"][:, :, 0] for i in (0, 2, 4))
            mu = c @ np.maximum(b @ np.maximum(a @ x, 0), 0)
            var = np.log1p(np.exp(w[f"heads.{pair}.alpha"])) + 1e-3
            terms = [0.5 * ((y[i, p] - mu[i, p]) ** 2 / var[i] + math.log(var[i])) for i in range(len(y)) for p in range(y.shape[1])]  # fmt: skip
            total += sum(terms) / len(terms)
        per_row.append(total)
    student, teacher, batch = views(s, t)
    loss = term(student, teacher, batch)
    np.testing.assert_allclose(loss.per_example.detach().numpy(), per_row, rtol=1e-9)
    assert loss.value.item() == pytest.approx(mean_over_rows(per_row, batch), rel=1e-9)


def test_the_variational_loss_is_a_gaussian_log_density_up_to_a_constant() -> None:
    mean, target, variance = maps(0, 2, 3, 4), maps(1, 2, 3, 4), maps(2, 3).exp()
    density = torch.distributions.Normal(mean, variance.sqrt()[:, None]).log_prob(target)
    expected = -density.mean(dim=(1, 2)) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(vid_loss(mean, target, variance), expected)


@pytest.mark.parametrize("mask", ["channel", "pixel"])
def test_masked_generation(mask: Any) -> None:
    s, t = [maps(0, 3, 2, 4, 4)], [maps(1, 3, 3, 4, 4)]
    objective = MGD(masked=0.4, mask=mask, **taps(1))
    term = term_of(objective, shapes(s, t), seed=4).double()  # type: ignore[attr-defined]
    w = weights_of(term)
    align_w, align_b, first_w, first_b, second_w, second_b = w.values()
    student, teacher, batch = views(s, t)
    shape = (3, 3, 1, 1) if mask == "channel" else (3, 1, 4, 4)
    keep = (torch.rand(shape, generator=torch.Generator().manual_seed(5)) >= 0.4).double().numpy()
    assert 0 < keep.mean() < 1
    per_row = []
    for row in range(3):
        aligned = convolved(s[0][row].numpy(), align_w, align_b) * keep[row]
        made = convolved(np.maximum(convolved(aligned, first_w, first_b), 0), second_w, second_b)
        per_row.append(((made - t[0][row].numpy()) ** 2).sum())
    loss = term(student, teacher, batch)
    np.testing.assert_allclose(loss.per_example.detach().numpy(), per_row, rtol=1e-9)
    np.testing.assert_allclose(mgd_loss(s[0], s[0] + 2).numpy(), [4 * 32] * 3)


@pytest.mark.parametrize("grid", [1, 2, 3])
def test_class_attention_by_loops(grid: int) -> None:
    s, t, w_s, w_t = maps(0, 2, 4, 6, 6), maps(1, 2, 3, 3, 4), maps(2, 5, 4), maps(3, 5, 3)

    def normal(features: Array, weight: Array, k: int) -> Array:
        cam = sum(weight[k, c] * features[c] for c in range(len(features)))
        flat = pooled(cam, min(grid, 3), min(grid, 4)).ravel()
        return np.asarray(flat / np.sqrt((flat**2).sum()))

    expected = [
        np.mean([((normal(a, w_s.numpy(), k) - normal(b, w_t.numpy(), k)) ** 2).mean() for k in range(5)])
        for a, b in zip(s.numpy(), t.numpy(), strict=True)
    ]
    cams = class_activation_maps(s, w_s), class_activation_maps(t, w_t)
    np.testing.assert_allclose(cat_kd_loss(*cams, grid=grid).numpy(), expected, rtol=1e-10, atol=1e-15)
    student, teacher, batch = views([maps(7, 2, 2, 2, 2), s], [maps(8, 2, 2, 2, 2), t], s=w_s, t=w_t)
    loss = CATKD(grid=grid, **taps(2))(student, teacher, batch)  # the last pair counts
    np.testing.assert_allclose(loss.per_example.numpy(), expected, rtol=1e-10, atol=1e-15)


def test_the_mean_of_a_class_activation_map_is_the_logit() -> None:
    features, linear = maps(0, 3, 4, 5, 5), torch.nn.Linear(4, 6).double()
    logits = linear(features.mean(dim=(2, 3)))
    means = class_activation_maps(features, linear.weight).mean(dim=(2, 3)) + linear.bias
    torch.testing.assert_close(means, logits)


def test_simkd_reads_what_enters_both_classifiers() -> None:
    s, t = maps(0, 3, 4), maps(1, 3, 4)
    student, teacher, batch = views([s], [t])
    layers = (View(student.outputs, s, {"features": s}), View(teacher.outputs, t, {"features": t}))
    loss = SimKD()(*layers, batch)
    np.testing.assert_allclose(loss.per_example.numpy(), ((s - t) ** 2).mean(dim=1).numpy(), rtol=1e-12)
