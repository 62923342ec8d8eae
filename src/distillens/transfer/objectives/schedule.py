"""Weights that warm up and temperatures that fall (or rise) while training goes on.

An objective is a frozen dataclass and stays one: its entry says where things begin and end, and the training loop asks
`objective_at(objective, progress)` in every step for a copy with the numbers of that moment.

    {kind: dkd, weight: 1, warmup: 20, temperature: 8, final_temperature: 2}

warmup: the weight grows linearly from 0 to itself over that many epochs, min(epochs passed / warmup, 1); Zhao et al. 2022
warm DKD up like this. final_temperature: T moves linearly from `temperature` to it over the whole training (the idea of
Jafari et al. 2021, "Annealing Knowledge Distillation", with their φ replaced by T itself); the factor T² moves along.
Nothing moves unless an entry says so.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from distillens.errors import InputError
from distillens.transfer.objectives.base import Objective, check_number

AnyObjective = TypeVar("AnyObjective", bound=Objective)


@dataclass(frozen=True)
class Progress:
    """How far training is. passed: epochs done, fractions for the steps of the current one; total: epochs planned."""

    passed: float
    total: float

    def __post_init__(self) -> None:
        check_number(self.total, name="total", above=0)
        check_number(self.passed, name="passed", at_least=0)
        if self.passed > self.total:
            raise InputError(f"Training of {self.total:g} epochs cannot have passed {self.passed:g}.")


def objective_at(objective: AnyObjective, progress: Progress | None) -> AnyObjective:
    """The objective with the weight and the temperature of this moment, and nothing left to schedule. None: of the end.

    Objectives without these options, and those whose schedule is over, come back as they are. A `LearnedObjective` builds
    its module once: of its copy only the weight is to be used.
    """
    changes: dict[str, Any] = {}
    names = {f.name for f in fields(objective)}  # type: ignore[arg-type]  # an objective is a dataclass
    warmup = getattr(objective, "warmup", 0.0) if "warmup" in names else 0.0
    if warmup > 0:
        warmth = 1.0 if progress is None else min(progress.passed / warmup, 1.0)
        changes |= {"weight": objective.weight * warmth, "warmup": 0.0}
    final = getattr(objective, "final_temperature", None) if "final_temperature" in names else None
    if final is not None:
        start: float = objective.temperature  # type: ignore[attr-defined]  # checked by check_schedule
        share = 1.0 if progress is None else progress.passed / progress.total
        changes |= {"temperature": start + share * (final - start), "final_temperature": None}
    return replace(objective, **changes) if changes else objective  # type: ignore[type-var]


def check_schedule(objective: Objective) -> None:
    """Options weight and, where an objective has them, warmup, temperature and final_temperature. Raises InputError."""
    check_number(objective.weight, name="weight", at_least=0)
    if hasattr(objective, "warmup"):
        check_number(objective.warmup, name="warmup", at_least=0)
    if hasattr(objective, "temperature"):
        check_number(objective.temperature, name="temperature", above=0)
    final = getattr(objective, "final_temperature", None)
    if final is not None:
        check_number(final, name="final_temperature", above=0)
