"""Losses on relations between rows against their papers' formulas in float64 NumPy, loop by loop, and their invariances."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, factorial

import numpy as np
import pytest
import torch

from distillens.errors import InputError
from distillens.objectives import (
    CC,
    CKA,
    PKT,
    RKD,
    SP,
    Batch,
    View,
    cc_loss,
    cka_loss,
    pkt_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    sp_loss,
)
from distillens.similarity import debiased_cka
from distillens.transfer.objectives.base import as_objective

Array = np.ndarray
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
RNG = np.random.default_rng(0)
S, T = RNG.normal(size=(7, 4)), RNG.normal(size=(7, 6)) + 0.5
ROTATION = np.linalg.qr(RNG.normal(size=(4, 4)))[0]
LOSSES: dict[str, Loss] = {
    "rkd distance": rkd_distance_loss,
    "rkd angle": rkd_angle_loss,
    "sp": sp_loss,
    "pkt": pkt_loss,
    "cc": lambda s, t: cc_loss(s, t, gamma=0.4, order=2),
    "cka": cka_loss,
}
each_loss = pytest.mark.parametrize("name", LOSSES)


def of(name: str, s: Array, t: Array = T) -> float:
    return float(LOSSES[name](torch.from_numpy(s), torch.from_numpy(t)))


def huber(a: float) -> float:
    return 0.5 * a * a if abs(a) < 1 else abs(a) - 0.5


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_rkd_distance_by_hand() -> None:
    def relative(x: Array) -> Array:
        d = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in x] for a in x])
        return d / d[d > 0].mean()

    s, t = relative(S), relative(T)
    expected = np.mean([huber(s[i, j] - t[i, j]) for i in range(7) for j in range(7)])
    assert of("rkd distance", S) == pytest.approx(expected, rel=1e-9)


def test_rkd_angle_by_hand() -> None:
    def angle(x: Array, i: int, j: int, k: int) -> float:
        return 0.0 if j in (i, k) else cosine(x[i] - x[j], x[k] - x[j])

    triples = [(i, j, k) for i in range(7) for j in range(7) for k in range(7)]
    expected = np.mean([huber(angle(S, *ijk) - angle(T, *ijk)) for ijk in triples])
    assert of("rkd angle", S) == pytest.approx(expected, rel=1e-9)


def test_sp_by_hand() -> None:
    def similarities(a: Array) -> Array:
        g = np.array([[x @ y for y in a] for x in a])
        return np.array([row / np.sqrt((row * row).sum()) for row in g])

    assert of("sp", S) == pytest.approx(((similarities(T) - similarities(S)) ** 2).sum() / 49, rel=1e-9)


def test_pkt_by_hand() -> None:
    def neighbours(x: Array) -> Array:
        k = np.array([[(1 + cosine(a, b)) / 2 for b in x] for a in x])
        return np.array([row / row.sum() for row in k])

    p_s, p_t = neighbours(S), neighbours(T)
    expected = np.mean([p * np.log((p + 1e-7) / (q + 1e-7)) for p, q in zip(p_t.ravel(), p_s.ravel(), strict=True)])
    assert of("pkt", S) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (0.9, 1), (0.4, 5)])
def test_cc_by_hand(gamma: float, order: int) -> None:
    def kernel(x: Array) -> Array:
        terms = [(p, exp(-2 * gamma) * (2 * gamma) ** p / factorial(p)) for p in range(order + 1)]
        return np.array([[sum(f * cosine(a, b) ** p for p, f in terms) for b in x] for a in x])

    got = cc_loss(torch.from_numpy(S), torch.from_numpy(T), gamma=gamma, order=order)
    assert float(got) == pytest.approx(((kernel(S) - kernel(T)) ** 2).sum() / 49, rel=1e-9)


def test_cc_of_many_terms_is_the_gaussian_kernel() -> None:
    def gaussian(x: Array) -> Array:
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        return np.exp(-0.4 * ((unit[:, None] - unit[None]) ** 2).sum(axis=2))

    got = cc_loss(torch.from_numpy(S), torch.from_numpy(T), gamma=0.4, order=20)
    assert float(got) == pytest.approx(((gaussian(S) - gaussian(T)) ** 2).mean(), rel=1e-9)


def hsic_1(k: Array, l: Array) -> float:  # noqa: E741 (the paper's letter)
    """Song et al. 2012, the unbiased estimate."""
    n, one = len(k), np.ones(len(k))
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    middle = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ l) + middle - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3)))


@pytest.mark.parametrize("rows", [4, 5, 7])
def test_cka_by_the_unbiased_estimate(rows: int) -> None:
    k, l = S[:rows] @ S[:rows].T, T[:rows] @ T[:rows].T  # noqa: E741
    expected = 1 - hsic_1(k, l) / np.sqrt(hsic_1(k, k) * hsic_1(l, l))
    assert of("cka", S[:rows], T[:rows]) == pytest.approx(expected, rel=1e-9)


def test_cka_where_there_is_nothing_to_compare() -> None:
    constant = np.full((7, 3), 2.5)
    assert of("cka", S, constant) == 0.0  # nothing to be taught
    assert of("cka", constant, T) == 1.0
    assert of("cka", S[:3], T[:3]) == 0.0  # three rows tell nothing


def test_cka_of_the_training_loss_is_that_of_the_metric() -> None:
    s, t = RNG.normal(size=(2, 20, 7))
    s[:, :3] += t[:, :3]
    assert of("cka", s, t) == pytest.approx(1 - debiased_cka(s, t), rel=1e-9)


def test_cka_of_independent_layers_is_near_one_in_small_batches() -> None:
    """The biased estimate would put wide independent layers of 16 rows at a loss near 0."""
    rng = np.random.default_rng(1)
    losses = [of("cka", rng.normal(size=(16, 512)), rng.normal(size=(16, 512))) for _ in range(40)]
    assert np.mean(losses) == pytest.approx(1.0, abs=0.05)


@each_loss
def test_a_student_like_its_teacher_scores_zero(name: str) -> None:
    s = torch.from_numpy(T).clone().requires_grad_()
    loss = LOSSES[name](s, torch.from_numpy(T))
    (grad,) = torch.autograd.grad(loss, s)
    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-12)
    assert float(grad.abs().max()) < 1e-8  # not 0: the ε of PKT
    assert of(name, S) > 1e-4  # and others do not


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, "rotate") for name in LOSSES),
        *((name, "scale") for name in LOSSES),
        *((name, "shift") for name in ("rkd distance", "rkd angle", "cka")),
        *((name, "rows scaled one by one") for name in ("pkt", "cc")),
        *((name, "widen") for name in LOSSES),
    ],
)
def test_what_each_loss_does_not_see(name: str, change: str) -> None:
    changed = {
        "rotate": S @ ROTATION,
        "scale": 37.0 * S,
        "shift": S + np.array([3.0, -2.0, 1.0, 5.0]),
        "rows scaled one by one": S * np.linspace(0.1, 9, 7)[:, None],
        "widen": np.hstack([S, np.zeros((7, 3))]),
    }[change]
    assert of(name, changed) == pytest.approx(of(name, S), rel=1e-8)


@pytest.mark.parametrize(("name", "change"), [("sp", "shift"), ("pkt", "shift"), ("cc", "shift"), ("sp", "rows")])
def test_what_each_loss_does_see(name: str, change: str) -> None:
    changed = S + 3.0 if change == "shift" else S * np.linspace(0.1, 9, 7)[:, None]
    assert abs(of(name, changed) - of(name, S)) > 1e-4


@each_loss
def test_order_of_rows_does_not_matter_and_maps_are_flattened(name: str) -> None:
    order = np.random.default_rng(2).permutation(7)
    assert of(name, S[order], T[order]) == pytest.approx(of(name, S), rel=1e-9)
    assert of(name, S.reshape(7, 1, 2, 2), T.reshape(7, 2, 3)) == pytest.approx(of(name, S), rel=1e-9)


@each_loss
def test_gradients_are_right_and_reach_the_student_only(name: str) -> None:
    s, t = torch.from_numpy(S[:5]).clone().requires_grad_(), torch.from_numpy(T[:5]).clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, t), (s,))
    LOSSES[name](s, t).backward()
    assert t.grad is None


@each_loss
@pytest.mark.parametrize("case", ["duplicates", "near duplicates", "identical", "zeros", "one", "two", "huge", "tiny"])
def test_hostile_activations_have_finite_values_and_small_gradients(name: str, case: str) -> None:
    s, t = torch.from_numpy(S).float(), torch.from_numpy(T).float()
    if case == "duplicates":
        s[1], t[1], s[2] = s[0], t[0], s[3]
    elif case == "near duplicates":
        s[1] = s[0] * (1 + 1e-7)
    elif case == "identical":
        s[:], t[:] = s[:1].clone(), t[:1].clone()
    elif case == "zeros":
        s[:], t[2:] = 0.0, 0.0
    elif case in ("one", "two"):
        s, t = s[: 1 + (case == "two")], t[: 1 + (case == "two")]
    elif case in ("huge", "tiny"):
        factor = {"huge": 1e18, "tiny": 1e-18}[case]
        s, t = factor * s, factor * t
    s.requires_grad_()
    loss = LOSSES[name](s, t)
    (grad,) = torch.autograd.grad(loss, s)
    assert loss.dtype == torch.float32
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(grad).all())
    scale = float(s.detach().abs().max()) or 1.0
    assert float(grad.abs().max()) * scale < 10.0
    if case in ("huge", "tiny"):
        assert float(loss.detach()) == pytest.approx(of(name, S), rel=1e-3, abs=1e-6)


@each_loss
def test_autocast_does_not_reach_inside(name: str) -> None:
    s, t = torch.from_numpy(S).float(), torch.from_numpy(T).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, half = LOSSES[name](s, t), LOSSES[name](s.bfloat16(), t.bfloat16())
    assert inside.dtype == half.dtype == torch.float32
    assert float(inside) == float(LOSSES[name](s, t))
    exact = LOSSES[name](s.bfloat16().double(), t.bfloat16().double())
    assert float(half) == pytest.approx(float(exact), rel=1e-3, abs=1e-6)


@each_loss
def test_different_numbers_of_rows_are_one_sentence(name: str) -> None:
    with pytest.raises(InputError, match="same rows of both models, got 7 and 6"):
        LOSSES[name](torch.from_numpy(S), torch.from_numpy(T[:6]))


def view(**layers: Array) -> View:
    z = torch.zeros(7, 3)
    return View(z, z, {name: torch.from_numpy(x) for name, x in layers.items()})


BATCH = Batch(torch.ones(7), torch.zeros(7))


@pytest.mark.parametrize("objective", [RKD(), SP(), PKT(), CC(), CKA()], ids=lambda o: o.kind)
def test_objectives_look_at_their_layers(objective: RKD) -> None:
    pairs = {
        "rkd": ("rkd distance", "rkd angle"),
    }.get(objective.kind, (objective.kind,))
    factors = (1.0, 2.0)
    value = objective(view(features=S), view(features=T), BATCH)
    assert value.per_example is None
    assert float(value.value) == pytest.approx(
        sum(f * of(p, S) for f, p in zip(factors, pairs, strict=False)), rel=1e-9
    )
    many = type(objective)(student_taps=("a", "b"), teacher_taps=("c", "c"))
    both = many(view(a=S, b=T), view(c=T), BATCH)
    assert float(both.value) == pytest.approx(float(value.value), rel=1e-9)  # the second pair is equal, and adds 0


def test_rkd_leaves_out_what_weighs_nothing() -> None:
    s, t = view(features=S), view(features=T)
    assert float(RKD(angle=0, distance=3)(s, t, BATCH).value) == pytest.approx(3 * of("rkd distance", S))
    assert float(RKD(angle=3, distance=0)(s, t, BATCH).value) == pytest.approx(3 * of("rkd angle", S))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"kind": "sp", "student_taps": ["a", "b"]}, "2 and 1 were given"),
        ({"kind": "sp", "student_taps": "auto"}, 'both "auto"'),
        ({"kind": "sp", "student_taps": []}, "list of layers"),
        ({"kind": "pkt", "teacher_taps": "features"}, "list of layers"),
        ({"kind": "rkd", "distance": 0, "angle": 0}, "at least one"),
        ({"kind": "cc", "order": 0}, "order"),
        ({"kind": "cc", "gamma": 0}, "gamma"),
        ({"kind": "cka", "warmup": -1}, "warmup"),
    ],
)
def test_options_out_of_range_say_why(entry: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        as_objective(entry)


def test_layers_that_are_not_there_are_named() -> None:
    with pytest.raises(InputError, match=r"layer 'features' of the student.*Did you mean 'feature'"):
        SP()(view(feature=S), view(features=T), BATCH)
    auto = SP(student_taps="auto", teacher_taps="auto")
    with pytest.raises(InputError, match="paired before training"):
        auto(view(), view(), BATCH)
    assert SP(student_taps=["a"], teacher_taps=["b"]).student_taps == ("a",)  # type: ignore[arg-type]
