"""Configurations of a mechanism: what is tried on validation rows before its seeds are trained.

Keys of a grid, each with a list of values:
    weights             factors by which the weights of all objectives are multiplied
    learning_rate       of the schedule
    task_weight         of the task loss
    KIND.OPTION         an option of an objective, such as kd.temperature

The configurations are all combinations; of more than the budget a random sample is tried (Bergstra and Bengio 2012), always with
the first. Fewer than the budget are an error, because then one mechanism would be given fewer chances than the others.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from distillens.errors import did_you_mean
from distillens.recipe.text import join

LISTED = ("weights", "learning_rate", "task_weight")


@dataclass(frozen=True)
class Configuration:
    """One way to run a mechanism. objectives: plain entries. changed: what the grid said, for tables."""

    objectives: tuple[dict[str, Any], ...]
    task_weight: float
    learning_rate: float
    changed: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def configurations(
    objectives: Sequence[Mapping[str, Any]], task_weight: float, learning_rate: float, *,
    grid: Mapping[str, Sequence[float]], budget: int, seed: int,
) -> tuple[Configuration, ...]:  # fmt: skip
    """`budget` configurations (one where the grid is empty), the same for the same seed."""
    import numpy as np

    every = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    if len(every) > budget:
        order = np.random.default_rng([seed, len(every)]).permutation(len(every) - 1)[: budget - 1] + 1
        every = [every[0], *(every[i] for i in sorted(order))]
    return tuple(_changed(objectives, task_weight, learning_rate, chosen) for chosen in every)


def _changed(
    objectives: Sequence[Mapping[str, Any]], task_weight: float, learning_rate: float, chosen: Mapping[str, float]
) -> Configuration:
    entries = [dict(entry) for entry in objectives]
    for key, value in chosen.items():
        kind, _, option = key.partition(".")
        for entry in entries:
            if key == "weights":
                entry["weight"] = _weight(entry) * value
            elif option and entry["kind"] == kind:
                entry[option] = _as_whole(value)
    return Configuration(
        tuple(entries), chosen.get("task_weight", task_weight), chosen.get("learning_rate", learning_rate), dict(chosen)
    )


def _weight(entry: Mapping[str, Any]) -> float:
    """The weight that stands in an entry, or its objective's own."""
    from distillens.recipe.entries import build_entry
    from distillens.transfer.objectives.base import OBJECTIVES

    if "weight" in entry:
        return float(entry["weight"])
    return float(build_entry(dict(entry), OBJECTIVES, what="objective", path="objectives", trust_code=False).weight)


def _as_whole(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


def grid_problems(
    grid: Mapping[str, Sequence[float]], objectives: Sequence[Mapping[str, Any]], budget: int, *, path: str
) -> list[str]:
    """What is wrong with a grid, one sentence each."""
    problems = []
    kinds = [str(entry.get("kind")) for entry in objectives]
    for key, values in grid.items():
        kind, _, option = key.partition(".")
        known = (*LISTED, *(f"{name}.weight" for name in kinds))
        if not (option and kind in kinds) and key not in LISTED:
            problems.append(f"{join(path, key)}: unknown key.{did_you_mean(key, known)}")
        if key == "weights" and not objectives:
            problems.append(f"{join(path, key)}: there are no objectives to weigh; try learning_rate.")
        if not values or any(not math.isfinite(v) or v < 0 for v in values):
            problems.append(f"{join(path, key)}: expected a list of numbers of at least 0.")
        elif len(set(values)) < len(values):
            problems.append(f"{join(path, key)}: a value is listed twice, and trying it twice is no second chance.")
        elif option and kind in kinds:
            problems += _option_problems(objectives, kind, option, values, join(path, key))
    number = math.prod(len(values) for values in grid.values())
    if grid and number < budget:
        problems.append(
            f"{path}: {number} combination{'s' if number > 1 else ''} for a budget of {budget}; every mechanism is given as many tries, so list more values."
        )
    return problems


def _option_problems(
    objectives: Sequence[Mapping[str, Any]], kind: str, option: str, values: Sequence[float], path: str
) -> list[str]:
    from distillens.recipe.entries import read_entry
    from distillens.transfer.objectives.base import OBJECTIVES

    for entry in objectives:
        for value in values if entry.get("kind") == kind else ():
            problems = read_entry({**entry, option: _as_whole(value)}, OBJECTIVES, what="objective", path=path)[1]
            if problems:
                return problems[:1]
    return []
