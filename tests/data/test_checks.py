"""Findings: planted duplicates, leaks, identifiers, constants and imbalance are found; clean data stay silent."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from distillens.data.base import Column
from distillens.data.checks import _ranks, _smallest_pair_auc, left_out
from distillens.data.kinds import read_cells
from distillens.data.load import load_dataset

N = 300


def clean(n=N, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["city"] = rng.choice(["Rome", "Lima", "Oslo"], n)
    frame["y"] = np.where(x[:, 0] + rng.normal(size=n) > 0, "bad", "good")
    return frame


def kinds(dataset, column="any"):
    return [f.kind for f in dataset.findings if column == "any" or f.column == column]


def test_clean_data_have_no_findings():
    assert load_dataset(source=clean(), target="y").findings == ()


def test_duplicates_across_splits_are_counted_by_brute_force():
    frame = clean(120)
    frame = pd.concat([frame, frame.iloc[:40]], ignore_index=True)
    data = load_dataset(source=frame, target="y")
    train = {tuple(r) for r in data.train.inputs.values}
    validation = {tuple(r) for r in data.validation.inputs.values}
    in_test = sum(tuple(r) in train | validation for r in data.test.inputs.values)
    in_validation = sum(tuple(r) in train for r in data.validation.inputs.values)
    assert in_test > 0
    texts = [f.text for f in data.findings if f.kind == "duplicate_rows"]
    assert texts[0].startswith(f"{in_test} of {len(data.test)} test rows")
    assert texts[1].startswith(f"{in_validation} of {len(data.validation)} validation rows")


def test_duplicates_see_through_missing_values_and_signed_zeros():
    frame = pd.DataFrame(
        {"a": [np.nan, 0.0, -0.0, 2.0] * 20, "b": [1.0, 2.0, 2.0, 3.5] * 20, "y": ["n", "p", "p", "n"] * 20}
    )
    data = load_dataset(source=frame, target="y")
    assert f"{len(data.test)} of {len(data.test)} test rows" in next(
        f.text for f in data.findings if f.kind == "duplicate_rows"
    )


def test_a_split_by_group_removes_the_warning():
    frame = clean(120)
    frame["customer"] = np.arange(120) // 2
    frame = pd.concat([frame, frame], ignore_index=True)
    assert "duplicate_rows" in kinds(load_dataset(source=frame, target="y", roles={"id": "customer"}))
    assert "duplicate_rows" not in kinds(load_dataset(source=frame, target="y", roles={"group": "customer"}))


@pytest.mark.parametrize(
    "planted",
    [
        lambda y, rng: y * 2.0 + rng.normal(size=len(y)) * 1e-3,
        lambda y, rng: -np.exp(y) * (1 + rng.random(len(y)) * 1e-3),
        lambda y, rng: np.array(["kept", "lost"])[y],
        lambda y, rng: np.array(["k1", "l1", "k2", "l2"])[y + 2 * rng.integers(0, 2, len(y))],
        lambda y, rng: y,
    ],
)
def test_a_leak_is_found(planted):
    frame = clean()
    frame["result"] = planted((frame["y"] == "bad").to_numpy().astype(int), np.random.default_rng(0))
    data = load_dataset(source=frame, target="y")
    assert kinds(data, "result") == ["leak"]
    assert "result" in data.train.inputs.names  # a warning, not a decision


def test_a_leak_of_several_classes_and_of_a_quantity_is_found():
    rng = np.random.default_rng(0)
    k = rng.integers(0, 3, N)
    frame = pd.DataFrame(
        {
            "good": rng.normal(size=N),
            "leaky": np.array([5.0, -1.0, 2.0])[k] + rng.random(N),
            "y": np.array(["u", "v", "w"])[k],
        }
    )
    assert [f.column for f in load_dataset(source=frame, target="y").findings] == ["leaky"]
    frame["y"] = np.exp(frame["good"] * 3)
    assert [f.column for f in load_dataset(source=frame, target="y").findings if f.kind == "leak"] == ["good"]
    frame["y"] = np.array([1.5, 2.25, 10.0])[k] + rng.normal(size=N) * 1e-4
    frame["group"] = np.array(["u", "v", "w"])[k]
    assert {f.column for f in load_dataset(source=frame, target="y").findings if f.kind == "leak"} == {"group"}


def test_strong_but_honest_features_are_not_called_leaks():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, N)
    frame = pd.DataFrame(
        {
            "strong": y + rng.normal(size=N) * 0.4,
            "word": np.where(rng.random(N) < 0.97, y, 1 - y).astype(str),
            "y": np.array(["n", "p"])[y],
        }
    )
    frame["word"] = "w" + frame["word"]
    assert kinds(load_dataset(source=frame, target="y")) == []


def test_auc_equals_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(5):
        y = rng.integers(0, 2, 60).astype(float)
        x = np.where(y == 1, 50.0, 0.0) + rng.integers(0, 4, 60)
        x[rng.integers(0, 60)] = 49.0
        auc = roc_auc_score(y, x)
        got = _smallest_pair_auc(x, y)
        assert got == pytest.approx(max(auc, 1 - auc)) or max(auc, 1 - auc) == 1.0 == got
    assert _ranks(np.array([3.0, 1.0, 3.0])).tolist() == [2.5, 1.0, 2.5]


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("row", range(1, N + 1), "id_like"),
        ("customer_id", np.random.default_rng(0).permutation(N) * 7, "id_like"),
        ("name", [f"person {i}" for i in range(N)], "id_like"),
        ("empty", [None] * N, "constant"),
        ("same", ["x"] * N, "constant"),
        ("same number", [3.5] * N, "constant"),
        ("joined", pd.date_range("2020-01-01", periods=N), "date"),
        ("income", np.random.default_rng(0).permutation(N) * 7, None),
        ("rarely", ["x"] + [None] * (N - 1), None),
        ("paid", np.random.default_rng(0).permutation(N), None),
    ],
)
def test_columns_that_cannot_be_features_are_left_out_and_reported(name, values, kind):
    frame = clean()
    frame[name] = values
    data = load_dataset(source=frame, target="y", split={"test": 0.1, "validation": 0.1}, seed=2)
    reported = [f.kind for f in data.findings if f.column == name]
    if kind is None:
        assert reported == []
        assert name in data.train.inputs.names
    else:
        assert reported == [kind]
        assert name not in data.train.inputs.names
        assert data.roles[name] == "ignore"


def test_the_role_feature_keeps_what_would_be_left_out():
    frame = clean()
    frame["row"] = range(N)
    data = load_dataset(source=frame, target="y", roles={"feature": "row"})
    assert "row" in data.train.inputs.names


def test_constant_means_constant_in_training():
    cells = read_cells(pd.Series(["a", "a", "b"]), "c")
    assert left_out(cells, "c", np.array([0, 1])).kind == "constant"
    assert left_out(cells, "c", np.array([0, 2])) is None
    assert left_out(read_cells(pd.Series(["a", "a", None]), "c"), "c") is None  # being empty may tell something


def test_rare_and_absent_classes_and_unseen_categories():
    frame = clean()
    frame["y"] = np.where(np.arange(N) % 15 == 0, "bad", "good")
    frame["when"] = np.arange(N)
    frame.loc[N - 1, "city"] = "Kyiv"
    frame.loc[frame.index >= 200, "y"] = "good"
    data = load_dataset(source=frame, target="y", roles={"time": "when"}, split={"test_from": 220, "time": "when"})
    assert "imbalance" in kinds(data, "y")
    assert kinds(data, "y").count("class_absent") == 1
    assert [f.text for f in data.findings if f.kind == "unseen_category"] == [
        "1 validation or test row has a category of 'city' that training lacks."
    ]
    assert data.train.inputs.columns[3] == Column("city", "categorical", ("Lima", "Oslo", "Rome"))


def test_many_categories_and_numbers_with_odd_values():
    rng = np.random.default_rng(0)
    frame = clean()
    frame["street"] = [f"street {i}" for i in rng.integers(0, 90, N)]
    frame["amount"] = rng.integers(0, 80, N).astype(str)
    frame.loc[4, "amount"] = "unknown"
    data = load_dataset(source=frame, target="y")
    assert "many_categories" in kinds(data, "street")
    assert "'unknown'" in next(f.text for f in data.findings if f.kind == "mostly_numbers")
