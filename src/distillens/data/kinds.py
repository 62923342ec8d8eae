"""From one column as it came (text, numbers, dates, a mixture) to its kind and its values.

A column is `numeric`, `boolean`, `categorical` or `date`. Text is looked at, not trusted: numbers and yes/no pairs
stored as text are recognised; codes with leading zeros ("00123") stay text, because reading them as numbers loses something.
"""

from __future__ import annotations

import datetime
import math
import numbers
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from distillens.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

    from distillens.data.base import Bools, Floats

CellKind = Literal["numeric", "categorical", "boolean", "date"]
Texts = NDArray[np.object_]  # (n,) of str | None

# What people write for "nothing here". "none" is absent on purpose: it is a common category ("other debtors: none").
MISSING_WORDS = frozenset({"", "?", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "<NA>", "#N/A", "NaT"})
FALSE_WORDS = ("0", "no", "false", "n", "f", "off")
TRUE_WORDS = ("1", "yes", "true", "y", "t", "on")
LARGEST = float(np.finfo(np.float32).max)  # exported models read float32

_LEADING_ZERO = re.compile(r"[+-]?0\d")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity)", re.IGNORECASE | re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d+)?", re.ASCII)
_THREE_DIGITS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)  # "1,234" may be 1.234 or 1234
_DATE = re.compile(
    r"\d{4}-\d{1,2}(-\d{1,2})?([T ]\d{1,2}:\d{2}\S*)?( ?(Z|UTC))?|\d{4}/\d{1,2}/\d{1,2}|\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d{2})",
    re.ASCII,
)


@dataclass(frozen=True, eq=False)
class Cells:
    """The n values of one column.

    kind: what they are. numbers: (n,) float64 for numeric columns and for booleans written as numbers, otherwise None.
    texts: (n,) str or None (missing) for all kinds but numeric. order: the categories in their own order where they
    have one (booleans: false before true; ordered pandas categories), otherwise None. missing: (n,).
    """

    kind: CellKind
    missing: Bools
    numbers: Floats | None = None
    texts: Texts | None = None
    order: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.missing)

    def distinct(self) -> set[Any]:
        """The values that occur, missing ones left out."""
        if self.texts is not None:
            return {t for t in self.texts if t is not None}
        assert self.numbers is not None
        return set(np.unique(self.numbers[~self.missing]).tolist())


def read_cells(series: pd.Series[Any], name: str) -> Cells:
    """Kind and values of one column.

    Raises DataError, naming the column and rows, for lists and bytes in cells, complex numbers, infinite values,
    numbers beyond ±3.4e38 (float32) and text that is not valid Unicode.
    """
    import pandas as pd

    types = pd.api.types
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _from_categories(series, name)
    if types.is_bool_dtype(dtype):
        missing = series.isna().to_numpy(dtype=bool)
        return _booleans(series.astype(object).to_numpy(), missing)
    if types.is_complex_dtype(dtype):
        raise DataError(f"Column {name!r} holds complex numbers; split them into two columns of real numbers.")
    if types.is_numeric_dtype(dtype):
        return _from_numbers(np.array(series.to_numpy(dtype=np.float64, na_value=np.nan)), name)
    if types.is_datetime64_any_dtype(dtype) or types.is_timedelta64_dtype(dtype):
        missing = series.isna().to_numpy(dtype=bool)
        texts = series.astype(object).to_numpy()
        return Cells(
            "date", missing, texts=_objects(None if m else str(t) for t, m in zip(texts, missing, strict=True))
        )
    return _from_objects(series.astype(object).to_numpy(), name)


def read_texts(series: pd.Series[Any], name: str) -> Texts:
    """(n,) cells as text, whatever they look like: how categories are looked up. DataError as for `read_cells`."""
    return _objects(text_of_value(v, name) for v in series.astype(object).to_numpy())


def text_of_number(value: float) -> str:
    """`3` for 3.0, the shortest exact text otherwise."""
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e16 else repr(value)


