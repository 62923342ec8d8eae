"""The fixed class and threshold that everything in a run speaks of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distillens.errors import RecipeError, did_you_mean
from distillens.store import JSON

if TYPE_CHECKING:
    from distillens.data.base import Dataset


def decide(dataset: Dataset, source: str | None, *, adverse: str | None, threshold: float | None) -> JSON | None:
    """The fixed class and threshold of a classification, from the recipe or from what built-in data are known for."""
    from distillens.data.builtin import BUILTIN

    if not dataset.classes:
        if adverse is not None:
            raise RecipeError(
                "task.adverse names a class, but the target is a number and this is a regression; remove it."
            )
        return None
    known = BUILTIN[source].adverse if source in BUILTIN else None
    name = adverse or known or dataset.classes[1 if len(dataset.classes) == 2 else 0]
    if name not in dataset.classes:
        raise RecipeError(f"task.adverse: {name!r} is not one of the classes.{did_you_mean(name, dataset.classes)}")
    limit = 0.5 if threshold is None else threshold
    return {"adverse": name, "adverse_index": dataset.classes.index(name), "threshold": limit}
