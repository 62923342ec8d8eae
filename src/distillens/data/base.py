"""`Column`, `Table`, `Split`, `Dataset`: coded numbers with the user's names beside them.

The raw feature is the unit that models receive and that gets explained; one-hot and scaling happen inside models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distillens.errors import DataError, did_you_mean
from distillens.store import content_hash

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.images import Images

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
ColumnKind = Literal["numeric", "categorical", "boolean"]
TaskKind = Literal["binary", "multiclass", "regression"]
Role = Literal["feature", "target", "weight", "group", "time", "id", "audit_only", "ignore"]

UNSEEN = -1.0  # the code of a category that training did not contain


@dataclass(frozen=True)
class Column:
    """One raw feature.

    name: as the user wrote it. kind: numeric, categorical or boolean.
    categories: for categorical columns the values of codes 0, 1, …, as text; for boolean columns the two values of
    codes 0 and 1, as text; empty for numeric.
    """

    name: str
    kind: ColumnKind = "numeric"
    categories: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "kind": self.kind, "categories": list(self.categories)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Column:
        return cls(record["name"], record["kind"], tuple(record["categories"]))


def positions(indices: Sequence[int] | Ints | Bools) -> Ints:
    """Positions of rows: as they are, or where a mask is True. NumPy makes floats of an empty list, which index nothing."""
    index = np.asarray(indices)
    if index.dtype == np.bool_:
        return np.flatnonzero(index)
    return index.astype(np.int64) if index.size == 0 else index


@dataclass(frozen=True, eq=False)
class Table:
    """Raw features as codes; never a data frame in a loop.

    values: (n, F) float64; numbers, category codes; NaN = missing, −1 = category unseen in training.
    columns: F columns. row_ids: (n,) int64, stable over splits, subsets and runs.
    Raises DataError when the shapes do not fit.
    """

    values: Floats
    columns: tuple[Column, ...]
    row_ids: Ints

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.columns):
            raise DataError(
                f"A table of {len(self.columns)} columns needs values of shape (n, {len(self.columns)}), got {self.values.shape}."
            )
        if self.row_ids.shape != (self.values.shape[0],):
            raise DataError(f"A table of {self.values.shape[0]} rows needs as many row ids, got {self.row_ids.shape}.")

    def __len__(self) -> int:
        return int(self.values.shape[0])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is written to disk: values and row_ids."""
        return {"values": self.values, "row_ids": self.row_ids}

    def index_of(self, name: str) -> int:
        """Position of a column; DataError with a suggestion when there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            raise DataError(f"There is no feature {name!r}.{did_you_mean(name, self.names)}") from None

    def take(self, indices: Sequence[int] | Ints | Bools) -> Table:
        """The rows at `indices` (positions or a mask; an empty list gives no rows), with their row ids."""
        index = positions(indices)
        return Table(self.values[index], self.columns, self.row_ids[index])

    def with_values(self, values: Floats) -> Table:
        """The same columns with other rows (masked or generated ones); their row ids are −1: they are nobody's."""
        return Table(
            np.ascontiguousarray(values, dtype=np.float64), self.columns, np.full(len(values), -1, dtype=np.int64)
        )

    @staticmethod
    def concatenate(tables: Sequence[Table]) -> Table:
        """Rows of several tables of the same columns, one after the other."""
        first = tables[0]
        if any(table.columns != first.columns for table in tables):
            raise DataError("Only tables with the same columns can be joined row by row.")
        return Table(
            np.concatenate([t.values for t in tables]), first.columns, np.concatenate([t.row_ids for t in tables])
        )

    def to_frame(self) -> pd.DataFrame:
        """Back to the user's names and values; missing is NaN/None, an unseen category is the text "(unseen)"."""
        import pandas as pd

        data: dict[str, Any] = {}
        for j, column in enumerate(self.columns):
            data[column.name] = (
                self.values[:, j] if column.kind == "numeric" else [self.text_of(v, j) for v in self.values[:, j]]
            )
        return pd.DataFrame(data, index=pd.Index(self.row_ids, name="row_id"))

    def text_of(self, value: float, column: int) -> str | None:
        """One coded value in the user's words; None when missing."""
        if np.isnan(value):
            return None
        described = self.columns[column]
        if described.kind == "numeric":
            return f"{value:.6g}"
        code = int(value)
        return described.categories[code] if 0 <= code < len(described.categories) else "(unseen)"


