"""Boosted trees: weights of 1 are left out for speed, and that changes no answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from distillens.data.base import Column, Split, Table
from distillens.students.boosted import BoostedTreesFamily
from distillens.transfer.targets import Targets


@pytest.mark.parametrize("classes", [("no", "yes"), ()])
def test_weights_of_one_are_no_weights(classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    seen: list[bool] = []
    for estimator in (HistGradientBoostingClassifier, HistGradientBoostingRegressor):
        fit = estimator.fit

        def noted(self, x, y, sample_weight=None, *, fit=fit):  # type: ignore[no-untyped-def]
            seen.append(sample_weight is None)
            return fit(self, x, y, sample_weight=sample_weight)

        monkeypatch.setattr(estimator, "fit", noted)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 3))
    score = x[:, 0] - x[:, 1] + rng.normal(size=150)
    split = Split(
        Table(x, tuple(Column(f"x{j}") for j in range(3)), np.arange(150)),
        (score > 0).astype(np.int64) if classes else score,
    )
    family = BoostedTreesFamily(max_rounds=20, tune=False)
    even = Targets.from_labels(split, classes)
    weights = np.ones(150)
    weights[0] = np.nextafter(1, 2)  # as good as 1, and yet weighted
    models = [
        family.fit(targets, validation=split, teacher=None, seed=0)
        for targets in (even, replace(even, weights=weights))
    ]
    assert seen == [True, False]
    np.testing.assert_allclose(models[0](split.inputs), models[1](split.inputs), atol=1e-6)
