"""Splits: shares, strata, groups, time, given; deterministic in the seed; together all rows, none twice."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distillens.data.splits import NAMES, SplitPlan, make_split, read_times, strata
from distillens.data.target import Target, read_target
from distillens.errors import DataError


def classes_of(*counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return Target("binary" if len(counts) == 2 else "multiclass", tuple(f"c{k}" for k in range(len(counts))), labels)


def split(target, plan=None, frame=None, seed=0):
    n = len(target.labels)
    rows = make_split(
        pd.DataFrame({"x": range(n)}) if frame is None else frame, target, SplitPlan.read(plan), seed=seed
    )
    assert tuple(rows) == NAMES
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(n))
    for index in rows.values():
        assert (np.diff(index) > 0).all()  # in the order of the source
    return rows


def test_validation_is_a_share_of_what_is_not_test():
    rows = split(classes_of(700, 300))
    assert [len(rows[name]) for name in NAMES] == [490, 210, 300]
    rows = split(classes_of(500, 500), {"test": 0.2, "validation": 0.25})
    assert [len(rows[name]) for name in NAMES] == [600, 200, 200]


@settings(max_examples=60)
@given(
    st.lists(st.integers(4, 60), min_size=2, max_size=6), st.floats(0.05, 0.6), st.floats(0.05, 0.6), st.integers(0, 9)
)
def test_classes_keep_their_shares(counts, test, validation, seed):
    target = classes_of(*counts)
    if sum(counts) < 10:
        return
    rows = split(target, {"test": test, "validation": validation}, seed=seed)
    for k, count in enumerate(counts):
        got = {name: int((target.labels[rows[name]] == k).sum()) for name in NAMES}
        assert got["train"] >= 2
        assert got["validation"] >= 1
        assert got["test"] >= 1
        # within one row of the exact share, unless the minimum of a tiny class is what counts
        assert got["test"] in (1, count - 3) or abs(got["test"] - count * test) < 2 or test * sum(counts) < 1


def test_the_seed_decides_and_nothing_else():
    target = classes_of(50, 50)
    first, same, other = split(target), split(target), split(target, seed=1)
    assert all(np.array_equal(first[name], same[name]) for name in NAMES)
    assert not np.array_equal(first["test"], other["test"])
    np.random.seed(3)  # noqa: NPY002 (the global generator must not matter)
    assert np.array_equal(split(target)["test"], first["test"])


def test_regression_is_stratified_by_quantile():
    y = np.random.default_rng(0).permutation(np.exp(np.linspace(0, 8, 200)))
    target = Target("regression", (), y)
    assert np.bincount(strata(target)).tolist() == [20] * 10
    rows = split(target)
    assert [len(rows[name]) for name in NAMES] == [98, 42, 60]
    tenth = np.quantile(y, 0.9)
    assert int((y[rows["test"]] > tenth).sum()) == 6  # 20 rows of the top tenth, 30 % of them


def test_no_group_is_in_two_splits_and_classes_stay_balanced():
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 80, 1000)
    target = Target("binary", ("a", "b"), (rng.random(1000) < 0.3).astype(np.int64))
    frame = pd.DataFrame({"g": [f"firm {i}" for i in ids]})
    rows = split(target, {"group": "g"}, frame)
    homes = [set(ids[rows[name]]) for name in NAMES]
    assert not homes[0] & homes[1]
    assert not homes[0] & homes[2]
    assert not homes[1] & homes[2]
    assert abs(len(rows["test"]) / 1000 - 0.3) < 0.03
    rate = target.labels.mean()
    for name in NAMES:
        assert abs(target.labels[rows[name]].mean() - rate) < 0.05


@given(st.lists(st.integers(0, 6), min_size=12, max_size=40), st.integers(0, 5))
def test_group_splits_are_whole_or_an_error(ids, seed):
    target = Target("regression", (), np.arange(len(ids), dtype=float))
    try:
        rows = split(target, {"group": "g"}, pd.DataFrame({"g": ids}), seed=seed)
    except DataError as error:
        assert len(set(ids)) < 3 or "one training row" in str(error)  # noqa: PT017
        return
    ids = np.array(ids)
    assert sum(len(set(ids[rows[name]])) for name in NAMES) == len(set(ids))


@pytest.mark.parametrize(
    "times",
    [
        list(range(100)),
        [datetime.date(2025, 1, 1) + datetime.timedelta(days=i) for i in range(100)],
        [str(datetime.date(2025, 1, 1) + datetime.timedelta(days=i)) for i in range(100)],
        [(datetime.date(2025, 1, 1) + datetime.timedelta(days=i)).strftime("%d.%m.%Y") for i in range(100)],
        [(datetime.date(2025, 1, 1) + datetime.timedelta(days=i)).strftime("%m/%d/%y") for i in range(100)],
        pd.date_range("2025-01-01", periods=100, tz="Asia/Shanghai"),
        [f"2025-01-01T00:{i // 60:02d}:{i % 60:02d}Z" for i in range(100)],
        pd.to_timedelta(range(100), unit="D"),
    ],
)
def test_time_puts_the_latest_rows_into_test(times):
    order = np.random.default_rng(0).permutation(100)
    frame = pd.DataFrame({"t": pd.Series(times)[order].reset_index(drop=True)})
    rows = split(Target("regression", (), np.arange(100.0)), {"time": "t"}, frame)
    assert sorted(order[rows["test"]]) == list(range(70, 100))
    assert sorted(order[rows["validation"]]) == list(range(49, 70))


@pytest.mark.parametrize("start", ["2025-07", "2025-07-01", datetime.date(2025, 7, 1), pd.Timestamp("2025-07-01")])
def test_test_from_is_a_date(start):
    months = [f"2025-{m:02d}-15" for m in range(1, 13)]
    rows = split(
        Target("regression", (), np.arange(12.0)), {"time": "t", "test_from": start}, pd.DataFrame({"t": months})
    )
    assert rows["test"].tolist() == [6, 7, 8, 9, 10, 11]
    assert rows["validation"].tolist() == [4, 5]


def test_test_from_is_a_year_or_a_number():
    years = pd.DataFrame({"t": np.repeat(np.arange(2015, 2025), 3)})
    target = Target("regression", (), np.arange(30.0))
    assert split(target, {"time": "t", "test_from": 2023}, years)["test"].tolist() == list(range(24, 30))
    dates = pd.DataFrame({"t": [f"{y}-06-01" for y in years["t"]]})
    assert split(target, {"time": "t", "test_from": 2023}, dates)["test"].tolist() == list(range(24, 30))


def test_equal_times_stay_together():
    frame = pd.DataFrame({"t": np.repeat([1, 2, 3, 4], [10, 10, 10, 10])})
    rows = split(Target("regression", (), np.arange(40.0)), {"time": "t"}, frame)
    assert rows["test"].tolist() == list(range(30, 40))
    assert rows["validation"].tolist() == list(range(20, 30))


def test_a_column_says_which_rows_are_what():
    words = ["train"] * 6 + ["Validation"] * 2 + [" TEST "] * 2
    rows = split(
        classes_of(5, 5), {"column": "s"}, pd.DataFrame({"s": words[:3] + words[5:8] + words[3:5] + words[8:]})
    )
    assert rows["test"].tolist() == [8, 9]
    assert rows["validation"].tolist() == [4, 5]


def test_a_column_without_validation_rows_gives_up_a_share_of_training():
    target = classes_of(50, 50)
    words = np.where(np.arange(100) % 5 == 0, "test", "train")
    rows = split(target, {"column": "s"}, pd.DataFrame({"s": words}))
    assert [len(rows[name]) for name in NAMES] == [56, 24, 20]
    assert target.labels[rows["validation"]].mean() == 0.5


TEN = pd.DataFrame({"t": ["a"] * 10, "g": [1] * 10, "two": [1, 2] * 5, "late": range(10), "s": ["train"] * 9 + ["tset"], "same": [5] * 10,
                    "gap": [1] * 9 + [None], "amb": ["01/02/2025", *["03/04/2025"] * 9], "only": ["train"] * 10,
                    "sorted": ["train"] * 5 + ["validation"] * 2 + ["test"] * 3, "day": ["2025-01-01"] * 9 + ["2025-02-31"]})  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "sentence"),
    [
        ({"tset": 0.3}, "no split option 'tset'. Did you mean 'test'?"),
        ({"test": 0}, "test is a share between 0 and 1 such as 0.3, not 0"),
        ({"test": 1.0}, "not 1.0"),
        ({"validation": "half"}, "validation is a share between 0 and 1 such as 0.3, not 'half'"),
        ({"validation": True}, "not True"),
        ({"test": float("nan")}, "not nan"),
        ({"time": "late", "group": "g"}, "time and group were given; keep one of them"),
        ({"test_from": 3}, "needs time: COLUMN"),
        ({"group": "gg"}, "no group column 'gg'. Did you mean 'g'?"),
        ({"group": "g"}, "at least 3 groups, but there is 1"),
        ({"group": "two"}, "but there are 2"),
        ({"group": "gap"}, "empty in row 10"),
        ({"time": "laet"}, "no time column 'laet'. Did you mean 'late'?"),
        ({"time": "t"}, "holds text such as 'a'"),
        ({"time": "gap"}, "empty in row 10"),
        ({"time": "same"}, "same value"),
        ({"time": "amb"}, "day or the month is not clear"),
        ({"time": "day"}, "cannot be read"),
        ({"time": "late", "test_from": 99}, "is before test_from 99"),
        ({"time": "late", "test_from": 0}, "is at or after test_from 0"),
        ({"time": "late", "test_from": "soon"}, "must be a number, not 'soon'"),
        ({"time": "sorted"}, "holds text such as 'train'"),
        ({"column": "s"}, "row 10 say something else"),
        ({"column": "only"}, "leaves no test rows"),
        ({"column": "sorted"}, "no training row of the class 'c1'"),
        ({"column": "x"}, "no split column 'x'"),
    ],
)
def test_plans_that_cannot_work_are_one_sentence(plan, sentence):
    with pytest.raises(DataError) as caught:
        make_split(TEN, classes_of(5, 5), SplitPlan.read(plan))
    assert sentence in str(caught.value)


def test_a_date_column_wants_a_date():
    frame = pd.DataFrame({"t": [f"2025-01-{d:02d}" for d in range(1, 13)]})
    with pytest.raises(DataError, match="'soon', which is not a date"):
        make_split(frame, Target("regression", (), np.arange(12.0)), SplitPlan.read({"time": "t", "test_from": "soon"}))


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ((1, 0), "1 row;"),
        ((5, 4), "have 9 rows"),
        ((30, 3), "class 'c1' has 3 rows"),
        ((30, 1), "class 'c1' has 1 row;"),
    ],
)
def test_too_few_rows(counts, sentence):
    with pytest.raises(DataError) as caught:
        split(classes_of(*counts))
    assert sentence in str(caught.value)


def test_options_that_are_none_are_not_given():
    assert SplitPlan.read({"test": None, "group": None, "validation": 0.2}) == SplitPlan(validation=0.2)
    assert SplitPlan.read(None) == SplitPlan()


def test_times_are_seconds():
    assert read_times(pd.Series(["1970-01-02", "1970-01-01T00:00:01Z"]), "t").tolist() == [86400.0, 1.0]


@pytest.mark.parametrize(
    ("values", "task", "expected", "classes"),
    [
        (["b", "a"] * 10, "auto", "binary", ("a", "b")),
        ([True, False] * 10, "auto", "binary", ("False", "True")),
        ([0, 1] * 10, "auto", "binary", ("0", "1")),
        ([2.0, 1.0] * 10, "auto", "binary", ("1", "2")),
        (["1", "2", "10"] * 10, "auto", "multiclass", ("1", "2", "10")),
        ([1, 2, 3] * 2, "auto", "regression", ()),  # few rows for each
        (list(range(11)) * 20, "auto", "regression", ()),
        ([0.5, 1.5] * 10, "auto", "regression", ()),
        ([0.5, 1.5] * 10, "classification", "binary", ("0.5", "1.5")),
        ([0, 1] * 10, "regression", "regression", ()),
        ([1, 2, 3] * 2, "multiclass", "multiclass", ("1", "2", "3")),
        (pd.Categorical(["x", "y", "z"] * 5), "auto", "multiclass", ("x", "y", "z")),
        (["yes", "no"] * 5, "auto", "binary", ("no", "yes")),
    ],
)
def test_task_and_classes(values, task, expected, classes):
    target = read_target(pd.DataFrame({"y": values}), "y", task=task)
    assert (target.task, target.classes) == (expected, classes)
    if classes:
        texts = [str(v) for v in values]
        named = [classes[k] for k in target.labels]
        assert [t.removesuffix(".0") for t in texts] == named


@pytest.mark.parametrize(
    ("values", "task", "sentence"),
    [
        ([None] * 12, "auto", "'y' is empty in all 12 rows"),
        (["a", None, "b", ""] * 3, "auto", "missing in 6 of 12 rows (rows 2, 4, 6, 8, 10 and 1 more)"),
        (["a"] * 12, "auto", "only the class 'a'"),
        ([1.5] * 12, "auto", "same value in every row"),
        (["a", "b", "c"] * 4, "binary", "has 3 ('a', 'b', 'c')"),
        (["a", "b"] * 4, "multiclass", "use task: binary"),
        (["a", "b"] * 4, "regression", "regression needs numbers"),
        (["2025-01-01", "2025-01-02"] * 4, "auto", "holds dates"),
        ([1.0, np.inf] * 4, "auto", "infinite"),
        ([1, 2] * 4, "binry", "no task 'binry'. Did you mean 'binary'?"),
    ],
)
def test_targets_that_cannot_be_used(values, task, sentence):
    with pytest.raises(DataError) as caught:
        read_target(pd.DataFrame({"y": values}), "y", task=task)
    assert sentence in str(caught.value)
