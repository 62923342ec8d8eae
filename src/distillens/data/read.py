"""Sources to data frames: CSV (delimiter, BOM and broken lines looked after), Parquet, frames, trusted functions."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillens.data.builtin import BUILTIN, BUILTIN_IMAGES
from distillens.errors import DataError, did_you_mean
from distillens.store import file_hash

if TYPE_CHECKING:
    import pandas as pd

CSV_SUFFIXES = (".csv", ".tsv", ".txt")
PARQUET_SUFFIXES = (".parquet", ".pq")
DELIMITERS = ",;\t|"


@dataclass(frozen=True, eq=False)
class Source:
    """A data frame and what is known about where it came from. target, roles, adverse: defaults of built-in data."""

    frame: pd.DataFrame
    name: str
    text: str
    licence: str = ""
    citation: str = ""
    target: str | None = None
    roles: dict[str, list[str]] = field(default_factory=dict)
    adverse: str | None = None


def open_source(source: Any, *, base_dir: Path | None = None, trust_code: bool = False) -> Source:
    """Open a built-in name, a path to CSV or Parquet, a data frame, or `package.module:function` (trusted code only).

    Relative paths start at `base_dir`. Raises DataError for everything that cannot be read as a table with unique,
    non-empty column names, UntrustedCodeError for code that nobody trusted.
    """
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return Source(_named(source, "The data frame"), "data", f"a data frame of {len(source):,} rows")
    if not isinstance(source, (str, Path)):
        raise DataError(
            f"A data source is a built-in name, a path, a data frame or package.module:function, not a {type(source).__name__}."
        )
    if isinstance(source, str) and source in BUILTIN:
        record = BUILTIN[source]
        frame = _named(record.load(), f"The built-in data {source!r}")
        return Source(
            frame,
            source,
            record.title,
            record.licence,
            record.citation,
            record.target,
            record.copy_roles(),
            record.adverse,
        )
    path = Path(source)
    if path.suffix.lower() not in CSV_SUFFIXES + PARQUET_SUFFIXES and ":" in str(source):
        return _from_function(str(source), trust_code=trust_code)
    if base_dir is not None and not path.is_absolute():
        path = Path(base_dir) / path
    return _from_file(path, str(source))


def _from_file(path: Path, written: str) -> Source:
    if path.is_dir():
        raise DataError(f"{written} is a folder; a table is one CSV or Parquet file.")
    if path.exists() and not path.is_file():
        raise DataError(f"{written} is a pipe or a device; save the table as an ordinary CSV or Parquet file.")
    if not path.is_file():
        hint = did_you_mean(written, (*BUILTIN, *BUILTIN_IMAGES)) if not path.suffix else _sibling(path)
        raise DataError(
            f"There is no file {written}{'' if path.suffix else ', and no built-in data of that name'}.{hint}"
        )
    suffix = path.suffix.lower()
    if suffix not in CSV_SUFFIXES + PARQUET_SUFFIXES:
        raise DataError(
            f"{written} is neither CSV nor Parquet by its ending; known endings: {', '.join(CSV_SUFFIXES + PARQUET_SUFFIXES)}."
        )
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{written} is empty; expected a header line and rows.")
        frame = read_csv(path) if suffix in CSV_SUFFIXES else read_parquet(path)
        digest = file_hash(path)
    except OSError as error:
        raise DataError(f"{written} cannot be read: {error.strerror or error}.") from error
    return Source(_named(frame, written), path.stem, f"{path.name} (SHA-256 {digest[:16]}…)")


def _sibling(path: Path) -> str:
    """A suggestion from the files that lie where the missing one was expected."""
    if not path.parent.is_dir():
        return f" The folder {path.parent.name!r} does not exist either."
    tables = [p.name for p in path.parent.iterdir() if p.suffix.lower() in CSV_SUFFIXES + PARQUET_SUFFIXES]
    return did_you_mean(path.name, tables)


def _from_function(source: str, *, trust_code: bool) -> Source:
    import pandas as pd

    from distillens.named import resolve

    function = resolve(source, {}, what="data source", trust_code=trust_code)
    if not callable(function):
        raise DataError(
            f"The data source {source} is a {type(function).__name__}, not a function that returns a data frame."
        )
    try:
        frame = function()
    except Exception as error:  # the user's own code may raise anything; its traceback stays attached
        raise DataError(f"The data source {source} raised {type(error).__name__}: {error}") from error
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"The data source {source} returned a {type(frame).__name__}; it must return a pandas DataFrame."
        )
    return Source(_named(frame, f"The data frame of {source}"), source.rpartition(":")[2], f"the function {source}")


def _named(frame: pd.DataFrame, what: str) -> pd.DataFrame:
    """The frame with text as column names and positions as index; DataError for no rows and for names that cannot be used."""
    import pandas as pd

    if isinstance(frame.columns, pd.MultiIndex):
        raise DataError(f"{what} has column names of several levels; flatten them to one name a column.")
    names = [str(c) for c in frame.columns]
    if not names:
        raise DataError(f"{what} has no columns.")
    for position, name in enumerate(names, start=1):
        if not name.strip():
            raise DataError(
                f"{what} has no name for column {position} of {len(names)}; name it, or leave it out (an index written by pandas: save with index=False)."
            )
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"{what} has a column name that is not valid Unicode: {ascii(name)[:60]}.") from None
    twice = list(dict.fromkeys(n for n in names if names.count(n) > 1)) if len(set(names)) < len(names) else []
    if twice:
        raise DataError(
            f"{what} has the column name{'s' if len(twice) > 1 else ''} {', '.join(map(repr, twice[:5]))} more than once; names must be unique."
        )
    if not len(frame):
        raise DataError(f"{what} has a header but no rows.")
    return frame.set_axis(names, axis=1).reset_index(drop=True)


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV file as text cells: UTF-8 with or without BOM (or UTF-16 with), delimited by comma, semicolon, tab or bar.

    Raises DataError that names the line of a broken row, quote or byte.
    """
    import pandas as pd

    text = _decoded(path)
    if not text.strip():
        raise DataError(f"{path.name} is empty; expected a header line and rows.")
    delimiter = sniff_delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    header: list[str] | None = None
    start = 1
    try:
        for row in reader:
            if not row:  # a blank line
                pass
            elif header is None:
                header = row
            elif len(row) != len(header):
                raise DataError(
                    f"{path.name}, line {start}: expected {len(header)} fields as in the header, found {len(row)}."
                )
            else:
                rows.append(row)
            start = reader.line_num + 1
    except csv.Error as error:
        if "field limit" in str(error):
            raise DataError(
                f"{path.name}, line {start}: a cell of more than {csv.field_size_limit():,} characters; is a quotation mark not closed?"
            ) from error
        raise DataError(f"{path.name}, line {start}: {error}; is a quotation mark not closed?") from error
    assert header is not None  # the text is not blank
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    frame = pd.DataFrame({i: pd.Series(list(column), dtype=object) for i, column in enumerate(columns)})
    return frame.set_axis(header, axis=1)