def text_of_value(value: Any, name: str) -> str | None:
    """One cell as text without spaces around it; None when missing. DataError for lists, bytes and broken Unicode."""
    if is_missing(value):
        return None
    if isinstance(value, str):
        return _valid(value.strip(), name)
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (numbers.Real, Decimal)):
        return text_of_number(_as_float(value, name))
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise DataError(f"Column {name!r} holds raw bytes; decode them to text or give it the role ignore.")
    if isinstance(value, (list, tuple, dict, set, frozenset, np.ndarray)):
        raise DataError(
            f"Column {name!r} holds a {type(value).__name__} in a cell; one cell must be one value. Spread it over columns or ignore it."
        )
    return _valid(str(value), name)


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, NaT, pandas NA, or text such as "", "NA" and "?"."""
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip() in MISSING_WORDS
    if isinstance(value, float):  # includes np.float64
        return math.isnan(value)
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, np.floating):
        return bool(np.isnan(value))
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    return type(value).__name__ in ("NAType", "NaTType")


def parse_numbers(texts: Iterable[str]) -> list[float] | None:
    """Numbers written as text, with a decimal point or, where that is clear, a decimal comma; None when one is not a number.

    Clear: every text fits, and at least one comma cannot be a thousands separator ("0,5", "12,34").
    """
    texts = list(texts)
    if all(_NUMBER.fullmatch(t) for t in texts):
        return [float(t) for t in texts]
    with_comma = [t for t in texts if "," in t]
    if (
        not with_comma
        or all(_THREE_DIGITS.fullmatch(t) for t in with_comma)
        or not all(_DECIMAL_COMMA.fullmatch(t) for t in texts)
    ):
        return None
    return [float(t.replace(".", "").replace(",", ".")) for t in texts]


def rows_text(mask: Bools) -> str:
    """`row 3` or `rows 3, 8, 11 and 4 more`, counted from 1 without the header."""
    rows = (np.flatnonzero(mask) + 1).tolist()
    shown = ", ".join(str(r) for r in rows[:5])
    more = f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


def _from_categories(series: pd.Series[Any], name: str) -> Cells:
    """Pandas categories: the user said so, hence never numbers or dates; yes/no pairs are still booleans."""
    dtype: Any = series.dtype
    named = [text_of_value(c, name) for c in dtype.categories]
    codes = series.cat.codes.to_numpy()
    texts = _objects(None if code < 0 else named[int(code)] for code in codes)
    missing = np.array([t is None for t in texts], dtype=bool)
    pair = _boolean_pair({t for t in texts if t is not None})
    if pair is not None:
        return Cells("boolean", missing, texts=texts, order=pair)
    order = tuple(dict.fromkeys(t for t in named if t is not None)) if dtype.ordered else None
    return Cells("categorical", missing, texts=texts, order=order)


def _from_numbers(values: Floats, name: str) -> Cells:
    """Numbers; exactly {0, 1} makes a boolean."""
    missing = np.isnan(values)
    if np.isinf(values).any():
        raise DataError(
            f"Column {name!r} holds infinite values ({rows_text(np.isinf(values))}); leave the cells empty or give finite numbers."
        )
    with np.errstate(invalid="ignore"):
        large = np.abs(values) > LARGEST
    if large.any():
        raise DataError(
            f"Column {name!r} holds numbers beyond ±3.4e38 ({rows_text(large)}), which models cannot read; rescale it."
        )
    if set(np.unique(values[~missing]).tolist()) == {0.0, 1.0}:
        texts = _objects(None if math.isnan(v) else text_of_number(v) for v in values)
        return Cells("boolean", missing, numbers=values, texts=texts, order=("0", "1"))
    return Cells("numeric", missing, numbers=values)


def _from_objects(values: NDArray[Any], name: str) -> Cells:
    """Python objects of one or several types."""
    missing = np.array([is_missing(v) for v in values], dtype=bool)
    present = [v for v, m in zip(values, missing, strict=True) if not m]
    if present and all(isinstance(v, (bool, np.bool_)) for v in present):
        return _booleans(values, missing)
    if all(isinstance(v, (numbers.Real, Decimal)) and not isinstance(v, (bool, np.bool_)) for v in present):
        return _from_numbers(
            np.array(
                [math.nan if m else _as_float(v, name) for v, m in zip(values, missing, strict=True)], dtype=np.float64
            ),
            name,
        )
    texts = _objects(None if m else text_of_value(v, name) for v, m in zip(values, missing, strict=True))
    if all(isinstance(v, (datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)) for v in present):
        return Cells("date", missing, texts=texts)
    return _from_texts(texts, missing, name)


def _from_texts(texts: Texts, missing: Bools, name: str) -> Cells:
    distinct = {t for t in texts if t is not None}
    pair = _boolean_pair(distinct)
    if pair is not None:
        return Cells("boolean", missing, texts=texts, order=pair)
    if not any(_LEADING_ZERO.match(t) for t in distinct):
        ordered = list(distinct)
        parsed = parse_numbers(ordered)
        if parsed is not None:
            number = dict(zip(ordered, parsed, strict=True))
            return _from_numbers(
                np.array([math.nan if t is None else number[t] for t in texts], dtype=np.float64), name
            )
    if all(_DATE.fullmatch(t) for t in distinct):
        return Cells("date", missing, texts=texts)
    return Cells("categorical", missing, texts=texts)


def _booleans(values: Iterable[Any], missing: Bools) -> Cells:
    texts = _objects(None if m else str(bool(v)) for v, m in zip(values, missing, strict=True))
    return Cells("boolean", missing, texts=texts, order=("False", "True"))


def _boolean_pair(distinct: set[str]) -> tuple[str, str] | None:
    """The two spellings in the order false, true, when exactly one matching pair occurs ("No", "Yes"); numbers are left to others."""
    if len(distinct) != 2:
        return None
    for false, true in zip(FALSE_WORDS[1:], TRUE_WORDS[1:], strict=True):
        found = {t.lower(): t for t in distinct}
        if set(found) == {false, true}:
            return found[false], found[true]
    return None


def _as_float(value: Any, name: str) -> float:
    try:
        return float(value)
    except (OverflowError, ValueError) as error:
        raise DataError(
            f"Column {name!r} holds the number {str(value)[:40]}…, which is too large to compute with; rescale it."
        ) from error


def _valid(text: str, name: str) -> str:
    """The text, if it can be written as UTF-8; half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"Column {name!r} holds text that is not valid Unicode ({ascii(text)[:60]}); repair the source's encoding."
        ) from None
    return text


def _objects(values: Iterable[str | None]) -> Texts:
    listed = list(values)
    out = np.empty(len(listed), dtype=object)
    out[:] = listed
    return out
