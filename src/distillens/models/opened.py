"""`ModelFile`: a model made elsewhere, opened: what its file says about itself, and how a `Model` is made of it.

A file seldom says everything. What it does say (names of features, of classes, the number of either) is held against the data;
what it does not say is taken by position, and the count is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distillens.errors import ModelError, did_you_mean
from distillens.models.callable import align_classes

if TYPE_CHECKING:
    from distillens.data.base import Column, Floats, Ints, Table
    from distillens.models.base import Model

LONGEST = 100  # characters of a name from a file that are shown in a sentence


@dataclass(frozen=True, eq=False)
class ModelFile:
    """An opened file.

    kind: of the file, in words. label: its name. features: the features it names, in its order; None: by position.
    width: number of features, None when the file does not say. columns: kinds and categories, where the file knows them.
    classes: names in output order; () for regression; None when the file does not name them.
    outputs: K, the number of classes, 1 for regression; None when the file does not say.
    make(columns, classes): the model of a table of these columns, with `classes` as names of its own outputs in its own order.
    """

    kind: str
    label: str
    features: tuple[str, ...] | None
    width: int | None
    columns: tuple[Column, ...] | None
    classes: tuple[str, ...] | None
    outputs: int | None
    make: Callable[[tuple[Column, ...], tuple[str, ...]], Model]

    def bind(
        self, columns: tuple[Column, ...], classes: tuple[str, ...], *, own: tuple[str, ...] | None = None
    ) -> Model:
        """The model of tables of `columns`, with its outputs in the order of `classes` (() for regression).

        own: the names of its outputs in its order, for a file that does not name them; the order of `classes` unless given.
        Raises ModelError when features or classes do not fit.
        """
        if own is not None and self.classes is not None and set(own) != set(self.classes):
            raise ModelError(
                f"{self.label} names its classes itself ({listed(self.classes)}), and they are not {listed(own)}; leave them out."
            )
        names = self.classes if self.classes is not None else own if own is not None else classes
        if not self.classes:  # with names, what is missing can be said better
            count = len(own or classes) or 1
            if self.outputs is not None and self.outputs != count:
                has = "is a regression" if self.outputs == 1 else f"has {self.outputs} classes"
                wants = f"there are {count}: {listed(own or classes)}" if count > 1 else "this is a regression"
                raise ModelError(f"The model in {self.label} {has}, but {wants}.")
        return align_classes(self.make(columns, names), classes)


def listed(names: Sequence[str]) -> str:
    """Up to five names, shortened, as they are shown in a sentence."""
    return ", ".join(map(shortened, names[:5])) + (", …" if len(names) > 5 else "")


def shortened(name: str) -> str:
    """A name from a file in quotes, cut to a length that a sentence can bear."""
    return repr(name if len(name) <= LONGEST else name[:LONGEST] + "…")


def places_of(
    columns: Sequence[Column],
    *,
    features: Sequence[str] | None,
    width: int | None,
    label: str,
    alike: Callable[[str], str] = str,
) -> Ints:
    """Where the model's features stand in a table: by name where the file names them, else by position with the count checked.

    alike: a form under which a name of the file and one of the data are the same (some libraries change characters).
    Raises ModelError that names the feature.
    """
    names = [column.name for column in columns]
    if features is None:
        if width is not None and width != len(names):
            raise ModelError(
                f"The model in {label} takes {width} features by position, but the data have {len(names)}: {listed(names)}; "
                "leave out or add columns."
            )
        return np.arange(len(names), dtype=np.int64)
    forms = [alike(name) for name in names]
    places = []
    for name in features:
        if name in names:
            places.append(names.index(name))
        elif forms.count(alike(name)) == 1:
            places.append(forms.index(alike(name)))
        else:
            raise ModelError(
                f"The model in {label} wants a feature {shortened(name)} that the data do not have.{did_you_mean(name[:200], names)}"
            )
    return np.array(places, dtype=np.int64)


def require_numbers(columns: Sequence[Column], places: Ints, *, label: str) -> None:
    """ModelError when one of the columns at `places` holds text: a file that takes numbers does not say which number a text is."""
    for place in places:
        if columns[place].kind == "categorical":
            example = columns[place].categories[0] if columns[place].categories else ""
            raise ModelError(
                f"The model in {label} takes numbers, but the column {columns[place].name!r} holds text such as "
                f"{shortened(example)}; give the data as the model was trained on them."
            )


def numbers(inputs: Table, places: Ints) -> Floats:
    """(n, features) the model's features as numbers; missing and unseen are NaN."""
    values = inputs.values[:, places]
    coded = np.array([inputs.columns[place].kind != "numeric" for place in places])
    return np.where(coded & (values < 0), np.nan, values) if coded.any() else values
