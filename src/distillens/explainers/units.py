"""What gets an attribution: single raw features, or named groups of them that are masked together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distillens.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from distillens.data.base import Column, Ints


@dataclass(frozen=True, eq=False)
class Units:
    """U names and, for each of the F raw columns, the unit it belongs to.

    names: in the order of each unit's first column. of_column: (F,) int64.
    """

    names: tuple[str, ...]
    of_column: Ints

    def __len__(self) -> int:
        return len(self.names)


def units_of(columns: Sequence[Column], groups: Mapping[str, Sequence[str]] | None = None) -> Units:
    """Units of a table: every column that no group names is a unit of its own.

    groups: unit name → names of its columns. Raises InputError when a group names an unknown column, is empty, shares
    a column with another group, or is called like a column outside it.
    """
    position = {column.name: j for j, column in enumerate(columns)}
    owner: dict[str, str] = {}
    for group, members in (groups or {}).items():
        if not members:
            raise InputError(f"The group {group!r} has no features; name at least one or leave the group out.")
        for member in members:
            if member not in position:
                raise InputError(
                    f"The group {group!r} names a feature {member!r} that is not there.{did_you_mean(member, position)}"
                )
            if member in owner:
                raise InputError(
                    f"The feature {member!r} is in the groups {owner[member]!r} and {group!r}; a feature can be in one only."
                )
            owner[member] = group
    for group in groups or {}:
        if group in position and owner.get(group) != group:
            raise InputError(f"The group {group!r} is called like a feature outside it; give it another name.")
    names: list[str] = []
    index: dict[str, int] = {}
    of_column = np.empty(len(columns), dtype=np.int64)
    for j, column in enumerate(columns):
        name = owner.get(column.name, column.name)
        if name not in index:
            index[name] = len(names)
            names.append(name)
        of_column[j] = index[name]
    return Units(tuple(names), of_column)
