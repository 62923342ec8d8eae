"""The target: which task it is, its classes in order, and the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distillens.data.kinds import Cells, read_cells, rows_text, text_of_number
from distillens.data.table import sorted_texts
from distillens.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Floats, TaskKind

TASKS = ("auto", "binary", "multiclass", "classification", "regression")
MOST_CLASSES = 10  # a numeric target with at most this many whole values may be a class


@dataclass(frozen=True, eq=False)
class Target:
    """task; classes in label order, empty for regression; labels: (n,) int64 class indices, or float64 values."""

    task: TaskKind
    classes: tuple[str, ...]
    labels: NDArray[Any]

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each class; empty for regression."""
        return {c: int((self.labels == k).sum()) for k, c in enumerate(self.classes)}


def read_target(frame: pd.DataFrame, target: str, *, task: str = "auto") -> Target:
    """Labels of every row.

    task "auto": text, booleans and categories are classes; so are numbers with at most ten distinct whole values if
    there are only two, or at least ten rows for each; everything else is regression. "classification", "binary",
    "multiclass" and "regression" force it. Class names are text in sorted order, numbers by size.
    Raises DataError when the target is not there, is missing in some or all rows, has one value only, holds dates,
    or does not fit the task asked for.
    """
    if task not in TASKS:
        raise DataError(f"There is no task {task!r}.{did_you_mean(task, TASKS)}")
    names = [str(c) for c in frame.columns]
    if target not in names:
        raise DataError(f"There is no column {target!r} to predict.{did_you_mean(target, names)}")
    cells = read_cells(frame.iloc[:, names.index(target)], target)
    n, absent = len(cells), int(cells.missing.sum())
    if absent == n:
        raise DataError(f"The target {target!r} is empty in all {n:,} rows.")
    if absent:
        raise DataError(
            f"The target {target!r} is missing in {absent:,} of {n:,} rows ({rows_text(cells.missing)}); drop those rows or fill them in."
        )
    if cells.kind == "date":
        raise DataError(f"The target {target!r} holds dates; turn it into a number (days until …) or into classes.")
    regression = task == "regression" or (task == "auto" and is_continuous(cells))
    if regression:
        if cells.numbers is None:
            raise DataError(
                f"The target {target!r} holds text; regression needs numbers. Choose another target, or a task or model of classes."
            )
        if len(cells.distinct()) == 1:
            raise DataError(f"The target {target!r} has the same value in every row; there is nothing to learn.")
        return Target("regression", (), cells.numbers)
    return _classes(cells, target, task)


def is_continuous(cells: Cells) -> bool:
    """Whether "auto" reads these cells as a quantity rather than as classes."""
    if cells.kind != "numeric":
        return False
    values: Floats = np.unique(np.asarray(cells.numbers)[~cells.missing])
    if len(values) > MOST_CLASSES or not (values == np.round(values)).all():
        return True
    return len(values) > 2 and len(values) * 10 > len(cells)


def _classes(cells: Cells, target: str, task: str) -> Target:
    if cells.texts is None:
        texts = [text_of_number(v) for v in np.asarray(cells.numbers)]
    else:
        texts = [str(t) for t in cells.texts]
    classes = sorted_texts(set(texts))
    if len(classes) < 2:
        raise DataError(f"The target {target!r} has only the class {classes[0]!r}; a classifier needs two or more.")
    if task == "binary" and len(classes) != 2:
        shown = ", ".join(map(repr, classes[:5])) + (", …" if len(classes) > 5 else "")
        raise DataError(f"A binary task needs two classes, but the target {target!r} has {len(classes):,} ({shown}).")
    if task == "multiclass" and len(classes) == 2:
        raise DataError(
            f"A multiclass task needs three or more classes, but the target {target!r} has two; use task: binary."
        )
    index = {c: k for k, c in enumerate(classes)}
    labels = np.array([index[t] for t in texts], dtype=np.int64)
    return Target("binary" if len(classes) == 2 else "multiclass", classes, labels)
