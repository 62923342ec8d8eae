"""A model that has columns of its own, asked about a table whose categories are others or in another order: by names and texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from distillens.data.base import UNSEEN, Column, Table
from distillens.errors import ModelError, did_you_mean
from distillens.models.base import Model, evaluate

if TYPE_CHECKING:
    from distillens.data.base import Floats
    from distillens.models.base import Output


@dataclass(frozen=True, eq=False)
class RecodedModel:
    """`model` knows `own` columns; tables have `columns`. Features are found by name, categories by their texts.

    A category that the model never saw is unseen to it. ModelError when a feature is missing or of another kind.
    """

    model: Model
    own: tuple[Column, ...]
    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        self._matched  # noqa: B018 (raises when the columns do not fit)

    @property
    def label(self) -> str:
        return self.model.label

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def output(self) -> Output:
        return self.model.output

    @property
    def fingerprint(self) -> str | None:
        return self.model.fingerprint

    @cached_property
    def _matched(self) -> tuple[tuple[int, Floats | None], ...]:
        """For each own column its place in the table, and the own code of every code there."""
        return tuple(match_column(column, self.columns, label=self.label) for column in self.own)

    def __call__(self, inputs: Table) -> Floats:
        values = inputs.values[:, [place for place, _ in self._matched]]
        for j, (_, codes) in enumerate(self._matched):
            if codes is not None:
                values[:, j] = recode(values[:, j], codes)
        return evaluate(self.model, Table(values, self.own, inputs.row_ids))


def match_column(own: Column, columns: Sequence[Column], *, label: str) -> tuple[int, Floats | None]:
    """Where a model's own column stands among a table's, by name, and its own code for every code there, by text.

    The codes are those of the table's categories in their order, then of unseen and of missing; None: they are the same. A category
    that the model never saw is unseen to it. ModelError, which names the model by `label`, when the column is missing or of
    another kind, when none of its texts is known, and when a boolean's two values are not written alike.
    """
    names = [column.name for column in columns]
    if own.name not in names:
        raise ModelError(
            f"The model {label!r} wants a feature {own.name!r} that the data do not have.{did_you_mean(own.name, names)}"
        )
    place = names.index(own.name)
    column = columns[place]
    if column.kind != own.kind:
        raise ModelError(
            f"The model {label!r} wants the column {own.name!r} to be {own.kind}, but it is {column.kind} in the data."
        )
    if column.categories == own.categories:
        return place, None
    known = {text: float(code) for code, text in enumerate(own.categories)}
    strangers = [text for text in column.categories if text not in known]
    if strangers and (own.kind == "boolean" or len(strangers) == len(column.categories)):
        raise ModelError(
            f"The model {label!r} knows the values {list(known)[:5]} of the column {own.name!r}, but the data write "
            f"{strangers[:5]}; write them as the model knows them."
        )
    return place, np.array([*(known.get(text, UNSEEN) for text in column.categories), UNSEEN, np.nan])


def recode(values: Floats, codes: Floats) -> Floats:
    """(n,) a column's values with the codes of `match_column` in place of the table's."""
    count = len(codes) - 2
    at = np.where(np.isnan(values), count + 1, np.where((values < 0) | (values >= count), count, values))
    return np.asarray(codes[at.astype(np.int64)], dtype=np.float64)
