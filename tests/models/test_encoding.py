"""From raw codes to encoded columns."""

import numpy as np
import pytest

from distillens.data.base import Column, Table
from distillens.errors import DataError
from distillens.models.encoding import Encoding

NAN = np.nan
COLUMNS = (Column("x"), Column("c", "categorical", ("red", "blue")), Column("b", "boolean", ("no", "yes")))


def table(rows, columns=COLUMNS):
    values = np.array(rows, dtype=float)
    return Table(values, columns, np.arange(len(values)))


def test_standardised_with_indicators_by_hand():
    encoding = Encoding.fit(table([[1, 0, 0], [3, NAN, 1], [NAN, 1, -1]]))
    assert encoding.names == ("x", "x is missing", "c = red", "c = blue", "c is missing", "b", "b is missing")
    encoded = encoding(np.array([[1, 0, 1], [NAN, NAN, NAN], [5, -1, -1]]))
    np.testing.assert_allclose(encoded, [[-1, 0, 1, 0, 0, 1, 0], [0, 1, 0, 0, 1, 0, 1], [3, 0, 0, 0, 0, 0, 1]])


def test_for_trees_numbers_stay_and_missing_categories_are_told_apart():
    encoding = Encoding.fit(table([[1, 0, 0], [NAN, NAN, NAN]]), standardize=False, fill_missing=False)
    assert encoding.names == ("x", "c = red", "c = blue", "c is missing", "b")
    np.testing.assert_array_equal(
        encoding(np.array([[7, 1, -1], [NAN, NAN, 1]])), [[7, 0, 1, 0, NAN], [NAN, 0, 0, 1, 1]]
    )


def test_weights_are_repetitions():
    data = table([[1, 0, 0], [2, 1, 1], [7, 0, 1]])
    repeat = [0, 1, 1, 2, 2, 2]
    one, other = Encoding.fit(data, weights=np.array([1.0, 2.0, 3.0])), Encoding.fit(data.take(repeat))
    for name in ("mean", "scale", "fill"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-12)


def test_some_columns_only():
    data = table([[1, 0, 0], [3, NAN, 1], [NAN, 1, -1]])
    encoding = Encoding.fit(data)
    picked = np.array([5, 0, 3])
    np.testing.assert_array_equal(encoding(data.values, only=picked), encoding(data.values)[:, picked])


def test_sums_by_raw_feature():
    encoding = Encoding.fit(table([[1, 0, 0], [3, NAN, 1], [NAN, 1, -1]]))
    quantities = np.arange(14.0).reshape(2, 7)
    np.testing.assert_array_equal(
        encoding.to_raw(quantities), [[0 + 1, 2 + 3 + 4, 5 + 6], [7 + 8, 9 + 10 + 11, 12 + 13]]
    )


def test_record_round_trip():
    data = table([[1 / 3, 0, 0], [3, NAN, 1], [NAN, 1, -1]])
    encoding = Encoding.fit(data)
    meta, arrays = encoding.to_record()
    back = Encoding.from_record(meta, arrays | {"other": np.zeros(1)})
    np.testing.assert_array_equal(back(data.values), encoding(data.values))
    assert back.names == encoding.names


def test_values_pass_through_float32():
    data = table([[0.1], [0.2]], COLUMNS[:1])
    encoding = Encoding.fit(data, standardize=False)
    np.testing.assert_array_equal(encoding(data.values), np.float32([[0.1], [0.2]]).astype(float))


def test_constant_and_wholly_missing_columns():
    encoding = Encoding.fit(table([[5, 0, NAN], [5, 0, NAN]]))
    np.testing.assert_array_equal(encoding(np.array([[5.0, 0, 1]]))[0, 0], 0)
    assert np.isfinite(encoding(np.array([[6.0, 1, NAN]]))).all()


@pytest.mark.parametrize("value", [1e39, np.inf])
def test_numbers_beyond_float32_are_refused_in_training_only(value):
    with pytest.raises(DataError, match="'x'"):
        Encoding.fit(table([[1], [value]], COLUMNS[:1]))
    tree = Encoding.fit(table([[1], [2]], COLUMNS[:1]), standardize=False, fill_missing=False)
    assert tree(np.array([[value]]))[0, 0] == np.inf
