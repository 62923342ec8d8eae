"""The fixed class and threshold that everything in a run speaks of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillens.errors import RecipeError, did_you_mean
from distillens.store import JSON

if TYPE_CHECKING:
    from distillens.data.base import Dataset


def threshold_of_costs(false_positive: float, false_negative: float) -> float:
    """The probability of the adverse class from which deciding it is cheaper: deciding costs (1 − p) · fp, not deciding p · fn, equal at
    fp / (fp + fn) (Elkan 2001, "The Foundations of Cost-Sensitive Learning", eq. 2). Both costs above 0."""
    return false_positive / (false_positive + false_negative)


def decide(
    dataset: Dataset,
    source: str | None,
    *,
    adverse: str | None,
    threshold: float | None,
    costs: tuple[float, float] | None = None,
) -> JSON | None:
    """The fixed class and threshold of a classification, from the recipe or from what built-in data are known for.

    costs: of a false positive (the adverse class decided wrongly) and of a false negative; they imply the threshold where none is given.
    """
    from distillens.data.builtin import BUILTIN

    if not dataset.classes:
        if adverse is not None:
            raise RecipeError(
                "task.adverse names a class, but the target is a number and this is a regression; remove it."
            )
        if costs is not None:
            raise RecipeError(
                "task.costs are of wrong decisions between two classes, but this is a regression; remove them."
            )
        return None
    if costs is not None and len(dataset.classes) != 2:
        raise RecipeError(
            f"task.costs are of wrong decisions between two classes, but there are {len(dataset.classes)}; remove them."
        )
    known = BUILTIN[source].adverse if source in BUILTIN else None
    name = adverse or known or dataset.classes[1 if len(dataset.classes) == 2 else 0]
    if name not in dataset.classes:
        raise RecipeError(f"task.adverse: {name!r} is not one of the classes.{did_you_mean(name, dataset.classes)}")
    limit = threshold
    if limit is None:
        limit = 0.5 if costs is None else threshold_of_costs(*costs)
    told = {} if costs is None else {"costs": {"false_positive": costs[0], "false_negative": costs[1]}}
    return {"adverse": name, "adverse_index": dataset.classes.index(name), "threshold": limit} | told
