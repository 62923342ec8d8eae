"""A table of rows that stand for "unknown", coded as the data of a run are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distillens.data.read import open_source
from distillens.data.table import encode_frame
from distillens.errors import DataError

if TYPE_CHECKING:
    from distillens.data.base import Column, Table


def open_background(path: Path, columns: Sequence[Column]) -> Table:
    """The rows of a CSV or Parquet file as a table of `columns`; row ids are positions in the file, other columns are left aside.

    Raises DataError when the file cannot be read, lacks a column, holds text where numbers belong, or has no rows.
    """
    frame = open_source(path).frame
    if not len(frame):
        raise DataError(f"{path.name} has no rows; a background needs at least one.")
    try:
        return encode_frame(frame, columns)
    except DataError as error:
        raise DataError(f"{path.name} cannot be a background of these data: {error}") from error
