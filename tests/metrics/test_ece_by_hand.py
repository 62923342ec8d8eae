"""The debiased calibration error of a handful of rows, on paper."""

from __future__ import annotations

import numpy as np
import pytest

from distillens.metrics.calibration import Bins, ece


def test_one_bin_of_four_rows() -> None:
    """Gap 1/4 − 0.9 = −0.65; 0.4225 less the noise of the frequency, ¼ · ¾ / (4 − 1) = 0.0625, is 0.36."""
    positive = np.array([True, False, False, False])
    one = Bins(np.zeros(4, dtype=np.int64), 1)
    weights = np.ones((1, 4))
    assert ece(np.full(4, 0.9), positive, one)(weights)[0] == pytest.approx(0.6)
    assert ece(np.full(4, 0.9), positive, one, layers=2)(weights)[0] == pytest.approx(np.sqrt(0.4225 - 0.125))
    assert ece(np.full(4, 0.25), positive, one)(weights)[0] == 0.0  # floored, not the root of a negative number


def test_the_noise_taken_off_is_the_noise_there_is() -> None:
    """Over all 2^5 outcomes of five rows of probability 0.3, E(ȳ − 0.3)² = E ȳ (1 − ȳ) / 4."""
    outcomes = (np.arange(32)[:, None] >> np.arange(5)) & 1
    chance = np.prod(np.where(outcomes, 0.3, 0.7), axis=1)
    frequency = outcomes.mean(axis=1)
    gap, noise = chance @ (frequency - 0.3) ** 2, chance @ (frequency * (1 - frequency) / 4)
    assert gap == pytest.approx(noise)
    assert gap == pytest.approx(0.3 * 0.7 / 5)


def test_bins_count_by_their_mass() -> None:
    bins = Bins(np.array([0, 0, 0, 0, 1, 1]), 2)
    positive = np.array([True, False, False, False, True, True])
    made = ece(np.array([0.9] * 4 + [0.5] * 2), positive, bins)(np.ones((1, 6)))[0]
    assert made == pytest.approx(np.sqrt((4 * 0.36 + 2 * 0.25) / 6))
