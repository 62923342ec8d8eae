"""Agreement of explanations: hand values, identities, ties and unknown signs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from distillens.metrics import behaviour, reasons

MAPS = arrays(np.float64, (3, 6), elements=st.integers(-3, 3).map(float))
ALL = [
    reasons.top_k_overlap,
    reasons.sign_agreement,
    reasons.rank_agreement,
    reasons.signed_rank_agreement,
    lambda a, b, k: reasons.rank_biased_overlap(a, b),
    lambda a, b, k: reasons.mass_overlap(a, b),
]


@pytest.mark.parametrize("metric", ALL)
@given(values=MAPS, k=st.integers(1, 8))
def test_a_map_against_itself_scores_one(metric, values: np.ndarray, k: int) -> None:
    made = metric(values, values, k=k)
    np.testing.assert_allclose(made[~np.isnan(made)], 1.0)
    assert not np.isnan(made[(values != 0).sum(axis=1) > 0]).any()


@pytest.mark.parametrize("metric", ALL)
@given(first=MAPS, second=MAPS, k=st.integers(1, 6), order=st.permutations(range(6)))
def test_symmetric_bounded_and_blind_to_the_order_of_units(metric, first, second, k, order) -> None:
    made = metric(first, second, k=k)
    np.testing.assert_allclose(made, metric(second, first, k=k), atol=1e-12)
    np.testing.assert_allclose(made, metric(first[:, order], second[:, order], k=k), atol=1e-12)
    known = made[~np.isnan(made)]
    assert ((known >= -1e-12) & (known <= 1 + 1e-12)).all()


def test_hand_values() -> None:
    first = np.array([[5.0, -4.0, 3.0, 2.0, 1.0, 0.5]])
    second = np.array([[4.0, 5.0, -3.0, 0.1, 2.0, 0.2]])
    # first's three main: 0, 1, 2; second's: 1, 0, 2
    assert reasons.top_k_overlap(first, second, k=3)[0] == 1.0
    assert reasons.top_k_overlap(first, second, k=4)[0] == 0.75  # 3 against 4
    assert reasons.sign_agreement(first, second, k=3)[0] == pytest.approx(1 / 3)  # only unit 0 points the same way
    assert reasons.rank_agreement(first, second, k=3)[0] == pytest.approx(1 / 3)  # only unit 2 keeps its place
    assert reasons.signed_rank_agreement(first, second, k=3)[0] == 0.0
    p, q = np.abs(first) / np.abs(first).sum(), np.abs(second) / np.abs(second).sum()
    assert reasons.mass_overlap(first, second)[0] == pytest.approx(np.minimum(p, q).sum())


def test_ties_at_the_cut_are_shared() -> None:
    np.testing.assert_allclose(reasons.top_k(np.array([[3.0, 1.0, -1.0, 1.0, 0.0]]), 2), [[1, 1 / 3, 1 / 3, 1 / 3, 0]])
    rounding = np.array([[0.1 + 0.2, 0.3, 0.0]])  # equal but for rounding
    np.testing.assert_allclose(reasons.top_k(rounding, 1), [[0.5, 0.5, 0]])


def test_a_sign_counts_only_above_its_standard_error() -> None:
    first, second = np.array([[5.0, 4.0, 0.5]]), np.array([[5.0, -4.0, 0.5]])
    noise = np.array([[0.1, 4.5, 0.1]])
    assert reasons.sign_agreement(first, second, k=2)[0] == 0.5
    assert reasons.sign_agreement(first, second, k=2, second_stderr=noise)[0] == 1.0
    everything = np.full((1, 3), 9.0)
    assert np.isnan(reasons.sign_agreement(first, second, k=2, first_stderr=everything)[0])


def test_rank_biased_overlap_against_its_definition() -> None:
    rng = np.random.default_rng(0)
    a, b, p = rng.normal(size=6), rng.normal(size=6), 0.8
    rank_a, rank_b = np.argsort(-np.abs(a)), np.argsort(-np.abs(b))
    share = [len(set(rank_a[:d]) & set(rank_b[:d])) / d for d in range(1, 7)]
    expected = share[-1] * p**6 + (1 - p) / p * sum(s * p**d for d, s in enumerate(share, 1))
    assert reasons.rank_biased_overlap(a[None], b[None])[0] == pytest.approx(expected, abs=1e-9)


def test_zero_maps() -> None:
    zero, other = np.zeros((1, 4)), np.array([[1.0, 2.0, 0.0, 0.0]])
    assert np.isnan(reasons.mass_overlap(zero, other)[0])
    assert reasons.top_k_overlap(zero, other, k=2)[0] == pytest.approx(0.5)  # k / F: nothing known
    assert reasons.top_k_overlap(zero, zero, k=2)[0] == 1.0


@pytest.mark.parametrize(
    ("features", "number", "seed"), [(17, 64, 0), (17, 65, 1), (30, 256, 2), (8, 200, 3), (3, 5, 4)]
)
def test_random_masks_come_in_complementary_pairs(features: int, number: int, seed: int) -> None:
    masks = behaviour.random_masks(features, number, seed=seed)
    assert len(masks) == number
    alone, drawn = masks[:features], masks[features:]
    assert ((~alone).sum(axis=1) == 1).all()  # each feature removed by itself
    there = {mask.tobytes() for mask in masks}
    unpaired = [place for place, mask in enumerate(drawn) if (~mask).tobytes() not in there]
    assert unpaired in ([], [len(drawn) - 1])  # the number may cut the last pair
    partners = [(a ^ b).all() for a, b in itertools.pairwise(drawn)]
    of_removed = (drawn.sum(axis=1) == 1).sum()  # whose complement is one of the first
    assert (
        sum(partners) >= (len(drawn) - of_removed - len(unpaired)) / 2
    )  # a mask and its complement stand side by side


def test_random_masks() -> None:
    masks = behaviour.random_masks(17, 64, seed=0)
    assert masks.shape == (64, 17)
    assert len(np.unique(masks, axis=0)) == 64
    assert (masks == behaviour.random_masks(17, 64, seed=0)).all()
    assert masks.any(axis=1).all()
    assert not masks.all(axis=1).any()
    assert behaviour.random_masks(4, 64, seed=0).shape == (14, 4)  # all but the empty and the full one
    assert behaviour.random_masks(1, 64, seed=0).shape == (1, 1)


def test_mask_correlation_and_falls_by_hand() -> None:
    moves = np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 0.0]])
    made = behaviour.mask_correlation(moves, 3 * moves)
    assert made[0] == pytest.approx(1.0)
    assert np.isnan(made[1])
    teacher, student = np.array([2.0, -1.0]), np.array([1.0, 1.0])
    np.testing.assert_array_equal(behaviour.aligned_fall(teacher, student), [1.0, -1.0])
    assert behaviour.fall_ratio(teacher, student, np.array([[1.0, 1.0], [2.0, 1.0]])) == pytest.approx([0.0, 1 / 5])
    assert np.isnan(behaviour.fall_ratio(np.zeros(2), student, np.ones((1, 2)))[0])
