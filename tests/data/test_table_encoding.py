"""Columns learnt on training rows, and other rows encoded with them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillens.data.base import Column, Split, Table
from distillens.data.table import encode_frame, learn_columns, sorted_texts
from distillens.errors import DataError

FRAME = pd.DataFrame(
    {
        "x": ["1", "2.5", None, "4"],
        "colour": ["red", "blue", "green", None],
        "smoker": ["no", "yes", "yes", "no"],
        "level": pd.Categorical(["low", "high", "low", "mid"], categories=["low", "mid", "high"], ordered=True),
    }
)


def test_categories_come_from_training_rows_only():
    columns = learn_columns(FRAME, rows=np.array([0, 1]))
    assert columns == (
        Column("x"),
        Column("colour", "categorical", ("blue", "red")),
        Column("smoker", "boolean", ("no", "yes")),
        Column("level", "categorical", ("low", "high")),
    )
    table = encode_frame(FRAME, columns)
    np.testing.assert_array_equal(table.values[:, 1], [1, 0, -1, np.nan])
    np.testing.assert_array_equal(table.values[:, 3], [0, 1, 0, -1])
    np.testing.assert_array_equal(table.values[:, 0], [1, 2.5, np.nan, 4])
    assert table.row_ids.tolist() == [0, 1, 2, 3]


def test_other_column_order_and_other_columns_do_not_matter():
    columns = learn_columns(FRAME)
    shuffled = FRAME[["level", "smoker", "x", "colour"]].assign(extra=[[1]] * 4)
    np.testing.assert_array_equal(encode_frame(shuffled, columns).values, encode_frame(FRAME, columns).values)


def test_a_missing_column_is_named_with_a_suggestion():
    with pytest.raises(DataError, match=r"no column 'colour', which the model needs. Did you mean 'color'\?"):
        encode_frame(FRAME.rename(columns={"colour": "color"}), learn_columns(FRAME))


def test_text_in_a_numeric_column_is_an_error_with_rows():
    with pytest.raises(DataError, match=r"'x' should hold numbers, but holds text such as 'many' \(row 2\)"):
        encode_frame(FRAME.assign(x=["1", "many", "2", "3"]), learn_columns(FRAME))


def test_categories_are_looked_up_as_written_even_when_the_new_rows_look_like_numbers():
    columns = learn_columns(pd.DataFrame({"code": ["1.0", "abc", "007", "1.0"]}))
    assert encode_frame(pd.DataFrame({"code": ["1.0", "007"]}), columns).values[:, 0].tolist() == [1.0, 0.0]


def test_numbers_may_look_like_codes_or_booleans_in_new_rows():
    columns = (Column("n"),)
    assert encode_frame(pd.DataFrame({"n": ["007", "010"]}), columns).values[:, 0].tolist() == [7.0, 10.0]
    assert encode_frame(pd.DataFrame({"n": [True, False]}), columns).values[:, 0].tolist() == [1.0, 0.0]
    assert encode_frame(pd.DataFrame({"n": ["0", "1"]}), columns).values[:, 0].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "spelling", [[0, 1], ["0", "1"], [0.0, 1.0], [False, True], ["no", "yes"], ["F", "T"], ["0.0", "1.0"]]
)
@pytest.mark.parametrize("learnt", [("0", "1"), ("no", "yes"), ("False", "True")])
def test_booleans_are_understood_in_other_spellings(spelling, learnt):
    column = Column("b", "boolean", learnt)
    assert encode_frame(pd.DataFrame({"b": spelling}), (column,)).values[:, 0].tolist() == [0.0, 1.0]
    assert encode_frame(pd.DataFrame({"b": ["perhaps", "2"]}), (column,)).values[:, 0].tolist() == [-1.0, -1.0]


def test_dates_cannot_be_learnt():
    with pytest.raises(DataError, match="holds dates, which models cannot read"):
        learn_columns(pd.DataFrame({"when": ["2025-01-01", "2025-01-02"]}))


def test_texts_are_sorted_by_size_when_they_are_numbers():
    assert sorted_texts({"10", "9", "-1"}) == ("-1", "9", "10")
    assert sorted_texts({"10", "9", "x"}) == ("10", "9", "x")


CELL = st.one_of(
    st.none(), st.text(max_size=6), st.integers(-5, 5), st.booleans(), st.floats(allow_nan=True, allow_infinity=False, width=32),
    st.sampled_from(["yes", "no", "1,5", "007", "NA", "?", "2025-01-01x", "<script>", "好"]),
)  # fmt: skip


@given(st.lists(CELL, min_size=1, max_size=12))
def test_back_to_the_users_words_and_forth_gives_the_same_codes(values):
    """encode ∘ to_frame ∘ encode = encode: what a person reads in a report can be fed back in."""
    frame = pd.DataFrame({"c": pd.Series(values, dtype=object)})
    columns = learn_columns(frame)
    table = encode_frame(frame, columns)
    again = encode_frame(table.to_frame(), columns)
    np.testing.assert_array_equal(again.values, table.values)
    codes = table.values[~np.isnan(table.values)]
    if columns[0].kind != "numeric":
        assert ((codes >= 0) & (codes < len(columns[0].categories))).all()


def test_taking_no_rows_gives_no_rows():
    table = Table(np.zeros((3, 1)), (Column("a"),), np.arange(3))
    split = Split(table, np.zeros(3, dtype=np.int64), audit_only=pd.DataFrame({"b": [1, 2, 3]}))
    for nothing in ([], (), range(0), np.array([]), np.zeros(3, dtype=bool)):
        assert table.take(nothing).values.shape == (0, 1)
        assert len(split.take(nothing)) == 0
        assert len(split.take(nothing).audit_only) == 0
    with pytest.raises(IndexError):
        table.take([0.5])
