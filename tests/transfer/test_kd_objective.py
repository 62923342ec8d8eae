"""kd_loss, mse_loss and logit standardisation, each against its formula written again in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax
from scipy.stats import zscore

from distillens.errors import InputError
from distillens.objectives import (
    KD,
    MSE,
    OBJECTIVES,
    Batch,
    LearnedObjective,
    PureObjective,
    View,
    kd_loss,
    mse_loss,
    standardize_logits,
)
from distillens.transfer.objectives.base import as_objective


def logits(seed: int, rows: int = 16, classes: int = 5, scale: float = 3.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(scale=scale, size=(rows, classes)))


def batch_of(rows: int, weights: list[float] | None = None) -> Batch:
    return Batch(torch.ones(rows) if weights is None else torch.tensor(weights), torch.full((rows,), torch.nan))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_equals_temperature_squared_times_the_divergence(temperature: float) -> None:
    s, t = logits(0), logits(1)
    p_t, p_s = softmax(t.numpy() / temperature, axis=1), softmax(s.numpy() / temperature, axis=1)
    expected = temperature**2 * rel_entr(p_t, p_s).sum(axis=1)
    got = kd_loss(s, t, temperature=temperature)
    assert got.shape == (16,)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("rows", [1, 7])
def test_a_student_like_its_teacher_scores_zero_with_zero_gradient(rows: int) -> None:
    t = logits(2, rows=rows)
    s = (t.clone() + 3.0).requires_grad_()  # a constant added to all logits changes no probability
    loss = kd_loss(s, t, temperature=4.0)
    loss.sum().backward()
    assert float(loss.detach().abs().max()) < 1e-12
    assert s.grad is not None
    assert float(s.grad.abs().max()) < 1e-12


def test_gradient_is_right_and_reaches_the_student_only() -> None:
    s, t = logits(3, rows=4).requires_grad_(), logits(4, rows=4).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: kd_loss(z, t, temperature=3.0), (s,))
    kd_loss(s, t, temperature=3.0).sum().backward()
    assert t.grad is None


def test_high_temperature_gradient_tends_to_matching_centred_logits() -> None:
    """Hinton et al. 2015, equation 4: ∂/∂z_s → (z_s − z_t) / C; the factor T² stands in for their 1 / (C T²)."""
    s, t = logits(5), logits(6)
    s, t = (s - s.mean(dim=1, keepdim=True)).requires_grad_(), t - t.mean(dim=1, keepdim=True)
    kd_loss(s, t, temperature=1e4).sum().backward()
    torch.testing.assert_close(s.grad, (s - t).detach() / s.shape[1], rtol=5e-3, atol=1e-3)


def test_saturated_logits_stay_finite() -> None:
    t = torch.tensor([[60.0, -60.0, 0.0], [-60.0, 60.0, 60.0]])
    s = torch.tensor([[-60.0, 60.0, 0.0], [60.0, -60.0, -60.0]], requires_grad=True)
    loss = kd_loss(s, t, temperature=1.0)
    loss.sum().backward()
    # All of the teacher's mass sits where the student has e^-120: the divergence is the gap of the logits.
    torch.testing.assert_close(
        loss.detach(), torch.tensor([120.0, 120.0 - np.log(2)], dtype=torch.float32), rtol=1e-5, atol=1e-4
    )
    assert s.grad is not None
    assert bool(torch.isfinite(s.grad).all())


def test_half_precision_is_widened_before_the_logarithm() -> None:
    s, t = logits(7).bfloat16(), logits(8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = kd_loss(s, t, temperature=4.0)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, kd_loss(s.double(), t.double(), temperature=4.0).float(), rtol=1e-4, atol=1e-6)


def test_inputs_are_left_as_they_were() -> None:
    s, t = logits(9), logits(10)
    before = s.clone(), t.clone()
    kd_loss(s, t, temperature=2.0), mse_loss(s, t), standardize_logits(s)
    assert torch.equal(s, before[0])
    assert torch.equal(t, before[1])


def test_standardised_logits_have_mean_zero_and_unbiased_deviation_one() -> None:
    z = logits(11, classes=10)
    np.testing.assert_allclose(standardize_logits(z).numpy(), zscore(z.numpy(), axis=1, ddof=1), rtol=1e-6)
    torch.testing.assert_close(standardize_logits(7 * z + 3), standardize_logits(z), rtol=1e-6, atol=1e-6)


def test_standardising_equal_logits_gives_zero_and_no_nan_gradient() -> None:
    z = torch.zeros(2, 4, requires_grad=True)
    standardize_logits(z).sum().backward()
    assert z.grad is not None
    assert bool(torch.isfinite(z.grad).all())


def test_mse_loss_sums_squares_over_outputs() -> None:
    s, t = logits(12), logits(13)
    np.testing.assert_allclose(mse_loss(s, t).numpy(), ((s.numpy() - t.numpy()) ** 2).sum(axis=1), rtol=1e-12)
    assert float(mse_loss(t, t).abs().max()) == 0.0


def test_mse_objective_ignores_a_constant_added_to_all_logits_but_not_to_values() -> None:
    z = logits(14, rows=6).float()
    many = MSE()(View(z + 5, z), View(z, z), batch_of(6))
    assert float(many.value) == pytest.approx(0.0, abs=1e-9)
    one = MSE()(View(z[:, :1] + 5, z), View(z[:, :1], z), batch_of(6))
    assert float(one.value) == pytest.approx(25.0, rel=1e-5)


def test_objective_is_the_weighted_mean_of_its_rows() -> None:
    s, t = logits(15, rows=3).float(), logits(16, rows=3).float()
    loss = KD(temperature=2.0)(View(s, s), View(t, t), batch_of(3, [0.5, 2.5, 0.0]))
    each = kd_loss(s, t, temperature=2.0)
    assert loss.per_example is not None
    torch.testing.assert_close(loss.per_example, each)
    assert float(loss.value) == pytest.approx(float((0.5 * each[0] + 2.5 * each[1]) / 3), rel=1e-6)


def test_standardised_objective_does_not_see_the_scale_of_the_logits() -> None:
    s, t = logits(17).float(), logits(18).float()
    plain = KD(standardize=True)(View(s, s), View(t, t), batch_of(16)).value
    scaled = KD(standardize=True)(View(9 * s, s), View(t / 5, t), batch_of(16)).value
    assert float(plain) == pytest.approx(float(scaled), rel=1e-4)
    with pytest.raises(InputError, match="three classes"):
        KD(standardize=True)(View(s[:, :2], s), View(t[:, :2], t), batch_of(16))


def test_kd_says_that_it_is_not_for_regression() -> None:
    z = torch.zeros(4, 1)
    with pytest.raises(InputError, match="mse"):
        KD()(View(z, z), View(z, z), batch_of(4))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"kind": "kdd"}, "Did you mean 'kd'"),
        ({"kind": "kd", "temprature": 4}, "Did you mean 'temperature'"),
        ({"kind": "kd", "temperature": 0}, "above 0"),
        ({"kind": "kd", "weight": -1}, "at least 0"),
        ({"kind": "kd", "weight": "much"}, "'much'"),
        ({"temperature": 4}, "needs a kind"),
        ({"kind": ["kd"]}, "needs a kind"),
        ("kd", "entry such as"),
    ],
)
def test_entries_that_cannot_be_used_say_why(entry: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        as_objective(entry)  # type: ignore[arg-type]


def test_every_named_objective_is_one() -> None:
    for kind in OBJECTIVES:
        objective = as_objective({"kind": kind, "weight": 0.25})
        assert isinstance(objective, (PureObjective, LearnedObjective))
        assert (objective.kind, objective.weight) == (kind, 0.25)
