"""Warm-up and temperature decay: what an objective is at a moment of training."""

from __future__ import annotations

import pytest

from distillens.errors import InputError
from distillens.objectives import DKD, KD, MSE, Progress, objective_at


def test_weight_warms_up_linearly_and_stays() -> None:
    objective = DKD(weight=0.8, warmup=20)
    weights = [objective_at(objective, Progress(passed, 100)).weight for passed in (0, 5, 20, 60, 100)]
    assert weights == pytest.approx([0.0, 0.2, 0.8, 0.8, 0.8])
    assert objective == DKD(weight=0.8, warmup=20)  # frozen: the entry itself never changes


def test_temperature_goes_linearly_to_its_end() -> None:
    objective = KD(temperature=8, final_temperature=2)
    seen = [objective_at(objective, Progress(passed, 10)).temperature for passed in (0, 2.5, 10)]
    assert seen == pytest.approx([8.0, 6.5, 2.0])
    rising = objective_at(KD(temperature=1, final_temperature=3), Progress(5, 10))
    assert rising == KD(temperature=2.0)  # nothing left to schedule


def test_what_has_no_schedule_comes_back_as_it_is() -> None:
    objective = MSE(weight=0.3)
    assert objective_at(objective, Progress(0, 10)) is objective
    assert objective_at(MSE(warmup=4), Progress(1, 10)) == MSE(weight=0.25)


def test_without_progress_everything_is_as_at_the_end() -> None:
    """A loop of one's own that never says how far it is gets the whole weight, also of a warm-up longer than an epoch."""
    end = objective_at(DKD(weight=0.8, warmup=20, temperature=8, final_temperature=2), None)
    assert end == DKD(weight=0.8, temperature=2.0)


@pytest.mark.parametrize(("passed", "total"), [(11, 10), (-1, 10), (0, 0)])
def test_progress_that_cannot_be(passed: float, total: float) -> None:
    with pytest.raises(InputError):
        Progress(passed, total)
