"""The saturation test: does the teacher know its training rows by heart?

A teacher that fits its training rows perfectly answers there with the labels, and a student taught by those answers is
the same student that was never taught. What shows it: on training rows the teacher's answers are (nearly) certain, on
rows it has not seen they are not. For regression its residuals vanish on training rows only.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import entr, stdtrit

from distillens.data.images import Images
from distillens.errors import DataError, SaturationWarning
from distillens.estimate import Estimate
from distillens.models.base import as_probabilities, evaluate

if TYPE_CHECKING:
    from distillens.data.base import Floats, Ints, Split
    from distillens.models.base import Model

ROWS = 10_000  # at most so many rows of each side are asked; more would not change the answer


@dataclass(frozen=True)
class SaturationReport:
    """estimate: held-out minus in-sample mean uncertainty with a Welch interval. in_sample, held_out: the two means.

    Uncertainty is the entropy of the answer in nats, for regression the absolute residual against the label.
    saturated: the interval lies above 0 and the in-sample mean is below half of the held-out one.
    text: one sentence that says what was found and what to do.
    """

    estimate: Estimate
    in_sample: float
    held_out: float
    saturated: bool
    text: str

    def warn_if_saturated(self) -> None:
        """Issue a SaturationWarning that says what to do, if there is reason to."""
        if self.saturated:
            warnings.warn(self.text, SaturationWarning, stacklevel=2)

    def to_json(self) -> dict[str, Any]:
        return {
            "saturation": self.estimate.to_json(), "in_sample_entropy": self.in_sample, "held_out_entropy": self.held_out,
            "saturated": self.saturated, "text": self.text,
        }  # fmt: skip


def saturation(teacher: Model, train: Split, held_out: Split, *, seed: int, level: float = 0.95) -> SaturationReport:
    """Compare the teacher's uncertainty on its training rows with rows it has not seen.

    seed: draws at most `ROWS` rows of each side. level: of the two-sided interval; a teacher that is equally sure on
    both sides is called saturated in less than (1 − level) / 2 of all data sets.
    Raises DataError when a side has fewer than two rows (or groups), or, for regression, no labels.
    """
    rng = np.random.default_rng(seed)
    inside, outside = _uncertainty(teacher, train, rng), _uncertainty(teacher, held_out, rng)
    estimate = welch_difference(*outside, *inside, level=level)
    low_mean, high_mean = float(inside[0].mean()), float(outside[0].mean())
    saturated = estimate.low > 0 and low_mean < 0.5 * high_mean
    what = "mean entropy of its answers" if teacher.classes else "mean absolute residual"
    unit = " nats" if teacher.classes else ""
    numbers = f"{low_mean:.3g}{unit} on training rows against {high_mean:.3g}{unit} on held-out rows"
    if saturated:
        instead = "query rows if it cannot be refitted"
        if isinstance(train.inputs, Images):
            instead = "views of each image (augment), which the teacher answers as the student sees them"
        text = (
            f"The teacher {teacher.label!r} knows its training rows by heart (the {what} is {numbers}), so that its answers there teach "
            f"little more than the labels: use out-of-fold targets (targets: {{origin: out_of_fold}}), or {instead}."
        )
    else:
        text = f"The teacher's answers on its training rows are usable targets: the {what} is {numbers}."
    return SaturationReport(estimate, low_mean, high_mean, saturated, text)


def _uncertainty(teacher: Model, split: Split, rng: np.random.Generator) -> tuple[Floats, Ints | None]:
    """(m,) entropy in nats, or absolute residual, of at most `ROWS` rows, and their groups."""
    if len(split) > ROWS:
        split = split.take(np.sort(rng.choice(len(split), ROWS, replace=False)))
    outputs = evaluate(teacher, split.inputs)
    if teacher.classes:
        return np.asarray(entr(as_probabilities(outputs, teacher.output)).sum(axis=1), dtype=np.float64), split.groups
    if split.labels is None:
        raise DataError("The saturation test of a regression compares residuals, and these rows have no labels.")
    return np.abs(outputs[:, 0] - np.asarray(split.labels, dtype=np.float64)), split.groups


def welch_difference(a: Floats, a_groups: Ints | None, b: Floats, b_groups: Ints | None, *, level: float) -> Estimate:
    """mean(a) − mean(b) of two independent samples (Welch 1947): unequal variances, Satterthwaite's degrees of freedom.

    Rows of one group count as one observation: the variance of a mean is then Σ_g (Σ_{i∈g} (x_i − x̄))² / n² · G / (G − 1).
    """
    (mean_a, var_a, units_a), (mean_b, var_b, units_b) = _mean_variance(a, a_groups), _mean_variance(b, b_groups)
    clustered = a_groups is not None or b_groups is not None
    variance = var_a + var_b
    if variance == 0:
        half = 0.0
    else:
        freedom = variance**2 / (var_a**2 / (units_a - 1) + var_b**2 / (units_b - 1))
        half = float(stdtrit(freedom, 0.5 + level / 2)) * math.sqrt(variance)
    value = mean_a - mean_b
    return Estimate(value, value - half, value + half, level, "two", n=len(a) + len(b),
                    n_clusters=units_a + units_b if clustered else None, method="welch-clusters" if clustered else "welch")  # fmt: skip


def _mean_variance(x: Floats, groups: Ints | None) -> tuple[float, float, int]:
    """The mean of n rows, the variance of that mean, and how many independent units it rests on."""
    group = np.arange(len(x)) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(group.max()) + 1 if len(x) else 0
    if units < 2:
        raise DataError(f"The saturation test needs at least two independent rows on each side, got {units}.")
    mean = float(x.mean())
    sums = np.bincount(group, weights=x - mean)
    return mean, float((sums**2).sum()) / len(x) ** 2 * units / (units - 1), units
