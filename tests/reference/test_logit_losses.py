"""Losses on logits against their papers' formulas written out in float64 NumPy, row by row, and what must hold exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from distillens.errors import InputError
from distillens.objectives import (
    DIST,
    DKD,
    JSD,
    MLKD,
    NKD,
    Batch,
    ReverseKL,
    View,
    dist_loss,
    dkd_loss,
    jsd_loss,
    kd_loss,
    mlkd_loss,
    nkd_loss,
    reverse_kl_loss,
)
from distillens.transfer.objectives.base import as_objective

Array = np.ndarray
RNG = np.random.default_rng(0)
S, T = RNG.normal(scale=3.0, size=(2, 12, 5))
Y = RNG.integers(0, 5, 12)
POINTWISE: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "dkd": lambda s, t: dkd_loss(s, t, torch.from_numpy(Y[: len(s)]), alpha=1.0, beta=8.0, temperature=4.0),
    "nkd": lambda s, t: nkd_loss(s, t, torch.from_numpy(Y[: len(s)]), gamma=1.5, temperature=2.0),
    "jsd": lambda s, t: jsd_loss(s, t, beta=0.3, temperature=2.0),
    "jsd 0": lambda s, t: jsd_loss(s, t, beta=0.0, temperature=2.0),
    "jsd 1": lambda s, t: jsd_loss(s, t, beta=1.0, temperature=2.0),
    "reverse_kl": lambda s, t: reverse_kl_loss(s, t, temperature=2.0),
}
BATCHWISE: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "dist": lambda s, t: dist_loss(s, t, beta=1.0, gamma=2.0, temperature=1.5),
    "mlkd": lambda s, t: mlkd_loss(s, t, temperatures=(2.0, 4.0)),
}


def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.from_numpy(S), torch.from_numpy(T), torch.from_numpy(Y)


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max())
    return e / e.sum()


def kl(p: Array, q: Array) -> float:
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


def test_dkd_is_binary_and_non_target_divergence() -> None:
    s, t, y = tensors()
    alpha, beta, temperature = 1.7, 8.0, 4.0
    expected = []
    for z_s, z_t, label in zip(S, T, Y, strict=True):
        p_s, p_t = softmax(z_s / temperature), softmax(z_t / temperature)
        target = kl(np.array([p_t[label], 1 - p_t[label]]), np.array([p_s[label], 1 - p_s[label]]))
        rest_s, rest_t = np.delete(p_s, label), np.delete(p_t, label)
        others = kl(rest_t / rest_t.sum(), rest_s / rest_s.sum())
        expected.append(temperature**2 * (alpha * target + beta * others))
    got = dkd_loss(s, t, y, alpha=alpha, beta=beta, temperature=temperature)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9)


def test_dkd_with_the_teachers_doubt_as_beta_is_kd() -> None:
    """Zhao et al. 2022: KD = TCKD + (1 − p_t(y)) NCKD."""
    s, t, y = tensors()
    doubt = 1 - torch.softmax(t / 4.0, dim=1).gather(1, y[:, None])[:, 0]
    target = dkd_loss(s, t, y, alpha=1.0, beta=0.0, temperature=4.0)
    others = dkd_loss(s, t, y, alpha=0.0, beta=1.0, temperature=4.0)
    torch.testing.assert_close(target + doubt * others, kd_loss(s, t, temperature=4.0))


def test_dkd_of_saturated_logits_is_the_gap() -> None:
    """The teacher is certain of class 0, the student of class 1: TCKD is the gap 120, and among the rest the teacher has a tie."""
    t, s = torch.tensor([[60.0, -60.0, -60.0]]), torch.tensor([[-60.0, 60.0, -60.0]], requires_grad=True)
    y = torch.tensor([0])
    loss = dkd_loss(s, t, y, alpha=1.0, beta=1.0, temperature=1.0)
    assert float(loss.detach()) == pytest.approx(120 + 0.5 * np.log(0.5) + 0.5 * (np.log(0.5) + 120), rel=1e-6)
    (grad,) = torch.autograd.grad(loss.sum(), s)
    torch.testing.assert_close(grad, torch.tensor([[-1.0, 1.5, -0.5]]))


def test_nkd_is_a_weighted_logarithm_and_a_cross_entropy_of_the_rest() -> None:
    s, t, y = tensors()
    gamma, temperature = 1.5, 2.0
    expected = []
    for z_s, z_t, label in zip(S, T, Y, strict=True):
        first = -softmax(z_t)[label] * np.log(softmax(z_s)[label])
        rest_s, rest_t = softmax(np.delete(z_s, label) / temperature), softmax(np.delete(z_t, label) / temperature)
        expected.append(first - gamma * temperature**2 * float(rest_t @ np.log(rest_s)))
    np.testing.assert_allclose(nkd_loss(s, t, y, gamma=gamma, temperature=temperature).numpy(), expected, rtol=1e-10)


def test_nkd_of_a_perfect_student_is_the_entropy_of_the_rest() -> None:
    t, y = torch.tensor([[0.0, 50.0, 0.0, 0.0]], dtype=torch.float64), torch.tensor([1])
    assert float(nkd_loss(t, t, y, gamma=2.0, temperature=1.0)) == pytest.approx(2 * np.log(3))


def test_jsd_is_the_divergence_from_the_mixture() -> None:
    s, t, _ = tensors()
    beta, temperature = 0.3, 2.0
    expected = []
    for z_s, z_t in zip(S, T, strict=True):
        p_s, p_t = softmax(z_s / temperature), softmax(z_t / temperature)
        mixture = beta * p_t + (1 - beta) * p_s
        expected.append(temperature**2 * (beta * kl(p_t, mixture) + (1 - beta) * kl(p_s, mixture)))
    np.testing.assert_allclose(jsd_loss(s, t, beta=beta, temperature=temperature).numpy(), expected, rtol=1e-9)


def test_jsd_tends_to_both_divergences() -> None:
    s, t, _ = tensors()
    forward, backward = kd_loss(s, t, temperature=2.0), kd_loss(t, s, temperature=2.0)
    torch.testing.assert_close(jsd_loss(s, t, beta=0.0, temperature=2.0), forward)
    torch.testing.assert_close(jsd_loss(s, t, beta=1.0, temperature=2.0), backward)
    for beta, limit in ((1e-7, forward), (1 - 1e-7, backward)):
        near = jsd_loss(s, t, beta=beta, temperature=2.0) / min(beta, 1 - beta)
        torch.testing.assert_close(near, limit, rtol=1e-4, atol=1e-5)
    half = jsd_loss(s, t, beta=0.5, temperature=1.0)
    torch.testing.assert_close(half, jsd_loss(t, s, beta=0.5, temperature=1.0))
    assert float(jsd_loss(torch.tensor([[60.0, -60.0]]), torch.tensor([[-60.0, 60.0]]), beta=0.5, temperature=1.0)) == pytest.approx(np.log(2))  # fmt: skip


def test_reverse_kl_is_the_other_way_round() -> None:
    s, t, _ = tensors()
    expected = [9.0 * kl(softmax(z_s / 3), softmax(z_t / 3)) for z_s, z_t in zip(S, T, strict=True)]
    np.testing.assert_allclose(reverse_kl_loss(s, t, temperature=3.0).numpy(), expected, rtol=1e-9)


def test_dist_is_one_minus_mean_correlations() -> None:
    s, t, _ = tensors()
    p_s, p_t = (np.stack([softmax(row / 1.5) for row in z]) for z in (S, T))
    rows = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p_s, p_t, strict=True)])
    columns = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p_s.T, p_t.T, strict=True)])
    got = dist_loss(s, t, beta=1.0, gamma=2.0, temperature=1.5)
    assert float(got) == pytest.approx(2.25 * ((1 - rows) + 2 * (1 - columns)), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_perfect_student_scores_zero_in_dist_for_saturated_columns_too(dtype: torch.dtype) -> None:
    z = torch.from_numpy(RNG.normal(size=(16, 6))).to(dtype)
    for gap in (0.0, 20.0, 40.0, 60.0, 90.0, 200.0):  # the last two columns hold e^-gap
        t = torch.cat([z[:, :4], z[:, 4:] - gap], dim=1)
        s = t.clone().requires_grad_()
        loss = dist_loss(s, t, beta=1.0, gamma=1.0, temperature=1.0)
        (grad,) = torch.autograd.grad(loss, s)
        assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
        assert bool(torch.isfinite(grad).all())
    inverted = torch.cat([z[:, :4], -z[:, 4:] - 40], dim=1)  # saturated, and the wrong way round: it must be seen
    truth = torch.cat([z[:, :4], z[:, 4:] - 40], dim=1)
    assert float(dist_loss(inverted, truth, beta=0.0, gamma=1.0, temperature=1.0)) > 0.3


def test_mlkd_is_three_levels_at_every_temperature() -> None:
    s, t, _ = tensors()
    expected = 0.0
    for temperature in (2.0, 4.0):
        p_s, p_t = (np.stack([softmax(row / temperature) for row in z]) for z in (S, T))
        expected += np.mean([temperature**2 * kl(b, a) for a, b in zip(p_s, p_t, strict=True)])
        rows = sum((p_t[i] @ p_t[j] - p_s[i] @ p_s[j]) ** 2 for i in range(12) for j in range(12))
        classes = sum((p_t[:, c] @ p_t[:, d] - p_s[:, c] @ p_s[:, d]) ** 2 for c in range(5) for d in range(5))
        expected += 3.0 * rows / 12 + 0.5 * classes / 5
    got = mlkd_loss(s, t, temperatures=(2.0, 4.0), batch_level=3.0, class_level=0.5)
    assert float(got) == pytest.approx(expected, rel=1e-9)


def test_mlkd_without_its_levels_is_kd_and_weights_count_there() -> None:
    s, t, _ = tensors()
    weights = torch.from_numpy(RNG.random(12))
    got = mlkd_loss(s, t, temperatures=(3.0,), weights=weights, batch_level=0.0, class_level=0.0)
    torch.testing.assert_close(got, (weights * kd_loss(s, t, temperature=3.0)).mean())


@pytest.mark.parametrize("name", [*POINTWISE, *BATCHWISE])
def test_gradients_are_right_and_reach_the_student_only(name: str) -> None:
    loss = (POINTWISE | BATCHWISE)[name]
    s, t = (torch.from_numpy(z[:5]).clone().requires_grad_() for z in (S, T))
    assert torch.autograd.gradcheck(lambda z: loss(z, t), (s,))
    loss(s, t).sum().backward()
    assert t.grad is None


@pytest.mark.parametrize("name", [*POINTWISE, *BATCHWISE])
def test_shapes_dtypes_and_a_common_constant(name: str) -> None:
    loss = (POINTWISE | BATCHWISE)[name]
    s, t, _ = tensors()
    value = loss(s, t)
    assert value.shape == ((12,) if name in POINTWISE else ())
    torch.testing.assert_close(loss(s + 7, t - 3), value)  # probabilities do not change
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = loss(s.bfloat16(), t.bfloat16())
        single = loss(s.float(), t.float())
    assert half.dtype == single.dtype == torch.float32
    torch.testing.assert_close(single.double(), value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(half.double(), loss(s.bfloat16().double(), t.bfloat16().double()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*POINTWISE, *BATCHWISE])
def test_saturated_logits_and_single_rows_stay_finite(name: str) -> None:
    loss = (POINTWISE | BATCHWISE)[name]
    draw = torch.Generator().manual_seed(0)
    for rows in (1, 2, 12):
        s, t = (120 * torch.randint(2, (rows, 5), generator=draw).float() - 60 for _ in range(2))
        s.requires_grad_()
        value = loss(s, t).sum()
        (grad,) = torch.autograd.grad(value, s)
        assert bool(torch.isfinite(value))
        assert bool(torch.isfinite(grad).all())


@pytest.mark.parametrize("kind", [DKD, NKD])
def test_rows_without_a_label_are_left_out_and_leave_no_nan(kind: type[DKD | NKD]) -> None:
    labels = torch.tensor([1.0, float("nan"), 0.0, float("nan")])
    batch = Batch(torch.tensor([1.0, 5.0, 2.0, 7.0]), labels, label_scale=2.0)
    s, t = torch.from_numpy(S[:4]).requires_grad_(), torch.from_numpy(T[:4])
    loss = kind()(View(s, s), View(t, t), batch)
    (grad,) = torch.autograd.grad(loss.value, s)
    assert bool(torch.isfinite(grad).all())
    assert float(grad[[1, 3]].abs().max()) == 0.0
    known = Batch(torch.ones(2), labels[[0, 2]])
    each = kind()(View(s[[0, 2]], s), View(t[[0, 2]], t), known).per_example
    assert each is not None
    assert float(loss.value.detach()) == pytest.approx(float(2.0 * (each[0] + 2 * each[1]).detach() / 4))


@pytest.mark.parametrize("objective", [DKD(), NKD(), DIST(), MLKD(), JSD(), ReverseKL()], ids=lambda o: o.kind)
def test_objectives_for_classes_say_so(objective: DKD) -> None:
    z = torch.zeros(4, 1)
    with pytest.raises(InputError, match=rf"'{objective.kind}' is for classes; for regression use \{{kind: mse"):
        objective(View(z, z), View(z, z), Batch(torch.ones(4), torch.zeros(4)))
    assert "regression" not in objective.tasks


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"kind": "dkd", "beta": -1}, "beta is a number of at least 0"),
        ({"kind": "nkd", "gamma": "much"}, "gamma"),
        ({"kind": "jsd", "beta": 1.5}, "between 0"),
        ({"kind": "mlkd", "temperatures": []}, "list of numbers above 0"),
        ({"kind": "mlkd", "temperatures": [2, 0]}, "every one of temperatures"),
        ({"kind": "dist", "temperature": 0}, "temperature"),
        ({"kind": "reverse_kl", "warmup": -1}, "warmup"),
        ({"kind": "reverse_kl", "final_temperature": 0}, "final_temperature"),
    ],
)
def test_options_out_of_range_say_why(entry: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        as_objective(entry)