Inputs: TypeAlias = "Table | Images"  # what models are asked about: rows of a table, or pictures


def as_table(inputs: Inputs, *, what: str = "This") -> Table:
    """The same rows, known to be a table. DataError when they are images; `what` names who needs a table."""
    if isinstance(inputs, Table):
        return inputs
    raise DataError(f"{what} works on tables, and these rows are images.")


@dataclass(frozen=True, eq=False)
class Split:
    """Rows with what is known about them.

    inputs: n rows of a table, or n images. labels: (n,) class indices as int64, or float64 values for regression; None when unknown.
    weights: (n,) or None. groups: (n,) int64 cluster ids or None.
    audit_only: a data frame of n rows in the user's own values, for slices; never enters a model.
    """

    inputs: Inputs
    labels: NDArray[Any] | None = None
    weights: Floats | None = None
    groups: Ints | None = None
    audit_only: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def table(self) -> Table:
        """The inputs, known to be a table; DataError when they are images."""
        return as_table(self.inputs)

    def take(self, indices: Sequence[int] | Ints | Bools) -> Split:
        index = positions(indices)
        return Split(
            self.inputs.take(index),
            None if self.labels is None else self.labels[index],
            None if self.weights is None else self.weights[index],
            None if self.groups is None else self.groups[index],
            None if self.audit_only is None else self.audit_only.iloc[index].reset_index(drop=True),
        )


@dataclass(frozen=True)
class Finding:
    """Something about the data a careful reader wants to know. severity: info, warning.

    text: in English; kind, column and values say the same for readers of any language.
    """

    kind: str  # "duplicate_rows", "id_like", "constant", "leak", "imbalance", "missing_labels", …
    column: str | None
    text: str
    severity: Literal["info", "warning"] = "warning"
    values: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "column": self.column,
            "text": self.text,
            "severity": self.severity,
            "values": dict(self.values),
        }


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits of one source.

    classes: class names in the order of the label indices; empty for regression.
    roles: role of every column of the source, features included, by name.
    source: where the data came from, in words; licence and citation where known.
    """

    train: Split
    validation: Split
    test: Split
    task: TaskKind
    classes: tuple[str, ...]
    target: str
    name: str = "data"
    source: str = ""
    licence: str = ""
    citation: str = ""
    roles: dict[str, Role] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def is_table(self) -> bool:
        """Whether rows are those of a table; otherwise they are images."""
        return isinstance(self.train.inputs, Table)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The raw features; images have none."""
        return self.train.inputs.columns if isinstance(self.train.inputs, Table) else ()

    @property
    def contents(self) -> str:
        """What a row is, in words: `17 features`, or `images of 28×28 pixels, 1 channel`."""
        inputs = self.train.inputs
        return f"{len(self.columns)} features" if isinstance(inputs, Table) else f"images of {inputs.text}"

    @property
    def outputs(self) -> int:
        """K: number of model outputs (classes, or 1 for regression)."""
        return len(self.classes) if self.classes else 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 of columns, classes, rows and labels of all splits."""
        arrays: dict[str, NDArray[Any]] = {}
        for name in ("train", "validation", "test"):
            split: Split = getattr(self, name)
            arrays |= {f"{name}.{k}": v for k, v in split.inputs.arrays.items()}
            arrays |= {
                f"{name}.{k}": v for k in ("labels", "weights", "groups") if (v := getattr(split, k)) is not None
            }
        meta = {"columns": [c.to_json() for c in self.columns], "classes": list(self.classes), "task": self.task}
        return content_hash(meta, arrays)
