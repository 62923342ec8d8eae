"""A model that has columns of its own, asked about a table whose categories are others or in another order."""

from __future__ import annotations

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
        self._places  # noqa: B018 (raises when the columns do not fit)
        self._codes  # noqa: B018

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
    def _places(self) -> list[int]:
        names = [column.name for column in self.columns]
        for column in self.own:
            if column.name not in names:
                raise ModelError(
                    f"The model {self.label!r} wants a feature {column.name!r} that the data do not have.{did_you_mean(column.name, names)}"
                )
        return [names.index(column.name) for column in self.own]

    @cached_property
    def _codes(self) -> list[Floats | None]:
        """For each own column the own code of every code of the table, then of unseen and missing; None: the same."""
        maps: list[Floats | None] = []
        for own, place in zip(self.own, self._places, strict=True):
            column = self.columns[place]
            if column.kind != own.kind:
                raise ModelError(
                    f"The model {self.label!r} wants the column {own.name!r} to be {own.kind}, but it is {column.kind} in the data."
                )
            if column.categories == own.categories:
                maps.append(None)
                continue
            known = {text: float(code) for code, text in enumerate(own.categories)}
            if not any(text in known for text in column.categories):
                raise ModelError(
                    f"The model {self.label!r} knows the values {list(known)[:5]} of the column {own.name!r}, but the data write "
                    f"{list(column.categories)[:5]}; write them as the model knows them."
                )
            maps.append(np.array([*(known.get(text, UNSEEN) for text in column.categories), UNSEEN, np.nan]))
        return maps

    def __call__(self, inputs: Table) -> Floats:
        values = inputs.values[:, self._places]
        for j, codes in enumerate(self._codes):
            if codes is not None:
                count, column = len(codes) - 2, values[:, j]
                at = np.where(np.isnan(column), count + 1, np.where((column < 0) | (column >= count), count, column))
                values[:, j] = codes[at.astype(np.int64)]
        return evaluate(self.model, Table(values, self.own, inputs.row_ids))