def sniff_delimiter(text: str) -> str:
    """The delimiter that splits the first lines most evenly into the most fields; a comma when nothing splits."""
    head = "\n".join(text[:65536].splitlines()[:50])
    best, best_key = ",", (0.0, 1)
    for delimiter in DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter) if row]
        except csv.Error:
            continue
        if not widths or widths[0] < 2:
            continue
        even = sum(w == widths[0] for w in widths) / len(widths)
        if (even, widths[0]) > best_key:
            best, best_key = delimiter, (even, widths[0])
    return best


def _decoded(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(1 << 16)  # what is no text shows early; a file of gigabytes is not read first
        if head[:4] == b"PAR1":
            raise DataError(f"{path.name} is a Parquet file; give it the ending .parquet.")
        if b"\x00" in head and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            line = head[: head.index(b"\x00")].count(b"\n") + 1
            raise DataError(f"{path.name}, line {line}: a NUL character; this is not a text file in UTF-8.")
        raw = head + stream.read()
    encoding = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "UTF-8"
    try:
        text = raw.decode(encoding).removeprefix("\ufeff")  # a byte order mark is not part of the first name
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path.name}, line {line}: byte 0x{raw[error.start]:02x} is not valid {encoding}; save the file as UTF-8."
        ) from error
    if "\x00" in text:
        line = text[: text.index("\x00")].count("\n") + 1
        raise DataError(f"{path.name}, line {line}: a NUL character; this is not a text file in UTF-8.")
    return text


def read_parquet(path: Path) -> pd.DataFrame:
    """A Parquet file. What pandas noted in it is set aside: a named index is a column, an unnamed one is dropped.

    DataError when the file is damaged.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, partitioning=None).replace_schema_metadata(None)
        frame: pd.DataFrame = table.to_pandas()
    except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path.name} is damaged or not a Parquet file ({reason}).") from error
    return frame.loc[:, [re.fullmatch(r"__index_level_\d+__", str(name)) is None for name in frame.columns]]
