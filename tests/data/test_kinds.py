"""Kinds of columns: what text, numbers, booleans, dates and mixtures are read as."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from distillens.data.kinds import parse_numbers, read_cells, rows_text
from distillens.errors import DataError


def cells(values, dtype=object):
    return read_cells(pd.Series(values, dtype=dtype), "c")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", " 3 ", "-1e3", ""], "numeric"),
        (["1,5", "2,25", "10"], "numeric"),  # a decimal comma, clearly
        (["1.234,5", "12,0"], "numeric"),
        (["1,234", "5,678"], "categorical"),  # 1.234 or 1234: not clear
        (["1,5", "2.5"], "categorical"),
        (["0x1A", "2"], "categorical"),
        (["1_000", "2"], "categorical"),
        (["007", "012", "100"], "categorical"),  # codes
        (["0.5", "0"], "numeric"),
        (["0", "1", "1"], "boolean"),
        ([0, 1, None], "boolean"),
        ([0.0, 1.0, np.nan], "boolean"),
        ([0, 0, 0], "numeric"),
        (["yes", "no", "?"], "boolean"),
        (["Yes", "No"], "boolean"),
        (["Yes", "yes", "no"], "categorical"),
        (["yes", "maybe"], "categorical"),
        (["yes", "off"], "categorical"),
        (["t", "f"], "boolean"),
        ([True, False, None], "boolean"),
        ([True, True], "boolean"),
        ([True, "x"], "categorical"),
        ([1, "2", 3.5], "numeric"),
        ([1, "two"], "categorical"),
        ([Decimal("1.5"), Decimal("NaN")], "numeric"),
        ([None, None], "numeric"),
        (["none", "none"], "categorical"),  # "none" is a category, not a missing value
        (["2025-07-31", "2025-08-01"], "date"),
        (["2025-07"], "date"),
        (["31.12.2024", "1.1.2025"], "date"),
        (["2025-07-31T10:00:00Z"], "date"),
        (["10-20", "20-30"], "categorical"),  # ranges, not dates
        ([datetime.date(2025, 1, 1), None], "date"),
        ([datetime.datetime(2025, 1, 1), pd.NaT], "date"),
    ],
)
def test_kinds(values, kind):
    assert cells(values).kind == kind


@pytest.mark.parametrize(
    ("dtype", "values", "kind"),
    [
        ("Int64", [1, None, 3], "numeric"),
        ("Int64", [1, None, 0], "boolean"),
        ("Float32", [1.5, None, 0], "numeric"),
        ("boolean", [True, None, False], "boolean"),
        ("bool", [True, False, False], "boolean"),
        ("string", ["1", None, "2"], "numeric"),
        ("string[pyarrow]", ["a", None, "b"], "categorical"),
        ("category", ["1", None, "2"], "categorical"),  # the user said category
        ("category", [1, None, 2], "categorical"),
        ("category", ["yes", None, "no"], "boolean"),
        ("int64[pyarrow]", [1, None, 7], "numeric"),
        ("bool[pyarrow]", [True, None, False], "boolean"),
        ("datetime64[ns]", ["2025-01-01", None, "2025-01-02"], "date"),
        ("timedelta64[ns]", ["1 days", None, "2 days"], "date"),
        ("uint8", [1, 2, 3], "numeric"),
    ],
)
def test_dtypes(dtype, values, kind):
    read = cells(values, dtype)
    assert read.kind == kind
    assert read.missing.tolist() == [v is None for v in values]


def test_values_survive():
    assert cells(["1,5", "2", ""]).numbers.tolist()[:2] == [1.5, 2.0]
    assert cells(["1.234,5", "12,0"]).numbers.tolist() == [1234.5, 12.0]
    assert cells([" b ", "a", None]).texts.tolist() == ["b", "a", None]
    assert cells(["N", "Y"]).order == ("N", "Y")
    ordered = pd.Series(pd.Categorical(["low", "high"], categories=["low", "mid", "high"], ordered=True))
    assert read_cells(ordered, "c").order == ("low", "mid", "high")


@pytest.mark.parametrize(
    ("values", "dtype", "sentence"),
    [
        ([1.0, np.inf, -np.inf], "float64", "infinite values (rows 2, 3)"),
        (["1", "inf"], object, "infinite values (row 2)"),
        ([1e39, 1.0], "float64", "beyond ±3.4e38 (row 1)"),
        ([10**400, 1], object, "too large"),
        ([[1], [2]], object, "holds a list in a cell"),
        ([{"a": 1}], object, "holds a dict in a cell"),
        ([b"a"], object, "raw bytes"),
        ([1j, 2j], "complex128", "complex numbers"),
        (["\ud800"], object, "not valid Unicode"),
    ],
)
def test_cells_that_cannot_be_used(values, dtype, sentence):
    with pytest.raises(DataError) as caught:
        cells(values, dtype)
    assert sentence in str(caught.value)
    assert "'c'" in str(caught.value)


def test_parse_numbers_needs_every_text_to_fit():
    assert parse_numbers(["1", "x"]) is None
    assert parse_numbers(["0,123"]) == [0.123]  # a leading zero rules a thousands separator out
    assert parse_numbers(["１２"]) is None  # full-width digits are text


def test_rows_are_counted_from_one_and_shortened():
    mask = np.zeros(20, dtype=bool)
    mask[[2]] = True
    assert rows_text(mask) == "row 3"
    mask[:8] = True
    assert rows_text(mask) == "rows 1, 2, 3, 4, 5 and 3 more"
