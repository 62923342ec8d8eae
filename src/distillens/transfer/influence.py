"""The influence self-test: does the student listen to its teacher at all?

Permute the teacher's answers over the rows and fit again with the same seed: a student that comes out the same has learned
from something else (the labels, or nothing). How well the *permuted* student agrees with the teacher does not matter
here, because labels alone make a student agree; it is the change that counts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from distillens.errors import DataError, InputError, NoInfluenceError
from distillens.models.base import as_probabilities, evaluate

if TYPE_CHECKING:
    from distillens.data.base import Floats, Inputs
    from distillens.models.base import Decision, Model
    from distillens.transfer.targets import Targets

# The student must move by at least this share of what its targets moved by. A linear, tree or additive student that ignores
# the teacher moves by exactly 0 (same seed, same data). A network does not: the smallest difference in a loss grows while it
# trains, and may change which epoch is kept. Measured over 60 to 120 epochs with one or two hidden layers: objectives of weight
# 1e-7 beside a task weight of 0.5 move it by up to 1.1 %, those of 0.02 by 3 to 12 %, of 0.1 by 22 % and of 0.5 by 49 %. Three
# percent lies above what chaos does, and below what any teaching worth its name does.
THRESHOLD = 0.03


@dataclass(frozen=True)
class Influence:
    """change: how far the student moves when the teacher's answers are permuted: mean total variation between the two students'
    probabilities, or the root mean squared difference over the standard deviation of the teacher's values.
    answers_change: the same distance between the teacher's answers and those of other rows: what the targets moved by.
    agreement, permuted_agreement: of each student with the teacher: share of equal decisions, or R² of the teacher's values.
    """

    change: float
    answers_change: float
    agreement: float
    permuted_agreement: float

    @property
    def relative(self) -> float:
        """The student's change as a share of its targets'."""
        return self.change / self.answers_change if self.answers_change > 0 else 0.0

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def permuted(targets: Targets, seed: int) -> Targets:
    """The same rows with the teacher's answers dealt out at random, queries included; labels and weights stay.

    Raises DataError for targets from labels: there are no answers of a teacher in them.
    """
    if targets.origin == "labels":
        raise DataError("Targets made from labels hold no teacher's answers to permute.")
    order = np.random.default_rng(seed).permutation(len(targets))
    asked = targets.inputs if targets.asked is None else targets.asked
    return replace(targets, outputs=targets.outputs[order], asked=asked.take(order))


def influence(
    student: Model, permuted_student: Model, teacher: Model, rows: Inputs, decision: Decision | None, *, seed: int = 0
) -> Influence:
    """Compare a student with the one fitted on permuted answers, on rows (best unseen ones).

    decision: how probabilities become decisions; None for regression, and for classes then the top class.
    seed: of the permutation behind `answers_change`. Raises InputError for fewer than two rows.
    """
    if len(rows) < 2:
        raise InputError(f"The influence self-test compares answers on at least two rows, got {len(rows)}.")
    order = np.random.default_rng(seed).permutation(len(rows))
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)  # one cycle: no row keeps its answer
    said, said_permuted, taught = (evaluate(model, rows) for model in (student, permuted_student, teacher))
    if not teacher.classes:
        spread = float(taught.std())
        if spread == 0:
            return Influence(0.0, 0.0, float("nan"), float("nan"))

        def distance(a: Floats, b: Floats) -> float:
            return float(np.sqrt(np.mean((a - b) ** 2))) / spread

        return Influence(
            distance(said, said_permuted),
            distance(taught, taught[others]),
            1 - distance(said, taught) ** 2,
            1 - distance(said_permuted, taught) ** 2,
        )
    p, q, t = (
        as_probabilities(said, student.output),
        as_probabilities(said_permuted, permuted_student.output),
        as_probabilities(taught, teacher.output),
    )

    def variation(a: Floats, b: Floats) -> float:
        return float(0.5 * np.abs(a - b).sum(axis=1).mean())

    decided = [x.argmax(axis=1) if decision is None else decision(x) for x in (p, q, t)]
    agreement, permuted_agreement = (float((d == decided[2]).mean()) for d in decided[:2])
    return Influence(variation(p, q), variation(t, t[others]), agreement, permuted_agreement)


def check_influence(measured: Influence, *, student: str = "the student", threshold: float = THRESHOLD) -> None:
    """Raises NoInfluenceError when the student moved by less than `threshold` of what its targets moved by."""
    if measured.answers_change < 1e-9:
        raise NoInfluenceError(
            f"The teacher gives the same answer for every row, so that {student} cannot learn anything from it; look at the teacher."
        )
    if measured.relative < threshold:
        raise NoInfluenceError(
            f"The student {student!r} ignores its teacher: when the teacher's answers are permuted, its own change by {measured.change:.2g}, "
            f"{measured.relative:.2%} of what the answers changed by (at least {threshold:.0%} is expected). "
            "Give the objectives more weight, or the task loss less."
        )
