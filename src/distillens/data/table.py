"""Between the user's data frame and coded tables: learn columns on training rows, encode any rows with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distillens.data.base import UNSEEN, Column, Table
from distillens.data.kinds import (
    FALSE_WORDS,
    TRUE_WORDS,
    Cells,
    Texts,
    parse_numbers,
    read_cells,
    read_texts,
    rows_text,
)
from distillens.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

    from distillens.data.base import Floats, Ints


WORDS: dict[str, float] = dict.fromkeys((*FALSE_WORDS, "0.0"), 0.0) | dict.fromkeys((*TRUE_WORDS, "1.0"), 1.0)


def learn_columns(frame: pd.DataFrame, *, rows: Ints | None = None) -> tuple[Column, ...]:
    """Kinds and categories of every column of a frame.

    The kind (a matter of format) is read from all rows, categories only from the rows at positions `rows` (training
    rows; None: all). Categories are in sorted order, numbers by size; booleans false before true; ordered pandas
    categories in their own order. Raises DataError for dates, and for cells that `read_cells` refuses.
    """
    return tuple(learn_column(read_cells(frame[name], str(name)), str(name), rows=rows) for name in frame.columns)


def learn_column(cells: Cells, name: str, *, rows: Ints | None = None) -> Column:
    """One column; see `learn_columns`."""
    if cells.kind == "date":
        raise DataError(
            f"Column {name!r} holds dates, which models cannot read; give it the role time or ignore, or turn it into a number."
        )
    if cells.kind == "numeric":
        return Column(name)
    if cells.kind == "boolean":
        assert cells.order is not None
        return Column(name, "boolean", cells.order)
    assert cells.texts is not None
    texts = cells.texts if rows is None else cells.texts[rows]
    present = {t for t in texts if t is not None}
    if cells.order is not None:
        return Column(name, "categorical", tuple(t for t in cells.order if t in present))
    return Column(name, "categorical", sorted_texts(present))


def sorted_texts(texts: set[str]) -> tuple[str, ...]:
    """Sorted text; by size when every text is a number."""
    ordered = sorted(texts)
    values = parse_numbers(ordered)
    if values is None or not np.isfinite(values).all():
        return tuple(ordered)
    return tuple(t for _, t in sorted(zip(values, ordered, strict=True)))


def encode_cells(cells: Cells, column: Column) -> Floats:
    """(n,) codes of cells that `column` was learnt from (or a longer stretch of them)."""
    if column.kind == "numeric":
        assert cells.numbers is not None
        return cells.numbers
    assert cells.texts is not None
    return encode_texts(cells.texts, column)


def encode_texts(texts: Texts, column: Column) -> Floats:
    """(n,) codes of text in a categorical or boolean column; NaN = missing, −1 = a category that training did not contain.

    Booleans are understood in other spellings too ("True" for "yes", "0.0" for "0").
    """
    code = {category: float(i) for i, category in enumerate(column.categories)}
    if column.kind == "boolean":
        code = {t: v for t in set(texts.tolist()) if t is not None and (v := WORDS.get(t.lower())) is not None} | code
    return np.array([np.nan if t is None else code.get(t, UNSEEN) for t in texts], dtype=np.float64)


def encode_column(series: pd.Series[Any], column: Column) -> Floats:
    """(n,) codes of new rows of one column. DataError when a numeric column holds text."""
    if column.kind != "numeric":
        return encode_texts(read_texts(series, column.name), column)
    cells = read_cells(series, column.name)
    if cells.numbers is not None:
        return cells.numbers
    assert cells.texts is not None
    present = [t for t in cells.texts if t is not None]
    if cells.kind == "boolean":  # True/False or yes/no where training saw other numbers too
        parsed: list[float] | None = [WORDS[t.lower()] for t in present]
    else:
        parsed = parse_numbers(present)
    if parsed is None or not np.isfinite(parsed).all():
        wrong = np.array([t is not None and parse_numbers([t]) is None for t in cells.texts], dtype=bool)
        where, example = (
            (rows_text(wrong), cells.texts[wrong][0]) if wrong.any() else ("different spellings of numbers", present[0])
        )
        raise DataError(
            f"Column {column.name!r} should hold numbers, but holds text such as {example[:40]!r} ({where})."
        )
    values = np.full(len(cells), np.nan)
    values[~cells.missing] = parsed
    return values


def encode_frame(frame: pd.DataFrame, columns: Sequence[Column], *, row_ids: Ints | None = None) -> Table:
    """New rows in the user's words as a coded table: (n, F) in the order of `columns`; other columns are left aside.

    row_ids: (n,) ids; None: positions in the frame. Raises DataError when a column is missing (with a suggestion), when a
    numeric column holds text, and for cells that `read_cells` refuses.
    """
    names: Mapping[str, Any] = {str(name): position for position, name in enumerate(frame.columns)}
    ids = np.arange(len(frame), dtype=np.int64) if row_ids is None else row_ids
    values = np.empty((len(frame), len(columns)), dtype=np.float64)
    for j, column in enumerate(columns):
        if column.name not in names:
            raise DataError(
                f"The data have no column {column.name!r}, which the model needs.{did_you_mean(column.name, names)}"
            )
        values[:, j] = encode_column(frame.iloc[:, names[column.name]], column)
    return Table(values, tuple(columns), ids)
